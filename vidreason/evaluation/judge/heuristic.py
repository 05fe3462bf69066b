"""A judge that counts words: deterministic and offline, for tests and dry runs.

It shows that all around the judge works. Its scores say nothing about an answer's worth.
"""

import json
import re
from typing import Any

from vidreason.endpoints.replies import ChatReply
from vidreason.evaluation.judge.request import JudgeRequest, texts_of

_CONNECTIVES = re.compile(r"\b(because|therefore|so|since|then|thus|hence|causes?|leads? to)\b")
_HEDGES = re.compile(r"\b(will|would|may|might|probably|likely|intends?|wants? to|in order to)\b")


class HeuristicJudge:
    """Scores by shared words (grounding), connectives (coherence), and words of outlook."""

    @property
    def judge_id(self) -> str:
        """A name with a version: to be raised when any rule changes."""
        return "heuristic-1"

    def ask(self, request: JudgeRequest) -> ChatReply:
        """A verdict of the request's own form, as JSON."""
        return ChatReply(text=json.dumps(self._verdict(request)))

    def close(self) -> None:
        """Do nothing: no request is ever under way."""

    def _verdict(self, request: JudgeRequest) -> dict[str, Any]:
        # Three forms of requests, told apart by what they ask for and by their blocks.
        if "score" in request.schema["properties"]:
            return self._likeness(request)
        if "ANSWER" in request.blocks:
            return self._pointwise(request)
        first, second = (self._scores(request, name) for name in ("FIRST", "SECOND"))
        winners = {
            axis: "tie"
            if first[axis] == second[axis]
            else ("first" if first[axis] > second[axis] else "second")
            for axis in first
        }
        return {"reason": "counts of words", **winners}

    def _pointwise(self, request: JudgeRequest) -> dict[str, Any]:
        return {"claims": [], "reason": "counts of words", **self._scores(request, "ANSWER")}

    @staticmethod
    def _likeness(request: JudgeRequest) -> dict[str, Any]:
        """Video-ChatGPT's form: the share of the reference's words that the answer has."""
        answer, reference = (
            set(re.findall(r"[a-z]+", text.lower()))
            for text in texts_of(request, ("ANSWER", "REFERENCE"))
        )
        share = len(answer & reference) / max(1, len(reference))
        verdict = {"pred": "yes" if share >= 0.5 else "no", "score": round(5 * share)}
        return {name: verdict[name] for name in request.schema["required"]}

    @staticmethod
    def _scores(request: JudgeRequest, name: str) -> dict[str, int]:
        answer, evidence, reference = texts_of(request, (name, "EVIDENCE", "REFERENCE"))
        words = set(re.findall(r"[a-z]+", answer.lower()))
        known = set(re.findall(r"[a-z]+", f"{evidence} {reference}".lower()))
        shared = len(words & known) / max(1, len(words))
        scores = {
            "factual_grounding": 1 + round(4 * shared),
            "logical_coherence": min(
                5, 1 + bool(words) + len(_CONNECTIVES.findall(answer.lower()))
            ),
            "insightfulness": min(5, 1 + bool(words) + len(_HEDGES.findall(answer.lower()))),
        }
        return {axis: score for axis, score in scores.items() if axis in request.schema["required"]}
