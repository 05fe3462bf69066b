"""The prompt that asks a language model for a program: our description of the functions.

ViperGPT's prompt and examples are CC-BY-NC and not in here. A file with them takes the same three
marks (cvlab-columbia/viper@09fe346, ``prompts/benchmarks/nextqa.prompt``).
"""

import re
from collections.abc import Sequence
from pathlib import Path

from vidreason.baselines.viper.sandbox import PARAMETERS

QUESTION_MARK = "INSERT_QUERY_HERE"
OPTIONS_MARK = "EXTRA_CONTEXT_HERE"
PARAMETERS_MARK = "INSERT_TYPE_HERE"
_MARK = re.compile(f"{QUESTION_MARK}|{OPTIONS_MARK}|{PARAMETERS_MARK}")
_MAX_BYTES = 2**18  # 256 KiB

API_PROMPT = '''\
You answer questions about videos by writing one Python function. It calls vision models through
the classes and functions below, which are there already. Import nothing but math and re, open no
file, and do not use yield or class.

class VideoSegment:
    """Frames of a video. The argument `video` is the whole of it."""
    start: int
    end: int
    num_frames: int
    def trim(self, start=None, end=None) -> VideoSegment:
        """The frames from start to before end, counted in this segment."""
    def frame_from_index(self, index) -> ImagePatch:
        """One frame: 0 is the first, -1 the last."""
    def frame_iterator(self) -> list[ImagePatch]:
        """All frames in order."""
    def select_answer(self, info: dict, question: str, options: list = None) -> str:
        """The answer that a language model gives from the facts in `info`, one of the options."""

class ImagePatch:
    """A frame or a part of one. Pixels count from the left and from the bottom of the frame."""
    left: int
    lower: int
    right: int
    upper: int
    width: int
    height: int
    horizontal_center: float
    vertical_center: float
    def find(self, object_name: str) -> list[ImagePatch]:
        """The parts that show such an object, the surest first; may be empty."""
    def exists(self, object_name: str) -> bool:
        """True if such an object is there."""
    def verify_property(self, object_name: str, visual_property: str) -> bool:
        """True if the object has the property, such as a colour."""
    def best_text_match(self, option_list: list, prefix: str = None) -> str:
        """The one of several texts that fits the picture best."""
    def simple_query(self, question: str) -> str:
        """A short answer to a question about this picture."""
    def compute_depth(self) -> float:
        """The median distance from the camera; larger is farther."""
    def crop(self, left, lower, right, upper) -> ImagePatch:
        """Another part of the same frame."""
    def overlaps_with(self, left, lower, right, upper) -> bool:
        """True if this part and the box share pixels."""

def best_image_match(list_patches: list, content: list, return_index=False) -> ImagePatch | int:
    """The part, or its index, that the texts fit best."""
def distance(patch_a: ImagePatch, patch_b: ImagePatch) -> float:
    """Pixels between two parts; below 0 if they overlap."""
def bool_to_yesno(bool_answer: bool) -> str:
    """'yes' or 'no'."""
def coerce_to_numeric(string: str) -> float:
    """The first number in a text."""
def llm_query(question: str, long_answer=True) -> str:
    """A language model's answer to a question of general knowledge."""

The function returns a text: one of the possible answers where there are some.

# Which colour is the kettle on the stove?
# possible answers: ['white', 'red', 'black']
def execute_command(video, possible_answers, query):
    for frame in video.frame_iterator():
        for kettle in frame.find("kettle"):
            return kettle.best_text_match(possible_answers, prefix="a kettle that is")
    middle = video.frame_from_index(video.num_frames // 2)
    return middle.best_text_match(possible_answers, prefix="a kettle that is")

# Does the bus stop before the cyclist passes?
# possible answers: []
def execute_command(video, possible_answers, query):
    cyclist_passed = False
    for frame in video.frame_iterator():
        cyclist_passed = cyclist_passed or frame.exists("cyclist")
        buses = frame.find("bus")
        if buses and buses[0].simple_query("Is the bus standing still?") == "yes":
            return bool_to_yesno(not cyclist_passed)
    return "no"

# Why does the climber rest at the end?
# possible answers: ['she is tired', 'it rains', 'the rope is stuck', 'to wave at a friend']
def execute_command(video, possible_answers, query):
    info = {}
    for name, part in (
        ("before", video.trim(0, video.num_frames // 2)),
        ("at the end", video.trim(video.num_frames // 2)),
    ):
        frame = part.frame_from_index(-1)
        climbers = frame.find("climber")
        view = climbers[0] if climbers else frame
        info[f"the climber {name}"] = view.simple_query("What is the climber doing?")
        info[f"weather {name}"] = frame.simple_query("What is the weather like?")
    return video.select_answer(info, query, possible_answers)

# INSERT_QUERY_HERE
# possible answers: EXTRA_CONTEXT_HERE
def execute_command(INSERT_TYPE_HERE):'''
"""Asks for the body, or the whole, of a program."""


def read_prompt(path: str) -> str:
    """Read a prompt of the user's.

    Args:
        path: A text file with :data:`QUESTION_MARK` in it.

    Raises:
        ValueError: It cannot be read, or has no such mark.
    """
    where = f"baselines: weights.prompt is {path!r}"
    try:
        with Path(path).open("rb") as file:
            # One byte more than is allowed tells that there are more.
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(
            f"{where}, which cannot be read ({error.strerror}); name a text file"
        ) from error
    try:
        prompt = content.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}, which is no text in UTF-8; name a text file") from error
    if len(content) > _MAX_BYTES:
        raise ValueError(f"{where}, which has more than {_MAX_BYTES:,} bytes; shorten it")
    if QUESTION_MARK not in prompt:
        raise ValueError(f"{where}, which nowhere says {QUESTION_MARK}; put it before the program")
    return prompt


def filled_prompt(prompt: str, question: str, options: Sequence[str]) -> str:
    """Put a question and its possible answers into a prompt.

    They are texts from outside: each stays on its line, and a mark in one is not filled.
    """
    values = {
        QUESTION_MARK: " ".join(question.split()),
        OPTIONS_MARK: repr([" ".join(option.split()) for option in options]),
        PARAMETERS_MARK: PARAMETERS,
    }
    return _MARK.sub(lambda match: values[match[0]], prompt)
