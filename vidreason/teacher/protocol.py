"""The protocol of a teacher: it is shown the frames of a clip, and answers in words."""

from dataclasses import dataclass
from typing import Any, Protocol

from vidreason.baselines.frames import FrameRule, Frames
from vidreason.endpoints.replies import ChatReply
from vidreason.teacher.provenance import TeacherProvenance


@dataclass(frozen=True, kw_only=True)
class TeacherRequest:
    """One clip as a teacher is shown it."""

    key: str
    """SHA-256 of the teacher and everything that it is shown: two requests of one key have one
    answer, which is paid for once."""
    content: Any
    """The user's message, in the teacher's form."""
    num_images: int
    """Pictures in it; 0 where it carries a video."""
    num_image_pixels: int
    """Pixels of all of them, or of a video's frames, together, as they are sent."""
    num_text_chars: int
    """Characters of its text."""


class Teacher(Protocol):
    """A model that explains clips and predicts what follows."""

    teacher_id: str
    """Names the model and everything else that can change its answers but the request."""
    num_parallel: int
    """Requests that it can usefully work on at a time."""

    def frame_rule(self) -> FrameRule:
        """Return the rule by which its frames are chosen."""
        ...

    def request(self, frames: Frames) -> TeacherRequest:
        """Make the request for a clip's frames; costs nothing and is the same every time."""
        ...

    def complete(self, request: TeacherRequest) -> ChatReply:
        """Send a request; may be called from several threads, of any that ``num_parallel`` allows.

        Raises:
            EndpointUnavailableError: It gave no reply of the right form.
            EndpointRefusedError: It refuses all requests, such as for a wrong key.
            BudgetSpentError: No further request may be paid for.
        """
        ...

    def provenance(self) -> TeacherProvenance:
        """Return what all of its answers have in common, once it has answered."""
        ...

    def close(self) -> None:
        """End the requests in progress, which raise, and free what it holds."""
        ...
