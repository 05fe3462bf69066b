"""Entry point of the group ``lmms_eval.models``: the reasoner as the model ``vidreason`` there.

lmms-eval (github EvolvingLMMs-Lab/lmms-eval) calls it when it lists models, and is imported only
then: nothing here needs it. It asks for a PyAV older than this project reads videos with, so
install it with ``--no-deps`` beside the packages that its programs import. Run with 0.7.3 on the
microworld's VCR, CLEVRER and Test of Time, it prints the figures that ``experiments.evaluate``
prints.
"""

from typing import Any

MODEL_NAME = "vidreason"
_MODEL_CLASS = "vidreason.evaluation.lmms_eval.model.LmmsEvalReasoner"


def manifest() -> Any:  # noqa: ANN401 - a class of a package that may be missing
    """The ``ModelManifest`` of the reasoner."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id=MODEL_NAME, simple_class_path=_MODEL_CLASS)
