"""Do steps of a recorded run again and compare."""
