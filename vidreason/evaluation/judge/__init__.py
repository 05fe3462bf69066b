"""A language model as judge of free answers, on the paper's three axes (section 5.1.2)."""
