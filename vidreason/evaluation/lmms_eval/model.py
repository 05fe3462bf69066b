"""The reasoner as a model of lmms-eval; imported by it alone, see ``plugin.py``.

Questions go through :func:`vidreason.evaluation.benchmark.evaluate_examples`, so a score there is
of the same prompts, tokens and likelihoods as one of ``experiments.evaluate``.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from lmms_eval.api.model import lmms

from vidreason.evaluation.benchmark import evaluate_examples
from vidreason.evaluation.config import EvaluationConfig
from vidreason.evaluation.predictions.rows import BenchmarkPrediction
from vidreason.evaluation.reasoner_answerer import reasoner_answerer
from vidreason.example import Example, Turn
from vidreason.model import VideoReasoner
from vidreason.reasoning.reasoner_config import DecodingConfig
from vidreason.store.config import StoreConfig
from vidreason.store.visual_token_source import VisualTokenSource


class LmmsEvalReasoner(lmms):  # type: ignore[misc]
    """A trained reasoner, as ``--model vidreason --model_args pretrained=FOLDER`` makes it.

    Args:
        pretrained: Reasoner folder, or repository on the Hugging Face Hub.
        store: Folder of a feature store; empty to perceive each video anew.
        device: ``cuda``, ``cpu`` or the like; None is CUDA where there is one.
        batch_size: Questions at a time.
        max_new_tokens: Longest answer, where a task does not say.
        max_text_tokens: Longest prompt and option together, in tokens.
        **others: What lmms-eval hands to every model; must be None.
    """

    is_simple = True

    def __init__(
        self,
        pretrained: str,
        store: str = "",
        device: str | None = None,
        batch_size: int | str = 1,
        max_new_tokens: int = 256,
        max_text_tokens: int = 2048,
        **others: Any,  # noqa: ANN401 - another package's
    ) -> None:
        super().__init__()
        unknown = sorted(
            name for name, value in others.items() if value and name != "max_batch_size"
        )
        if unknown:
            raise ValueError(
                f"--model_args has {', '.join(unknown)}; vidreason takes pretrained, store, device,"
                " batch_size, max_new_tokens and max_text_tokens"
            )
        chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.reasoner = VideoReasoner.from_pretrained(pretrained, chosen)
        assert self.reasoner.perceiver is not None  # it comes with every folder
        self.source = VisualTokenSource(self.reasoner.perceiver, StoreConfig(path=store), chosen)
        self.config = EvaluationConfig(
            batch_size=int(batch_size), max_text_tokens=int(max_text_tokens)
        )
        self.decoding = DecodingConfig(max_new_tokens=int(max_new_tokens))

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """For each request the loss of its continuation, and whether it is the greedy answer.

        The loss is the mean negative log-likelihood of the continuation's tokens, end of turn
        included: lmms-eval's multiple choice takes the option of the *lowest* value, as its own
        models return losses.
        """
        # The harness asks for the loss of each option by itself.
        questions = []
        for number, request in enumerate(requests):
            context, target, to_visual, document_id, task, split = request.args
            document = self.task_dict[task][split][document_id]
            text = target if isinstance(target, str) else target(document)
            example = self._example(number, context, to_visual, document, task)
            questions.append(replace(example, options=(str(text).strip(),)))
        scored = self._predictions(questions, self.decoding)
        longest = max((row.option_token_counts[0] for row in scored), default=1)
        # One answer is generated for all options of a question, no longer than they are.
        first: dict[tuple[Any, ...], Example] = {}
        for example in questions:
            first.setdefault(_question(example), replace(example, options=()))
        rows = self._predictions(list(first.values()), DecodingConfig(max_new_tokens=longest))
        greedy = {key: row.output.strip() for key, row in zip(first, rows, strict=True)}
        return [
            (
                -row.option_log_likelihoods[0],
                greedy[_question(example)] == example.options[0],
            )
            for row, example in zip(scored, questions, strict=True)
        ]

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """For each request an answer, up to the first of its stopping texts."""
        answers = []
        for number, request in enumerate(requests):
            context, settings, to_visual, document_id, task, split = request.args
            document = self.task_dict[task][split][document_id]
            example = self._example(number, context, to_visual, document, task)
            (row,) = self._predictions([example], self._decoding(settings))
            answer = row.output
            for stop in settings.get("until") or ():
                answer = answer.partition(stop)[0]
            answers.append(answer)
        return answers

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        """Not offered.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError(
            "vidreason answers one question about one video: choose tasks of one round"
        )

    def _decoding(self, settings: dict[str, Any]) -> DecodingConfig:
        tokens = int(settings.get("max_new_tokens") or self.decoding.max_new_tokens)
        if not settings.get("do_sample"):
            return DecodingConfig(max_new_tokens=tokens)
        return DecodingConfig(
            strategy="nucleus",
            max_new_tokens=tokens,
            temperature=float(settings.get("temperature") or 1.0),
            top_p=float(settings.get("top_p") or 1.0),
        )

    def _predictions(
        self, examples: Sequence[Example], decoding: DecodingConfig
    ) -> list[BenchmarkPrediction]:
        answerer = reasoner_answerer(self.reasoner, self.source, examples, self.config, decoding)
        return evaluate_examples(answerer, examples, self.config)

    def _example(
        self,
        number: int,
        context: str,
        to_visual: Any,  # noqa: ANN401 - a task's function
        document: dict[str, Any],
        task: str,
    ) -> Example:
        """A request as an example; the span of our own tasks' documents is kept."""
        visuals = to_visual(document)
        names = [one if isinstance(one, str) else getattr(one, "filename", "") for one in visuals]
        if len(names) != 1 or not names[0]:
            raise ValueError(
                f"task {task!r} shows {len(names)} visuals to a question; vidreason takes one video"
                " or image, as a file"
            )
        turns = [Turn(role, text) for role, text in json.loads(document.get("turns") or "[]")]
        # Our own tasks carry the conversation before the prompt; of others the context is all there
        # is.
        if turns and context == document.get("prompt"):
            context = turns.pop().text
        else:
            turns = []
        return Example(
            id=str(number),
            corpus=task,
            media=str(names[0]),
            video_id=str(number),
            start_seconds=document.get("start_seconds"),
            end_seconds=document.get("end_seconds"),
            prompt=context,
            response="",
            earlier_turns=tuple(turns),
        )


def _question(example: Example) -> tuple[Any, ...]:
    """Return what the options of a question have in common."""
    return example.media, example.prompt, example.earlier_turns
