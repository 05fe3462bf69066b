"""SeViLA put together from decoder-only parts of this project: the localizer's side of it.

Localizer and answerer are two reasoners of the fusion kind ``key_frame_qformer`` on one frozen
language model and one perceiver, whose key frames are the frames. The localizer is asked of each
frame by itself whether it helps to answer the question; the answerer is shown those of which the
answer is most surely yes.

Shapes: F frames of a video.
"""

from collections.abc import Sequence

from vidreason.baselines.system import Facts
from vidreason.evaluation.reasoner_answerer import evaluation_mode
from vidreason.example import Example, Turn
from vidreason.fusion.config import KEY_FRAMES
from vidreason.model import VideoReasoner
from vidreason.perception.visual_tokens import (
    OBJECT_TOKEN,
    VisualTokens,
    collate_visual_tokens,
    move_visual_tokens,
)
from vidreason.reasoning.reasoner_config import ReasonerConfig

SEVILA_FUSION = "key_frame_qformer"
YES, NO = "yes", "no"
_REQUEST = (
    "Does the information within the frame provide the necessary details to accurately answer the "
    "given question? Answer yes or no."
)
"""SeViLA's words for the localizer (sevila.py at commit 419e728), and the form of the answer."""

LOCALIZER_FACTS = Facts(
    fidelity="re-composed",
    source="Yui010206/SeViLA@419e728, lavis/models/sevila_models/sevila.py: generate",
    deviations=(
        "a small decoder-only language model with adapters in place of FlanT5; two Q-Formers of "
        "it as in SeViLA, that begin at random and are trained here",
        "frames are the perceiver's key frames, as patches of its video encoder, which has seen "
        "the other frames of their clips; officially 32 frames, each by itself",
        f"frames are told by a learned embedding of their rank among the {KEY_FRAMES} that are "
        "shown, not by words",
        "frames are ranked by how much likelier yes is than no; officially by the logit of yes",
        "options are scored by their texts, as those of our model are; officially by their letters",
        "no training of the localizer on QVHighlights: self-refinement alone, by pseudo-labels of "
        "the trained answerer, on the questions that it was trained on",
        "the answerer is trained on frames that are taken evenly, of whole videos and of "
        "stretches; it is not tuned on the localizer's frames",
    ),
)
"""Facts about the re-composition."""


def localizer_request(example: Example) -> tuple[str, list[Turn]]:
    """Ask whether a frame helps with a question, which comes first, options included.

    Returns:
        The prompt, and the conversation before it, of which nothing is learnt.
    """
    turns = [turn._replace(is_target=False) for turn in example.earlier_turns]
    return f"{example.prompt}\n{_REQUEST}", turns


def key_frames(tokens: VisualTokens) -> list[VisualTokens]:
    """Return the object tokens of each of the F key frames, the earliest first.

    Frames are told apart by their time: one that is looked at twice counts as one.
    """
    by_time: dict[float, list[int]] = {}
    for index, (kind, time) in enumerate(
        zip(tokens.kinds.tolist(), tokens.spans[:, 0].tolist(), strict=True)
    ):
        if kind == OBJECT_TOKEN:
            by_time.setdefault(time, []).append(index)
    return [tokens.select(by_time[time]) for time in sorted(by_time)]


def yes_scores(
    localizer: VideoReasoner,
    frames: Sequence[VisualTokens],
    example: Example,
    max_text_tokens: int,
) -> list[float]:
    """Return by how much yes is likelier than no for each frame, in natural logarithms.

    The frames of one question are one batch, so that scores do not depend on other questions.

    Args:
        localizer: The localizer.
        frames: Tokens of single frames, one or more.
        example: The question.
        max_text_tokens: Longest prompt and answer together.

    Raises:
        ValueError: The prompt leaves no room for an answer.
    """
    request, turns = localizer_request(example)
    texts = [localizer.encode_example(request, word, max_text_tokens, turns) for word in (YES, NO)]
    device = next(localizer.parameters()).device
    visual = move_visual_tokens(collate_visual_tokens(frames), device)
    # Of each text the row of its frame in the batch, 0, 0, 1, 1, ...: (2 F,)
    of_texts = [frame for frame in range(len(frames)) for _ in texts]
    with evaluation_mode(localizer):
        sums, _ = localizer.response_log_likelihoods(visual, of_texts, texts * len(frames))
    # Yes and no of a frame lie together: (2 F,) -> (F, 2) -> two of (F,)
    yes, no = sums.view(-1, 2).unbind(dim=1)
    scores: list[float] = (yes - no).tolist()
    return scores


def best_frames(scores: Sequence[float], count: int) -> list[int]:
    """Return the ranks of the frames with the highest scores, in the order of the video.

    Of equal ones the earlier is taken.
    """
    ranked = sorted(range(len(scores)), key=lambda frame: (-scores[frame], frame))
    return sorted(ranked[:count])


def check_sevila_part(config: ReasonerConfig, name: str) -> None:
    """Make sure that a reasoner has SeViLA's architecture.

    Args:
        config: Of localizer or answerer.
        name: Field and value that name it, for messages.

    Raises:
        ValueError: It has another one.
    """
    kind = config.fusion.kind
    if kind != SEVILA_FUSION:
        raise ValueError(
            f"{name} is a reasoner with reasoner.fusion.kind {kind!r}; SeViLA's parts are trained "
            f"with {SEVILA_FUSION!r}, as experiments/configs/baselines/sevila_architecture.yaml "
            "says"
        )
