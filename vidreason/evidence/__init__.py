"""Evidence for what is said about a video: does it show what a sentence claims?"""
