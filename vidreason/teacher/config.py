"""Configuration of the teacher: which model, which frames it is shown, and what it is asked."""

from dataclasses import dataclass, field
from math import inf
from typing import Literal

from vidreason.endpoints.config import EndpointConfig, check_request_fields
from vidreason.ranges import check_ranges
from vidreason.teacher.batch_config import BatchLimits
from vidreason.teacher.prompt import TEACHER_PROMPT, AnswerForm


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
    answer_form: AnswerForm = "json"
    """``json``: further instructions ask for an object of steps with times and predictions with
    confidences; an endpoint that is found to honour a schema gets one as well. ``text``: the task
    alone, as in the paper; the answer's numbered steps and predictions are read from its prose."""
    num_frames: int = 8
    """Frames of a clip, at the middles of as many equal parts."""
    max_pixels: int = 200_704
    """Most pixels of a frame; 448 x 448 is 200,704."""
    max_new_tokens: int = 512
    """Longest answer, in tokens."""
    temperature: float = 0.0
    """0 takes the most likely token each time; else tokens are drawn."""
    frames_as: Literal["images", "video"] = "images"
    """How an endpoint is sent them: pictures with their times, which all take, or one video."""
    request_fields: dict[str, str | int | float | bool | None] = field(default_factory=dict)
    """Fields of each request to an endpoint to set, or to leave out where null: ``{response_format:
    null}`` never sends a schema."""
    endpoint: EndpointConfig = field(default_factory=EndpointConfig)
    """Address, key and time limits."""
    batch: bool = False
    """Send requests through the endpoint's batch API, which answers within a day (OpenAI's at half
    the price), instead of one by one."""
    batch_limits: BatchLimits = field(default_factory=BatchLimits)

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
        if self.batch and self.kind != "endpoint":
            raise ValueError(
                f"teacher.batch is set, and a teacher of kind {self.kind} has no batch API; set "
                "teacher.kind=endpoint or teacher.batch=false"
            )
