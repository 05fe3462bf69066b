"""The functions and objects of a program, by the names and meanings of ViperGPT's.

The names are those of cvlab-columbia/viper@09fe346; programs that were written for it run here. All
coordinates are in pixels of the whole frame, x from the left and y from the *bottom*, also for
parts of parts. Frames and models stay here: a program has numbers, texts and stand-ins.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from vidreason.baselines.viper.checked_arguments import (
    MAX_TEXT,
    checked_list,
    checked_number,
    checked_text,
    checked_texts,
    shown,
    written,
)
from vidreason.baselines.viper.modules import ModuleError, Modules
from vidreason.baselines.viper.number_functions import NUMBER_FUNCTIONS, NumberFunctions
from vidreason.baselines.viper.sandbox import Exposure, ProgramError
from vidreason.evaluation.answers import parse_choice

DESCRIBE = "What is in the picture?"
"""Question about a picture where a program gives no question."""
_MARGIN_SHARE = 1 / 64
"""Margin around an object that models see with it, as a share of the frame's longer side: ViperGPT
has 10 pixels, which is this for the 640 pixels of its videos."""
_MAX_OPTIONS = 26  # one a letter
MAX_QUESTIONS = 1000
"""Questions about pictures of one program: one call of ``exists`` asks of each object found."""
_NUMBER = re.compile(r"[-+]?\d[\d,]{0,20}(?:\.\d{1,20})?")
_NUMBER_WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve"),
)


class ImagePatch:
    """A frame of the video, or a part of it."""

    def __init__(self, api: "ProgramApi", frame: int, box: tuple[int, int, int, int]) -> None:
        self._api = api
        self.frame = frame
        self.left, self.lower, self.right, self.upper = box
        self.width = self.right - self.left
        self.height = self.upper - self.lower
        self.horizontal_center = (self.left + self.right) / 2
        self.vertical_center = (self.lower + self.upper) / 2

    @property
    def cropped_image(self) -> "ImagePatch":
        """The part itself: wherever a picture is taken, a part is."""
        return self

    @property
    def window(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of what models see, from the frame's top left corner."""
        height, width = self._api.size
        margin = round(max(height, width) * _MARGIN_SHARE)
        return (
            max(self.left - margin, 0),
            max(height - self.upper - margin, 0),
            min(self.right + margin, width),
            min(height - self.lower + margin, height),
        )

    @property
    def pixels(self) -> Tensor:
        """The part with its margin: ``(3, h, w)`` uint8 RGB."""
        left, top, right, bottom = self.window
        return self._api.pixels[self.frame, :, top:bottom, left:right]

    def find(self, object_name: object) -> list["ImagePatch"]:
        """Find the objects of a name in this part, the surest first."""
        name = checked_text(object_name, "object_name")
        height, _ = self._api.size
        left, top, *_ = self.window
        # Boxes count from the window's top left corner, parts from the frame's bottom left.
        boxes = [
            self._api.cut_to_frame(
                math.floor(box.left) + left,
                height - math.ceil(box.bottom) - top,
                math.ceil(box.right) + left,
                height - math.floor(box.top) - top,
            )
            for box in self._api.modules.detect(self.pixels, name)
        ]
        return [ImagePatch(self._api, self.frame, box) for box in boxes if box is not None]

    def exists(self, object_name: object) -> bool:
        """Tell whether the part shows an object: one is found that is one when asked about."""
        name = checked_text(object_name, "object_name")
        question = f"Is this a {name}? Answer yes or no."
        return any(
            self._api.ask(patch.pixels, question).lower().startswith("yes")
            for patch in self.find(name)
        )

    def verify_property(self, object_name: object, visual_property: object) -> bool:
        """Tell whether an object has a property: its name with it fits better than without."""
        name = checked_text(object_name, "object_name")
        attribute = checked_text(visual_property, "visual_property")
        scores = self._api.modules.match([self.pixels], [f"{attribute} {name}", name])[0]
        return bool(scores[0] > scores[1])

    def best_text_match(self, option_list: object, prefix: object = None) -> str:
        """Return the text that fits the part best; ``prefix`` is put before each."""
        options = checked_texts(option_list, "option_list")
        before = "" if prefix is None else f"{checked_text(prefix, 'prefix')} "
        scores = self._api.modules.match([self.pixels], [before + option for option in options])
        return options[int(scores[0].argmax())]

    def simple_query(self, question: object = None) -> str:
        """Answer a question about the part in a few words."""
        text = DESCRIBE if question is None else checked_text(question, "question")
        reply = self._api.ask(self.pixels, text)[:MAX_TEXT]
        # Programs compare the answer with "yes" and "no".
        word = reply.lower().rstrip(".!")
        return word if word in ("yes", "no") else reply

    def compute_depth(self) -> float:
        """Return the median distance of the part's pixels; larger is farther."""
        height, _ = self._api.size
        depth = self._api.depth_of(self.frame)  # (H, W)
        # (h, w); rows count from the top.
        part = depth[height - self.upper : height - self.lower, self.left : self.right]
        return float(part.median())

    def crop(self, left: object, lower: object, right: object, upper: object) -> "ImagePatch":
        """Return another part of the same frame, cut at the frame's borders."""
        x0, x1 = (checked_number(x, "left and right") for x in (left, right))
        y0, y1 = (checked_number(y, "lower and upper") for y in (lower, upper))
        box = self._api.cut_to_frame(x0, y0, x1, y1)
        if box is None:
            height, width = self._api.size
            raise ProgramError(
                f"left {x0}, lower {y0}, right {x1}, upper {y1} is no part of a frame of "
                f"{width} x {height} pixels"
            )
        return ImagePatch(self._api, self.frame, box)

    def overlaps_with(self, left: object, lower: object, right: object, upper: object) -> bool:
        """Tell whether the part and a box have pixels in common."""
        x0, x1 = (checked_number(x, "left and right") for x in (left, right))
        y0, y1 = (checked_number(y, "lower and upper") for y in (lower, upper))
        return self.left < x1 and x0 < self.right and self.lower < y1 and y0 < self.upper

    def llm_query(self, question: object, long_answer: object = True) -> str:
        """Ask the language model, which does not see the picture."""
        return self._api.llm_query(question, long_answer)


class VideoSegment:
    """The frames of the video from ``start`` to before ``end``."""

    def __init__(self, api: "ProgramApi", start: int, end: int) -> None:
        self._api = api
        self.start, self.end = start, end
        self.num_frames = end - start

    def trim(self, start: object = None, end: object = None) -> "VideoSegment":
        """Return a part of the segment, in its frames, of one frame at least."""
        first = 0 if start is None else checked_number(start, "start")
        last = self.num_frames if end is None else checked_number(end, "end")
        first = min(max(first, 0), self.num_frames - 1)
        last = min(max(last, first + 1), self.num_frames)
        return VideoSegment(self._api, self.start + first, self.start + last)

    def frame_from_index(self, index: object) -> ImagePatch:
        """Return a frame; one before the first counts from the end, others are cut to the ends."""
        number = checked_number(index, "index")
        number += self.num_frames if number < 0 else 0
        return self._api.frame(self.start + min(max(number, 0), self.num_frames - 1))

    def frame_iterator(self) -> list[ImagePatch]:
        """Return all frames, in order."""
        return [self._api.frame(index) for index in range(self.start, self.end)]

    def select_answer(self, info: object, question: object, options: object = None) -> str:
        """Let the language model answer by what was collected, with one of the options if given."""
        lines = ["Collected from a video:", written(info)]
        lines += [f"Question: {checked_text(question, 'question')}"]
        if not options:
            lines += ["Answer the question briefly."]
            return self._api.complete("\n".join(lines))
        texts = checked_texts(options, "options")[:_MAX_OPTIONS]
        lines += ["Possible answers:", *(f"- {text}" for text in texts)]
        lines += ["Reply with the most likely one of the possible answers, word for word."]
        reply = self._api.complete("\n".join(lines))
        # The option word for word, in whichever form the reply names it.
        chosen = parse_choice(reply, texts)
        return reply if chosen is None else texts[chosen]


class ProgramApi:
    """Everything that one program may use, around the frames of one video.

    Args:
        pixels: ``(T, 3, H, W)`` uint8 RGB, at least one frame.
        modules: The models behind the functions.
    """

    fatal: tuple[type[Exception], ...] = (ModuleError, MemoryError, torch.OutOfMemoryError)

    def __init__(self, pixels: Tensor, modules: Modules) -> None:
        self.pixels = pixels
        self.size: tuple[int, int] = (pixels.shape[-2], pixels.shape[-1])
        self.modules = modules
        self.video = VideoSegment(self, 0, len(pixels))
        self._depths: dict[int, Tensor] = {}
        self._num_questions = 0
        # All that a program may reach; what is not listed here does not exist for it.
        self.exposed: Mapping[type, Exposure] = {
            ImagePatch: Exposure(
                attributes=(
                    *("left", "lower", "right", "upper", "width", "height"),
                    *("horizontal_center", "vertical_center"),
                ),
                objects=frozenset({"cropped_image"}),
                methods=frozenset(
                    (
                        *("find", "exists", "verify_property", "best_text_match", "simple_query"),
                        *("compute_depth", "crop", "overlaps_with", "llm_query"),
                    )
                ),
                create=self._new_patch,
            ),
            VideoSegment: Exposure(
                attributes=("start", "end", "num_frames"),
                methods=frozenset({"trim", "frame_from_index", "frame_iterator", "select_answer"}),
                create=self._new_segment,
            ),
            NumberFunctions: Exposure(methods=NUMBER_FUNCTIONS),
        }
        self.functions: Mapping[str, Callable[..., Any]] = {
            "best_image_match": self.best_image_match,
            "distance": self.distance,
            "bool_to_yesno": self.bool_to_yesno,
            "coerce_to_numeric": self.coerce_to_numeric,
            "llm_query": self.llm_query,
        }

    def inputs(self, question: str, options: Sequence[str]) -> dict[str, Any]:
        """Return the values of a program's parameters, and ``np``."""
        return {
            "video": self.video,
            "possible_answers": list(options),
            "query": question,
            "np": NumberFunctions(),
        }

    def frame(self, index: int) -> ImagePatch:
        """Return a whole frame."""
        height, width = self.size
        return ImagePatch(self, index, (0, 0, width, height))

    def cut_to_frame(
        self, left: int, lower: int, right: int, upper: int
    ) -> tuple[int, int, int, int] | None:
        """Return the part of a box that lies in the frame; None if there is none."""
        height, width = self.size
        box = max(left, 0), max(lower, 0), min(right, width), min(upper, height)
        return box if box[0] < box[2] and box[1] < box[3] else None

    def depth_of(self, frame: int) -> Tensor:
        """Return the distances of a frame's pixels, ``(H, W)``; computed once."""
        if frame not in self._depths:
            self._depths[frame] = self.modules.depth(self.pixels[frame])
        return self._depths[frame]

    def ask(self, picture: Tensor, question: str) -> str:
        """Let the model for questions about pictures answer.

        Raises:
            ProgramError: The program has asked :data:`MAX_QUESTIONS` already.
        """
        self._num_questions += 1
        if self._num_questions > MAX_QUESTIONS:
            raise ProgramError(f"more than {MAX_QUESTIONS:,} questions about pictures")
        return self.modules.ask(picture, question).strip()

    def complete(self, prompt: str) -> str:
        """Let the language model answer a prompt."""
        return self.modules.complete(prompt).strip()[:MAX_TEXT]

    def llm_query(self, question: object, long_answer: object = True) -> str:
        """Ask the language model, for a sentence or for a few words."""
        text = checked_text(question, "question")
        return self.complete(text if long_answer else f"{text}\nAnswer in a few words.")

    def best_image_match(
        self, list_patches: object, content: object, return_index: object = False
    ) -> ImagePatch | int:
        """Return the part that texts fit best, on average, or its index."""
        patches = [
            _patch(one, "list_patches") for one in checked_list(list_patches, "list_patches")
        ]
        texts = [content] if isinstance(content, str) else content
        checked = checked_texts(texts, "content")
        scores = self.modules.match([patch.pixels for patch in patches], checked)
        # (parts, texts): the mean over texts.
        best = int(scores.mean(dim=1).argmax())
        return best if return_index else patches[best]

    def distance(self, patch_a: object, patch_b: object) -> float:
        """Return pixels between two parts, or minus their overlap's share if they overlap."""
        a, b = _patch(patch_a, "patch_a"), _patch(patch_b, "patch_b")
        # Gaps along x and y, below 0 where the parts overlap.
        across = max(a.left, b.left) - min(a.right, b.right)
        up = max(a.lower, b.lower) - min(a.upper, b.upper)
        if across < 0 and up < 0:
            shared = across * up
            return -shared / (a.width * a.height + b.width * b.height - shared)  # IoU
        return math.hypot(max(across, 0), max(up, 0))

    def bool_to_yesno(self, bool_answer: object) -> str:
        """Return a truth value as a word."""
        if not isinstance(bool_answer, bool):
            raise ProgramError(f"bool_answer is no truth value: {type(bool_answer).__name__}")
        return "yes" if bool_answer else "no"

    def coerce_to_numeric(self, string: object) -> float:
        """Return the first number of a text, in digits or a word up to twelve."""
        if isinstance(string, int | float) and not isinstance(string, bool):
            # An int may be beyond all floats.
            return float(checked_number(string, "string")) if isinstance(string, int) else string
        text = checked_text(string, "string")
        if match := _NUMBER.search(text):
            return float(match[0].replace(",", ""))
        for word in re.findall(r"[a-z]+", text.lower()):
            if word in _NUMBER_WORDS:
                return float(_NUMBER_WORDS.index(word))
        raise ProgramError("string has no number")

    def shown(self, value: object) -> str:
        """Return an argument or a result of a call in a few words."""
        if isinstance(value, ImagePatch):
            return _shown_patch(value)
        if isinstance(value, VideoSegment):
            return f"VideoSegment({value.start}, {value.end})"
        if isinstance(value, list) and value and isinstance(value[0], ImagePatch):
            first = (_shown_patch(one) for one in value[:4] if isinstance(one, ImagePatch))
            return f"{len(value)} parts: {', '.join(first)}"
        return shown(value)

    def _new_patch(
        self,
        image: object,
        left: object = None,
        lower: object = None,
        right: object = None,
        upper: object = None,
    ) -> ImagePatch:
        patch = _patch(image, "image")
        # Sides that are not given are the patch's own.
        given = (left, lower, right, upper)
        sides = (patch.left, patch.lower, patch.right, patch.upper)
        return patch.crop(
            *(old if new is None else new for new, old in zip(given, sides, strict=True))
        )

    def _new_segment(self, video: object, start: object = None, end: object = None) -> VideoSegment:
        if not isinstance(video, VideoSegment):
            raise ProgramError(f"video is no video: {type(video).__name__}")
        return video.trim(start, end)


def _patch(value: object, name: str) -> ImagePatch:
    if not isinstance(value, ImagePatch):
        raise ProgramError(f"{name} is no ImagePatch: {type(value).__name__}")
    return value


def _shown_patch(patch: ImagePatch) -> str:
    box = f"{patch.left}, {patch.lower}, {patch.right}, {patch.upper}"
    return f"ImagePatch(frame {patch.frame}: {box})"
