"""The quality gate: which of a teacher's answers become rows, and why the others do not.

Its steps come in the order of :data:`vidreason.teacher.verdicts.Rejection`, the cheap ones first,
and an answer is rejected by the first one that it does not pass.
"""

from dataclasses import dataclass

from vidreason.endpoints.replies import CUT, ChatReply
from vidreason.evidence.verifier import Verifier
from vidreason.json_object import shown
from vidreason.near_texts import TextIndex
from vidreason.secrets import SecretFilter, environment_secrets, printable
from vidreason.teacher.answer_errors import MAX_DETAIL_CHARS
from vidreason.teacher.answers import (
    MAX_ANSWER_CHARS,
    AnswerError,
    outside_thoughts,
    read_answer,
    refused_part,
)
from vidreason.teacher.clip import Clip
from vidreason.teacher.draft import Draft
from vidreason.teacher.gate_config import GateConfig
from vidreason.teacher.gate_hostile import hostile_part, hostile_sign
from vidreason.teacher.gate_lengths import wrong_length
from vidreason.teacher.gate_repetition import repetition
from vidreason.teacher.gate_support import supported
from vidreason.teacher.gate_temporal import wrong_times
from vidreason.teacher.near_duplicates import NearDuplicates
from vidreason.teacher.refusals import is_refusal
from vidreason.teacher.verdicts import Rejection, Verdict

_WITHHELD = ("the model refused", "the output was held back", "the reply has no answer")
"""Beginnings of the problems of replies that are refusals; see ``endpoints/replies.py``."""


@dataclass(frozen=True)
class _Problem:
    """The step that an answer does not pass, and why."""

    cause: Rejection
    detail: str


class Gate:
    """Judges answers one after another; the accepted ones are remembered.

    A verdict depends on the answer and on those accepted before it, so answers are to be judged in
    the order of their clips, whenever they came. :meth:`judge` remembers what it accepts; for a
    clip that was judged in an earlier run, :meth:`remember` does the same with its verdict.

    Args:
        config: Bounds.
        evaluation_texts: Texts of the evaluation sets, an index of ``config.leakage_similarity``;
            None for none.
        verifier: Looks again at each step; None for no such check.
    """

    def __init__(
        self,
        config: GateConfig,
        evaluation_texts: TextIndex | None = None,
        verifier: Verifier | None = None,
    ) -> None:
        self._config = config
        self._evaluation_texts = evaluation_texts
        self._verifier = verifier
        self._accepted: NearDuplicates | None = None
        if config.near_duplicate_similarity is not None:
            self._accepted = NearDuplicates(config.near_duplicate_similarity)
        self._secrets = SecretFilter(environment_secrets().values())

    def judge(self, clip: Clip, reply: ChatReply) -> Verdict:
        """Decide on a teacher's reply, and remember it where it is accepted.

        Raises:
            VideoReadError: The verifier cannot read the clip's video. Nothing is remembered; the
                clip has failed (``unreadable_video``), as it says nothing about the answer.
        """
        problem = _problem_of_reply(reply)
        if problem is not None:
            return self._rejected(None, problem)
        try:
            draft = read_answer(reply.text)
        except AnswerError as error:
            return self._rejected(None, _Problem(error.cause, error.detail))
        problem = _problem_of_answer(draft, reply.text)
        if problem is not None:
            return self._rejected(draft, problem)
        return self.judge_draft(clip, draft)

    def judge_draft(self, clip: Clip, draft: Draft) -> Verdict:
        """Decide on a draft that no teacher wrote, such as one of templates; see :meth:`judge`.

        It may have steps or predictions alone.

        Raises:
            VideoReadError: The verifier cannot read the clip's video.
        """
        problem = self._problem_of_draft(clip, draft)
        flags: tuple[str, ...] = ()
        # Last, as it is the one that looks at the video.
        if problem is None and self._verifier is not None:
            shown = draft
            draft, detail, flags = supported(clip, shown, self._verifier, self._config)
            if detail is not None:
                problem = _Problem("unsupported", detail)
            elif draft != shown:
                # What is left of it may be an earlier answer.
                problem = self._near_duplicate(draft)
        if problem is not None:
            return self._rejected(draft, problem)
        # As it will be in the set: without the steps that were dropped.
        verdict = Verdict(draft=draft, flags=flags)
        self.remember(clip, verdict)
        return verdict

    def remember(self, clip: Clip, verdict: Verdict) -> None:
        """Take note of a verdict of an earlier run, as if it had been made now."""
        accepted = verdict.rejection is None and verdict.draft is not None
        if accepted and self._accepted is not None:
            assert verdict.draft is not None
            self._accepted.add(clip.id, self._compared_text(verdict.draft))

    def _problem_of_draft(self, clip: Clip, draft: Draft) -> _Problem | None:
        """The first step before the verifier's that a draft does not pass."""
        if (detail := hostile_part(draft)) is not None:
            return _Problem("hostile", detail)
        if (detail := wrong_length(draft, self._config)) is not None:
            return _Problem("length", detail)
        if (detail := repetition(draft, self._config)) is not None:
            return _Problem("repetition", detail)
        if (detail := wrong_times(clip, draft, self._config)) is not None:
            return _Problem("temporal", detail)
        if (detail := self._leaked(draft)) is not None:
            return _Problem("leakage", detail)
        return self._near_duplicate(draft)

    def _near_duplicate(self, draft: Draft) -> _Problem | None:
        if self._accepted is None:
            return None
        match = self._accepted.find(self._compared_text(draft))
        if match is None:
            return None
        near = f"earlier answer: {match.similarity:.2f} like that for {match.name}"
        return _Problem("near_duplicate", near)

    def _leaked(self, draft: Draft) -> str | None:
        """Describe the text of an evaluation set that a draft, or one of its texts, says."""
        if not self._evaluation_texts:
            return None
        # As a whole, then each text by itself: one step of many may be the one that leaks.
        texts = [("the explanation", _steps_text(draft))]
        if len(draft.steps) > 1:
            texts += [(f"step {number}", step.text) for number, step in enumerate(draft.steps, 1)]
        for number, item in enumerate(draft.predictions, 1):
            texts.append((f"prediction {number}", item.event))
            texts.append((f"justification {number}", item.justification))
        for where, text in texts:
            match = self._evaluation_texts.find(text)
            if match is not None:
                return f"evaluation text: {where} is {match.similarity:.2f} like {match.name}"
        return None

    def _compared_text(self, draft: Draft) -> str:
        whole = self._config.near_duplicate_text == "answer"
        return _answer_text(draft) if whole else _steps_text(draft)

    def _rejected(self, draft: Draft | None, problem: _Problem) -> Verdict:
        # Cleaned before it is cut: of half a secret, not all would be seen.
        detail = printable(self._secrets.clean(problem.detail), MAX_DETAIL_CHARS)
        return Verdict(draft=draft, rejection=problem.cause, detail=detail)


def _problem_of_reply(reply: ChatReply) -> _Problem | None:
    if reply.problem == CUT:
        # A refusal that was cut is still one.
        said = outside_thoughts(reply.text[:MAX_ANSWER_CHARS])
        if said.strip() and is_refusal(said):
            return _Problem("refusal", f"refused: {shown(said.strip())}")
        return _Problem("cut", f"reply: {reply.problem}")
    if reply.problem:
        cause: Rejection = "refusal" if reply.problem.startswith(_WITHHELD) else "schema"
        return _Problem(cause, f"reply: {reply.problem}")
    return None


def _problem_of_answer(draft: Draft, text: str) -> _Problem | None:
    """The first step that an answer does not pass, for what only a teacher can do wrong."""
    if (refused := refused_part(draft)) is not None:
        return _Problem("refusal", f"refused part: {shown(refused)}")
    if not (draft.steps and draft.predictions):
        missing = "predictions" if draft.steps else "steps"
        return _Problem("schema", f"missing: it has no {missing}")
    # What reading has cut off or taken off, such as an invented next turn, is looked at too.
    detail = hostile_sign(outside_thoughts(text), "the answer")
    return None if detail is None else _Problem("hostile", detail)


def _steps_text(draft: Draft) -> str:
    return " ".join(step.text for step in draft.steps)


def _answer_text(draft: Draft) -> str:
    return " ".join((_steps_text(draft), *(item.event for item in draft.predictions)))
