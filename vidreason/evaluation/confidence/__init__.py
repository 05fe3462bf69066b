"""Worth of confidences: calibration, temperatures, proper scores, answering selectively."""
