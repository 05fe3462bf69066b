"""How sure a number is: intervals, paired tests and seeds. Videos are drawn, never questions."""
