"""SeViLA re-composed as one of the systems that answer benchmarks."""

from collections.abc import Callable
from dataclasses import replace

from typing_extensions import override

from vidreason.baselines.sevila_decoder.key_frames import (
    LOCALIZER_FACTS,
    best_frames,
    key_frames,
    yes_scores,
)
from vidreason.evaluation.manifest import digest_of
from vidreason.evaluation.reasoner_answerer import LoadedExample, ReasonerAnswerer
from vidreason.model import VideoReasoner
from vidreason.perception.visual_tokens import TokenSource, VisualTokens
from vidreason.pretrained.identity import ReasonerIdentity
from vidreason.reasoning.reasoner_config import DecodingConfig


class LocalizedAnswerer(ReasonerAnswerer):
    """An answerer that is shown the key frames of which the localizer says that they help.

    A reply's ``record`` has the times of its ``key_frames`` in seconds and, where there was a
    choice, the ``localizer_scores`` of all frames in their order; its visual tokens are those that
    both parts were given. A video of no more frames than are kept is shown whole.

    Args:
        load: Gives the answerer and its visual tokens, as for :class:`ReasonerAnswerer`.
        load_localizer: Gives the localizer; called when a batch is answered.
        num_key_frames: Frames that are kept.
        decoding: How texts are generated.
        max_text_tokens: Longest prompt and option together.
        identities: Of answerer and localizer; None where their answers are not kept.
    """

    def __init__(
        self,
        load: Callable[[], tuple[VideoReasoner, TokenSource]],
        load_localizer: Callable[[], VideoReasoner],
        num_key_frames: int,
        decoding: DecodingConfig,
        max_text_tokens: int,
        identities: tuple[ReasonerIdentity, ReasonerIdentity] | None = None,
    ) -> None:
        super().__init__(load, decoding, max_text_tokens, identities[0] if identities else None)
        self._load_localizer = load_localizer
        self._num_key_frames = num_key_frames
        self._max_request_tokens = max_text_tokens
        # An answer is of both reasoners: either may be exchanged.
        self.provenance = replace(
            self.provenance,
            model=digest_of([one.model for one in identities]) if identities else "",
            answering={**self.provenance.answering, "key_frames": num_key_frames},
            system=LOCALIZER_FACTS.as_json(),
        )

    @override
    def shown(self, loaded: LoadedExample) -> LoadedExample:
        if loaded.tokens is None:
            return loaded
        frames = key_frames(loaded.tokens)
        if len(frames) <= self._num_key_frames:
            return loaded._replace(record={"key_frames": _times(frames)})
        localizer = self._load_localizer()
        scores = yes_scores(localizer, frames, loaded.example, self._max_request_tokens)
        chosen = [frames[rank] for rank in best_frames(scores, self._num_key_frames)]
        return loaded._replace(
            tokens=VisualTokens.concatenate(chosen),
            record={"key_frames": _times(chosen), "localizer_scores": scores},
            # The localizer was shown each frame by itself.
            num_choosing_tokens=len(frames) * localizer.fusion.num_embeddings,
        )


def _times(frames: list[VisualTokens]) -> list[float]:
    """Return the times of frames in seconds."""
    return [float(frame.spans[0, 0]) for frame in frames]
