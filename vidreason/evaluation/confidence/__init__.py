"""What confidences are worth: calibration, temperatures, proper scores, answering selectively."""
