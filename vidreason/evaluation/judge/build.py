"""From a configuration to the judge that it names; the program calls it, no other part does."""

from vidreason.evaluation.judge.heuristic import HeuristicJudge
from vidreason.evaluation.judge.judges import Judge, JudgeConfig
from vidreason.evaluation.judge.openai_compatible import OpenAICompatibleJudge


def build_judge(config: JudgeConfig) -> Judge:
    """Build the judge that a configuration names.

    Raises:
        ValueError: No model is named, or the key or the model is not there.
    """
    if config.kind == "heuristic":
        return HeuristicJudge()
    if not config.model:
        raise ValueError(
            f"judge.model is empty; name the model that judges, as judge.kind is {config.kind!r}"
        )
    if config.kind == "openai":
        return OpenAICompatibleJudge(config)
    # Takes seconds to import, which no other kind needs.
    from vidreason.evaluation.judge.causal_lm import load_causal_lm_judge

    return load_causal_lm_judge(config)
