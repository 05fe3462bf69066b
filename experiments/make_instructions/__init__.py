"""Makes the instruction set of section 4.1.2, or another in its format."""
