"""Entry point of the group ``lmms_eval.models``: the reasoner as the model ``vidreason`` there.

lmms-eval (github EvolvingLMMs-Lab/lmms-eval, 0.7) calls it when it lists models; it is imported
only then, so that nothing here needs it. It pins a PyAV older than this project reads videos with:
install it with ``--no-deps`` beside the packages that its programs import.
"""

from typing import Any

MODEL_NAME = "vidreason"
_MODEL_CLASS = "vidreason.evaluation.lmms_eval_model.LmmsEvalReasoner"


def manifest() -> Any:  # noqa: ANN401 - a class of a package that may be missing
    """The ``ModelManifest`` of the reasoner."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id=MODEL_NAME, simple_class_path=_MODEL_CLASS)
