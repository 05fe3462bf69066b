"""Scores of a text against reference texts; each module is one metric.

METEOR is not here. Published numbers are of METEOR 1.5, a Java archive of 2014 with a table of
paraphrases; NLTK's function of that name is another metric (0.674 against 0.394 on this project's
golden set) and would only look comparable.
"""
