"""Have people review an instruction set."""
