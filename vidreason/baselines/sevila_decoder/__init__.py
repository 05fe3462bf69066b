"""SeViLA put together from decoder-only parts of this project; the T5 original is ``sevila``."""
