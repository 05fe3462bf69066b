"""Answers of teachers in every form that models write, and in forms that nobody should."""

import json
import math
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import get_args

import pytest

from vidreason.reasoning.predictions import Prediction
from vidreason.teacher.answers import MAX_ANSWER_CHARS, AnswerError, read_answer
from vidreason.teacher.draft import Draft, Step
from vidreason.teacher.refusals import is_refusal
from vidreason.teacher.verdicts import Rejection

STEPS = (Step("The man opens the door.", 0.0, 2.5), Step("He enters, so the dog barks.", 2.5, 4.0))
UNTIMED = tuple(Step(step.text) for step in STEPS)
TWO = (
    Prediction("The man sits down", "There is a chair", 0.8),
    Prediction("The dog runs away", "It is afraid", 0.15),
)
ONE = (Prediction("The man will sit down.", "", math.nan),)
AS_ASKED = {
    "steps": [
        {"text": text, "start_seconds": start, "end_seconds": end} for text, start, end in STEPS
    ],
    "predictions": [item._asdict() for item in TWO],
}
JSON = json.dumps(AS_ASKED)
PRETTY = json.dumps(AS_ASKED, indent=2)
PROSE = """\
**Causal explanation**
1. [0.0-2.5] The man opens the door.
2. [2.5-4.0] He enters, so the dog barks.

**Prediction:** The man will sit down."""

TIMED_AND_TWO = {
    "as it was asked for": JSON,
    "pretty": PRETTY,
    "in a fence": f"```json\n{PRETTY}\n```",
    "in a fence without a language, after a remark": f"Here is my answer:\n```\n{JSON}\n```\nBye!",
    "after prose": f"The clip shows a man. My answer: {JSON}",
    "after thoughts with a draft": f"<think>{{\"steps\": [\"No\"]}} hm.</think>\n{JSON}",
    "after thoughts opened in the prompt": f"a man { {1: 2} }...</think>{JSON}",
    "marked as the answer": f"<think>A man.</think><answer>{JSON}</answer>",
    "corrected": f'{{"steps": ["It rains."], "predictions": []}}\nNo, rather:\n{JSON}',
    "with trailing commas": JSON.replace("]", ",]").replace("}", ", }"),
    "with a byte order mark": f"\ufeff{JSON}",
    "in a list of one": f"[{JSON}]",
    "wrapped": f'{{"answer": {JSON}}}',
    "with line ends in a text": JSON.replace("the door", "the\\n door").replace("He e", "He\n e"),
    "with emphasis": JSON.replace("the door", "the **door**").replace("the dog", "`the dog`"),
    "other names": JSON.replace("steps", "Causal Explanation")
    .replace('"text"', '"description"')
    .replace("start_seconds", "start")
    .replace("end_seconds", "end-time")
    .replace("predictions", "future_predictions")
    .replace('"event"', '"prediction"')
    .replace("justification", "reasoning")
    .replace("confidence", "probability"),
    "times and confidences as texts": JSON.replace("0.0", '"0:00"', 1)
    .replace("2.5", '"2.5s"')
    .replace("4.0", '"00:04"')
    .replace("0.8", '"80%"')
    .replace("0.15", '" 15 percent"'),
    "numbered texts with times": json.dumps(
        {
            "steps": ["1. [0.0-2.5] The man opens the door.", "2. [2.5 s - 4 s]: "
                      "He enters, so the dog barks."],
            "predictions": AS_ASKED["predictions"],
        }
    ),
    "one field for both times": JSON.replace('"start_seconds": 0.0, "end_seconds": 2.5',
                                             '"time": "0:00-0:02.5"')
    .replace('"start_seconds": 2.5, "end_seconds": 4.0', '"timestamp": [2.5, 4]'),
    "an object that numbers its parts": json.dumps(
        {
            "steps": {"step_1": AS_ASKED["steps"][0], "step_2": AS_ASKED["steps"][1]},
            "predictions": {"1": AS_ASKED["predictions"][0], "2": AS_ASKED["predictions"][1]},
        }
    ),
    "the less likely first": json.dumps(
        AS_ASKED | {"predictions": AS_ASKED["predictions"][::-1]}
    ),
    "words with a list of predictions": PROSE.partition("**Pred")[0]
    + "### What happens next?\n1. The man sits down\nJustification: There is a chair\n"
    "Confidence: 0.8\n2. **The dog runs away**\n*Reason*: It is afraid\nConfidence: 15%",
}  # fmt: skip

TIMED_AND_ONE = {
    "words under headings": PROSE,
    "other headings": PROSE.replace("**Causal explanation**", "First, the step-by-step causal "
                                    "explanation of the events:")
    .replace("**Prediction:**", "Second, what is most likely to happen next:\n\n"),
    "numbered headings": PROSE.replace("**Causal explanation**", "1. **Explanation**:")
    .replace("**Prediction:**", "2. **Prediction**\n"),
    "steps with names": PROSE.replace("1. [", "- **Step 1:** [").replace("2. [", "- **Step 2:** ["),
    "times after the texts": PROSE.replace("[0.0-2.5] The man opens the door.",
                                           "The man opens the door (0.0s - 2.5s).")
    .replace("[2.5-4.0] He enters, so the dog barks.", "He enters, so the dog barks. (2.5-4.0 s)"),
    "times alone as numbers": PROSE.replace("1. [0.0-2.5] ", "0:00-0:02.5: ")
    .replace("2. [2.5-4.0] ", "(2.5s to 4.0s) "),
    "no heading of the explanation": PROSE.partition("\n")[2],
    "the prediction as the last item": PROSE.replace("\n\n**Prediction:**", "\n3. Prediction:"),
    "a closing remark": f"{PROSE}\n\nLet me know if you need more!",
    "titles with times": PROSE.replace("[0.0-2.5]", "**Opening the door (0s - 2.5s):**").replace(
        "[2.5-4.0]", "**Entering** [0:02.5-0:04]:"
    ),
    "bullets below numbers": PROSE.replace("He enters, so", "He enters,\n   - so"),
    "an introduction": f"Sure! Here is what I see in the video.\n\n{PROSE}",
    "the assistant's name": f"Assistant: {PROSE}",
}  # fmt: skip

UNTIMED_AND_ONE = {
    "plain texts": json.dumps({"steps": [step.text for step in STEPS], "prediction": ONE[0].event}),
    "an object": json.dumps(
        {"explanation": [s.text for s in STEPS], "prediction": {"event": ONE[0].event}}
    ),
    "null times": json.dumps(
        {
            "steps": [{"text": s.text, "start_seconds": None, "end_seconds": None} for s in STEPS],
            "predictions": [{"event": ONE[0].event, "justification": "", "confidence": None}],
        }
    ),
    "a text of sentences": json.dumps(
        {"causal_explanation": " ".join(s.text for s in STEPS), "prediction": ONE[0].event}
    ),
    "a numbered text": json.dumps(
        {
            "causal_explanation": f"1. {STEPS[0].text}\n2. {STEPS[1].text}",
            "predictions": [ONE[0].event],
        }
    ),
    "sentences under headings": f"Explanation: {STEPS[0].text} {STEPS[1].text}\n"
    f"Prediction: {ONE[0].event}",
}


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (TIMED_AND_TWO, Draft(steps=STEPS, predictions=TWO)),
        (TIMED_AND_ONE, Draft(steps=STEPS, predictions=ONE)),
        (UNTIMED_AND_ONE, Draft(steps=UNTIMED, predictions=ONE)),
    ],
)
def test_one_draft_from_all_forms_of_an_answer(answers: dict[str, str], expected: Draft):
    wrong = {}
    for name, answer in answers.items():
        try:
            draft = read_answer(answer)
        except AnswerError as error:
            wrong[name] = str(error)
            continue
        if repr(draft) != repr(expected):  # NaN is not equal to itself
            wrong[name] = repr(draft)
    assert not wrong


def test_a_prediction_without_heading_begins_where_the_clip_ends():
    for text in (
        f"{STEPS[0].text} {STEPS[1].text} After the clip ends, the man will sit down.",
        f"1. {STEPS[0].text}\n2. {STEPS[1].text}\n\nImmediately after the video ends, he sits.",
        f"1. {STEPS[0].text}\n2. {STEPS[1].text}\nMost likely, the man will sit down.",
        f"{STEPS[0].text} {STEPS[1].text}\n\nBased on this, the most likely event is that he sits.",
        f"{STEPS[0].text} {STEPS[1].text} Given the chair, it is likely that he sits.",
    ):
        draft = read_answer(text)
        assert draft.steps == UNTIMED, text
        assert len(draft.predictions) == 1
        assert math.isnan(draft.predictions[0].confidence)


def test_confidence_and_reason_may_stand_beside_a_single_prediction():
    answer = {"steps": ["a b"], "prediction": "c d", "confidence": "8/10", "justification": "e f"}
    assert read_answer(json.dumps(answer)).predictions == (Prediction("c d", "e f", 0.8),)


def test_times_in_a_sentence_count_only_where_all_steps_have_them():
    said = ["At 0.5 s the ball rolls.", "From 1 to 2.5 seconds it turns."]
    steps = read_answer(json.dumps({"steps": said, "prediction": "a b"})).steps
    assert steps == (Step(said[0], 0.5, 0.5), Step(said[1], 1.0, 2.5))
    said[0] = "The ball rolls."
    steps = read_answer(json.dumps({"steps": said, "prediction": "a b"})).steps
    assert steps == (Step(said[0]), Step(said[1]))


def test_numbers_that_are_no_times_stay_in_the_text():
    for text in (
        "2 men walk by.", "[2] is the man's number.", "3 seconds later, it stops.",
        "The man walks (0:03) - he turns.",
        "The score is 3:2 now.", "(3) people wait.", "A 5-10 year old child runs.",
    ):  # fmt: skip
        # As the second step: a list's number before the first word is one.
        (_, step) = read_answer(json.dumps({"steps": ["a b", f"Then {text}"]})).steps
        assert step == Step(f"Then {text}")
    assert read_answer(json.dumps({"steps": ["2 men walk by."]})).steps == (Step("2 men walk by."),)


BAD = {
    "": "refusal",
    " \n\t": "refusal",
    "I'm sorry, but I can't help with identifying people in this video.": "refusal",
    "I\u2019m sorry, I cannot assist with that request.": "refusal",
    "Unfortunately, I am unable to view the video.": "refusal",
    "As an AI language model, I do not watch videos.": "refusal",
    "**I cannot identify** the people in these frames.": "refusal",
    "<think>Who is that?</think>I can't determine who this is.": "refusal",
    "<think>I should say": "schema",
    "<think>all of it is a thought</think>": "schema",
    JSON[:-30]: "cut",
    JSON[:40]: "cut",
    PRETTY[:-10]: "cut",
    f"<think>{JSON}</think>{JSON[:-1]}": "cut",
    "{}": "schema",
    "[]": "schema",
    "[{}]": "schema",
    "...": "schema",
    '{"error": "no"}': "schema",
    '{"steps": [], "predictions": []}': "schema",
    '{"steps": ["a"], "steps": ["b"], "predictions": ["c"]}': "schema",
    str(AS_ASKED): "schema",  # Python's quotes
    JSON.replace(":", "="): "schema",
    JSON.replace("0.8", "NaN"): "schema",
    JSON.replace("0.8", "1e999"): "schema",
    JSON.replace("0.8", '"high"'): "schema",
    JSON.replace("0.8", "true"): "schema",
    JSON.replace("0.8", "9" * 5000): "schema",
    JSON.replace("2.5", "-Infinity"): "schema",
    JSON.replace("2.5", '"soon"'): "schema",
    JSON.replace("2.5", '"1-2"'): "schema",
    JSON.replace("0.15", "null"): "schema",
    JSON.replace('"There is a chair"', "[]"): "schema",
    JSON.replace('"The man sits down"', '"..."'): "schema",
    JSON.replace('"The man opens the door."', "7"): "schema",
    '{"steps": 5, "prediction": "a b"}': "schema",
    '{"steps": [["a"]], "prediction": "a b"}': "schema",
    '{"steps": ["a b"], "predictions": 5}': "schema",
    '{"steps": ["a b"], "predictions": ["a b", "c d"]}': "schema",
    '{"steps": ' + "[" * 100_000: "schema",
    '{"a":' * 50_000: "schema",
    json.dumps({"steps": ["a b"], "predictions": [TWO[0]._asdict()] * 4}): "length",
    "Explanation: it rains.\nPredictions:\n1. Rain\n2. Sun": "schema",
    "Explanation: it rains.\nPredictions:\n1. Rain\nConfidence: high": "schema",
    "Explanation: it rains.\nPredictions:\n1. Rain\nConfidence: 0.5\n2. Sun": "schema",
    "The man walks on. " * 2000: "length",
    "x" * (MAX_ANSWER_CHARS + 1): "length",
}


def outcome(text: str) -> Draft | AnswerError:
    try:
        return read_answer(text)
    except AnswerError as error:
        return error


def test_bad_answers_end_in_their_cause():
    wrong = {}
    for answer, cause in BAD.items():
        end = outcome(answer)
        if not isinstance(end, AnswerError) or end.cause != cause:
            wrong[answer[:60]] = f"{end!r:.100}, not {cause}"
            continue
        assert end.detail.isprintable()
        assert 0 < len(end.detail) <= 300
    assert not wrong


def test_only_what_is_said_of_answering_is_a_refusal():
    refusals = (
        "I'm sorry, but I cannot provide that.", "Sorry, I can't assist with that.",
        "I apologize, but there is nothing.", "I can't identify the person.", "n/a", "None.",
        "I don't have access to the video.", "Unable to determine what happens next.",
        "It is not possible to predict what happens.", "No video was provided.",
        "We are unable to process this clip.", "Please upload the video.", "unknown",
        "I do not have the ability to watch videos.", "I won't describe this.",
        "I\u2019m not able to analyze this.", "It\u2019s impossible to tell what comes next.",
    )  # fmt: skip
    answers = (
        "The man cannot open the door.", "I cannot open the jar.", "He is sorry and helps.",
        "I can't reach the shelf, so I take a chair.", "Unable to open it, the man leaves.",
        "The woman says she is sorry.", "It is impossible to open the lid, so he cuts it.",
        "No one is provided with food.", "The dog can't help barking.", "I am unable to lift it.",
        "No video game is on the table.", "None of the men sees the ball.", "Nothing happens.",
        "The assistant declines to answer the phone.", "Unfortunately, I drop the cup.",
        "I do not see the knife, so I cut myself.", "I see no video.mp4 on the screen.",
    )  # fmt: skip
    assert [text for text in refusals if not is_refusal(text)] == []
    assert [text for text in answers if is_refusal(text)] == []


PIECES = [
    *'{}[]",:\\\n\r\t \0\x1b\x7f<>|`*_#-1.0%()&;',
    *("\ud800", "\udfff", "\u202e", "\u200b", "\ufeff", "\U000e0041", "\xa0", "\u2028", "\uff5c"),
    *("<think>", "</think>", "<|im_end|>", "<|channel|>", "```json\n", "```", "</s>", "[INST]"),
    *('"steps":', '"predictions":', '"text":', '"confidence":', '"event":', '"time":', '{"', '["'),
    *("Step 1:", "Prediction:", "Confidence:", "0:03", "[1-2]", "1e999", "NaN", "at 2 s", "1. "),
    *("the man", "After the clip ends,", "I'm sorry, but", "9" * 500, "\\ud800", "null", "true"),
    *(JSON, PRETTY, PROSE, JSON[:50]),
]


def test_any_text_ends_in_a_draft_or_a_cause():
    causes = get_args(Rejection)
    for seed in range(600):
        draw = random.Random(seed)
        text = "".join(draw.choices(PIECES, k=draw.randint(1, 40)))
        if draw.random() < 0.5:  # damage a good answer
            whole = draw.choice([JSON, PRETTY, PROSE])
            at = draw.randrange(len(whole))
            text = (
                whole[:at] + "".join(draw.choices(PIECES, k=2)) + whole[at + draw.randint(0, 9) :]
            )
        draft = outcome(text)
        if isinstance(draft, AnswerError):
            assert draft.cause in causes, seed
            assert draft.detail.isprintable(), seed
            continue
        json.dumps(draft.steps).encode()
        repr(draft).encode()  # no lone surrogate is left
        assert draft.steps or draft.predictions, seed
        assert len(draft.predictions) <= 3, seed
        assert read_answer(text).steps == draft.steps, seed


LOOPS = (
    "{", "[", "{[", '{"', '{"a":', "[{", '{"a":"', '"', "\\", ",", "}]", "]", "{}", "```\n", "`",
    "<think>", "</think>", "1. ", "1.", "[1-2] ", "0:0", "0:00", "(1", "at 2 s ", "at ", "9", " ",
    "\n", "- ", "Step 1: ", "Prediction: ", "Confidence: ", "confidence 0.", "*", "_", "a ", "a. ",
    "I'm sorry ", "<", "&", "http://", "a@", "www.", "ignore all ", "..", "what happens next ",
    "after the clip ends. ", "Reason: ", "\u202e", "\x1b[31m", ", so ", "prediction for ",
    '{"steps":[',
)  # fmt: skip


class HungError(Exception):
    """A text took longer than any can need."""


@contextmanager
def deadline(cpu_seconds: float) -> Iterator[None]:
    """Hundreds of times what is needed, so that only what is not linear can miss it."""

    def hung(_number: int, _frame: FrameType | None) -> None:
        raise HungError

    former = signal.signal(signal.SIGPROF, hung)
    signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, former)


@pytest.mark.parametrize("size", [4_000, pytest.param(MAX_ANSWER_CHARS, marks=pytest.mark.slow)])
def test_loops_take_time_linear_in_their_length(size: int):
    slow = []
    for piece in LOOPS:
        text = (piece * (size // len(piece) + 1))[:size]
        with deadline(10):
            try:
                outcome(text)
            except HungError:
                slow.append(piece)
    assert not slow


def test_huge_answers_are_refused_before_anything_reads_them():
    for text in (JSON * 50_000, "\0" * 10_000_000, "[" * 10_000_000):
        with pytest.raises(AnswerError, match="too long") as caught:
            read_answer(text)
        assert caught.value.cause == "length"
