"""Configuration of a baseline: which system, where its weights are, which frames it is shown."""

from dataclasses import dataclass, field
from math import inf
from typing import Literal

from vidreason.added_parts import check_part
from vidreason.endpoints.config import EndpointConfig, check_request_fields
from vidreason.ranges import check_ranges

KINDS = (
    *("transformers", "endpoint", "video_chatgpt", "video_llama", "sevila"),
    *("viper", "anticipation", "vjepa2", "mcvd", "mcvd_observed"),
)
"""Systems of this project; :data:`vidreason.baselines.build.SYSTEMS` has the class of each."""
REASONER_KIND = "reasoner"
"""Another reasoner folder, such as that of a rival's architecture that both stages have trained."""
SEVILA_DECODER_KIND = "sevila_decoder"
"""SeViLA re-composed: two reasoner folders, of which one chooses the key frames of the other."""
PARTS_OF_TOKEN_KINDS = {
    REASONER_KIND: ("model",),
    SEVILA_DECODER_KIND: ("answerer", "localizer"),
}
"""Kinds that look at visual tokens, not at frames, and are no system of ``SYSTEMS``: the reasoner
folders that each is made of."""
BASELINE_GROUP = "vidreason.baselines"
"""Group of the entry points by which installed packages add systems: subclasses of
:class:`vidreason.baselines.system.System`."""


@dataclass(kw_only=True)
class BaselineConfig:
    """One system that answers the benchmark beside our reasoner."""

    kind: str = "transformers"
    """Which system: a video language model of ``transformers``, an ``endpoint``, one of the paper's
    (``video_chatgpt``, ``video_llama``, ``sevila``, ``viper``, ``anticipation``, ``mcvd`` and its
    control ``mcvd_observed``), ``vjepa2``, another ``reasoner`` folder, ``sevila_decoder``, SeViLA
    re-composed of two such folders, an entry point of the group ``vidreason.baselines`` that an
    installed package declares, or ``package.module:object``."""
    weights: dict[str, str] = field(default_factory=dict)
    """Where its parts are: a folder, a file or a repository of the Hub by name of the part, which
    is ``model`` where a system has one. An endpoint's ``model`` is the id that it is served by."""
    revision: str | None = None
    """Branch, tag or commit of what is loaded from the Hub."""
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    """Dtype of the weights in memory."""
    num_frames: int | None = None
    """Frames that it is shown, at the middles of as many equal parts of the video; None for the
    rule that its authors use. For ``sevila_decoder``, key frames that its localizer keeps, at most
    4; None for 4."""
    max_pixels: int = 200_704
    """Most pixels of a frame, for systems whose number of visual tokens follows from it; 448 x 448
    is 200,704."""
    option_scoring: Literal["letter", "text"] = "letter"
    """How options are scored: by the likelihood of each option's letter as the answer's first
    token, or by that of its text per token."""
    captioner: str = ""
    """Name of the baseline that is asked about the frames which this one predicts (MCVD), or about
    those that it is shown (its control)."""
    max_requests: int | None = None
    """Most requests to an endpoint that one run may pay for, over all its starts, as ``replies``
    counts them; None for no limit."""
    replies: str = ""
    """SQLite file that an endpoint's replies are kept in, so that none is paid for twice; empty for
    ``replies.sqlite`` in ``run_dir``, or in ``$XDG_CACHE_HOME/vidreason`` where there is no run."""
    frames_as: Literal["images", "video"] = "images"
    """How an endpoint is sent its frames: as pictures, each with its time, which all take; or as
    one video, which vLLM, SGLang and others take."""
    request_fields: dict[str, str | int | float | bool | None] = field(default_factory=dict)
    """Fields of each request to an endpoint to set, or to leave out where null, such as
    ``{max_tokens: null, max_completion_tokens: 256, temperature: null}``."""
    endpoint: EndpointConfig = field(default_factory=EndpointConfig)
    """Address, key and time limits of an endpoint."""

    def __post_init__(self) -> None:
        """Check ranges, and that there is such a system."""
        check_part("kind", self.kind, BASELINE_GROUP, (*KINDS, *PARTS_OF_TOKEN_KINDS))
        check_ranges(
            "baselines", self, num_frames=(1, inf), max_pixels=(1, inf), max_requests=(1, inf)
        )
        check_request_fields("baselines", self.request_fields)
