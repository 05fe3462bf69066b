"""SeViLA: a localizer of key frames and an answerer, on one vision tower and one T5."""
