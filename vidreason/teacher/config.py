"""Configuration of the teacher: which model, which frames it is shown, and what it is asked."""

from dataclasses import dataclass, field
from math import inf
from typing import Literal

from vidreason.endpoints.config import EndpointConfig, check_request_fields
from vidreason.ranges import check_ranges
from vidreason.teacher.prompt import TEACHER_PROMPT


@dataclass(kw_only=True)
class TeacherConfig:
    """The model that explains clips."""

    kind: Literal["endpoint", "transformers"] = "endpoint"
    """``endpoint``: a chat-completions endpoint; ``transformers``: a video language model on this
    machine."""
    model: str = ""
    """Id at the endpoint, or folder or Hub repository of the local model."""
    prompt: str = TEACHER_PROMPT
    """The task; by default the paper's, word for word."""
    num_frames: int = 8
    """Frames of a clip, at the middles of as many equal parts."""
    max_pixels: int = 200_704
    """Most pixels of a frame; 448 x 448 is 200,704."""
    max_new_tokens: int = 512
    """Longest answer."""
    temperature: float = 0.0
    """0 takes the most likely token each time."""
    frames_as: Literal["images", "video"] = "images"
    """Pictures with their times, which all endpoints take, or one video."""
    request_fields: dict[str, str | int | float | bool | None] = field(default_factory=dict)
    """Fields of each request to set, or to leave out where null."""
    endpoint: EndpointConfig = field(default_factory=EndpointConfig)
    """Address, key and time limits."""

    def __post_init__(self) -> None:
        """Check ranges."""
        check_ranges(
            "teacher",
            self,
            num_frames=(1, inf),
            max_pixels=(1, inf),
            max_new_tokens=(1, inf),
            temperature=(0, 2),
        )
        check_request_fields("teacher", self.request_fields)
