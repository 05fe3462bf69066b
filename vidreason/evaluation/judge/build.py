"""From a configuration to the judge that it names; the program calls it, no other part does."""

from vidreason.added_parts import check_methods, load_part, part_errors, part_name
from vidreason.evaluation.judge.heuristic import HeuristicJudge
from vidreason.evaluation.judge.judges import JUDGE_GROUP, JUDGES, Judge, JudgeConfig
from vidreason.evaluation.judge.openai_compatible import OpenAICompatibleJudge


def build_judge(config: JudgeConfig) -> Judge:
    """Build the judge that a configuration names.

    Raises:
        ValueError: No model is named, or the key or the model is not there; or a judge from outside
            of this project cannot be imported or made, or is no judge.
    """
    if config.kind not in JUDGES:
        return _added_judge(config)
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


def _added_judge(config: JudgeConfig) -> Judge:
    kind = "vidreason.evaluation.judge.judges.Judge"
    made = load_part(JUDGE_GROUP, config.kind, type, f"class of the protocol {kind}")
    check_methods(JUDGE_GROUP, config.kind, made, Judge, (), ("ask", "close"))
    with part_errors(JUDGE_GROUP, config.kind):
        judge: Judge = made(config)
    if not isinstance(getattr(judge, "judge_id", None), str):
        raise ValueError(
            f"{part_name(JUDGE_GROUP, config.kind)} is the class {made.__name__}, which has no "
            f"judge_id: give it the text that {kind} has"
        )
    return judge
