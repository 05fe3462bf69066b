"""Action anticipation from the segments of a video (Abu Farha, Richard and Gall, CVPR 2018)."""
