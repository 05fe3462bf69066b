"""The page of an evaluation: all is there, it is what the tables count, and text stays text."""

import base64
import hashlib
import itertools
import json
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from vidreason.evaluation.cells import run_cells, score_predictions
from vidreason.evaluation.confidence.calibration import calibration_error
from vidreason.evaluation.confidence.confidences import choice_confidences
from vidreason.evaluation.items import run_items
from vidreason.evaluation.page.items import browser_data, choose_items, fair_shares
from vidreason.evaluation.page.pictures import KeyFrame
from vidreason.evaluation.page.report_page import EvaluationReport, write_report_page
from vidreason.evaluation.predictions.rows import BenchmarkPrediction, grade
from vidreason.evaluation.protocols import accuracy
from vidreason.evaluation.tables import Table, accuracy_table, score_rows
from vidreason.reasoning.predictions import Prediction, format_predictions
from vidreason.reasoning.prompts import (
    FUTURE_PREDICTION_PROMPT,
    grounding_prompt,
    multiple_choice_prompt,
    open_ended_prompt,
)
from vidreason.video.failures import VideoReadError

EVIL = "why </script><b>bold</b> <!-- & \"'\u2028 \U0001f3a5?"
OPTIONS = ("it was <i>pushed</i>", "it fell", "nothing")


def choice(number: int, chosen: int | None, corpus: str = "nextqa") -> BenchmarkPrediction:
    """A choice by likelihoods; None for generated text that names no option."""
    row = BenchmarkPrediction(
        id=f"{corpus}:test:{number}",
        corpus=corpus,
        video_id=f"v{number // 2}",
        question_type="CW" if number % 2 else "TN",
        prompt=multiple_choice_prompt(EVIL, OPTIONS),
        options=OPTIONS,
        reference=0,
    )
    if chosen is None:
        return grade(replace(row, output="I cannot say."))
    scores = [-2.0, -2.5, -3.0]
    scores[chosen] = -0.5
    return grade(replace(row, option_log_likelihoods=tuple(scores), option_token_counts=(2, 2, 1)))


def open_row(number: int, output: str, error: str = "") -> BenchmarkPrediction:
    return grade(
        BenchmarkPrediction(
            id=f"activitynet_qa:test:{number}",
            corpus="activitynet_qa",
            video_id=f"a{number}",
            question_type="3",
            prompt=open_ended_prompt("is it red"),
            output=output,
            reference=("yes", "sure"),
            error=error,
        )
    )


FULL = [
    *(choice(number, 0 if number < 4 else 1) for number in range(7)),
    choice(7, None),
    open_row(0, "Yes."),
    open_row(1, "no"),
    open_row(2, "", error="/videos/a2.mp4: cannot be opened"),
]
BLIND = [
    *(choice(number, number % 3) for number in range(8)),
    *(open_row(number, "no") for number in range(3)),
]
RUNS = {"full model": FULL, "blind <none>": BLIND}


class Pictures:
    """Four frames a video; of one, nothing can be read."""

    def __init__(self, unreadable: str = "") -> None:
        self.unreadable = unreadable
        self.read: list[str] = []

    def span(self, question_id: str):
        number = int(question_id.rsplit(":", 1)[1])
        video = f"v{number // 2}" if question_id.startswith("nextqa") else f"a{number}"
        return (f"/videos/{video}.mp4", None, None)

    def frames(self, span) -> list[KeyFrame]:
        self.read.append(span[0])
        if span[0] == self.unreadable:
            raise VideoReadError(span[0], "missing", "no such file")
        name = Path(span[0]).stem
        return [
            KeyFrame(seconds=n, num_objects=n, data_uri=f"data:image/jpeg;base64,{name}{n}")
            for n in range(4)
        ]


class Page(HTMLParser):
    """Tags with attributes, texts by the innermost tag, and what is left open."""

    VOID = ("meta", "img", "input")

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.feed(self.source)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.setdefault(self.open[-1] if self.open else "", []).append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def data(self) -> dict:
        (index,) = (n for n, a in enumerate(self.all("script")) if a.get("id") == "report-data")
        return json.loads(self.texts["script"][index])


def report(runs, tables=()) -> EvaluationReport:
    return EvaluationReport(
        title="Evaluation <1>",
        facts={"model": "runs/a & b"},
        runs=runs,
        tables=tables,
        notes=["1 < 2"],
        scores={name: score_predictions(rows) for name, rows in runs.items()},
    )


def table_of(corpus: str) -> Table:
    items = run_items(RUNS)
    cells = {name: run_cells(one) for name, one in items.items()}
    return accuracy_table(corpus, cells, list(items["full model"]))


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Page:
    path = tmp_path_factory.mktemp("page") / "new" / "report.html"
    tables = [table_of(corpus) for corpus in ("nextqa", "activitynet_qa")]
    write_report_page(
        path, report(RUNS, tables), pictures=Pictures("/videos/a1.mp4"), num_pictured=6
    )
    return Page(path)


def test_every_question_is_there_with_what_all_runs_said(page):
    data = page.data
    assert data["runs"] == list(RUNS)
    assert [item["id"] for item in data["items"]] == [row.id for row in FULL]
    by_id = {item["id"]: item for item in data["items"]}
    item = by_id["nextqa:test:4"]
    assert (item["corpus"], item["type"], item["video_id"]) == ("nextqa", "TN", "v2")
    assert item["options"] == list(OPTIONS)
    assert (item["right"], item["reference"]) == (0, OPTIONS[0])
    full, blind = item["answers"]
    assert (full["verdict"], full["chosen"], full["text"]) == ("wrong", 1, OPTIONS[1])
    assert (blind["verdict"], blind["chosen"]) == ("wrong", 1)
    assert full["scores"] == [-2.0, -0.5, -3.0]
    assert sum(full["shares"]) == pytest.approx(1, abs=1e-3)
    assert full["shares"][1] == pytest.approx(0.766, abs=1e-3)
    invalid = by_id["nextqa:test:7"]["answers"][0]
    assert (invalid["verdict"], invalid["chosen"]) == ("invalid", None)
    assert invalid["output"] == "I cannot say."
    unreadable = by_id["activitynet_qa:test:2"]
    assert unreadable["answers"][0]["verdict"] == "unreadable"
    assert unreadable["answers"][0]["error"] == "/videos/a2.mp4: cannot be opened"
    assert unreadable["reference"] == "yes; sure"


def test_verdicts_are_counted_as_the_metrics_are(page):
    for index, (_, rows) in enumerate(RUNS.items()):
        for score in score_rows(score_predictions(rows)):
            if score["group"] != "all":
                continue
            said = [
                item["answers"][index]["verdict"]
                for item in page.data["items"]
                if item["corpus"] == score["corpus"]
            ]
            assert said.count("right") == score["num_correct"]
            assert said.count("invalid") + said.count("unreadable") == score["num_invalid"]
            assert len(said) == score["num_questions"]


def test_the_numbers_are_those_of_the_metrics(page):
    charts = [unescape(attributes["aria-label"]) for attributes in page.all("svg")]
    for name, rows in RUNS.items():
        for score in score_rows(score_predictions(rows)):
            (chart,) = (label for label in charts if label.startswith(f"{score['corpus']}: "))
            label = f"{score['group']} (n={score['num_questions']}), {name}"
            bounds = f"[{score['low']:.1%}, {score['high']:.1%}]"
            assert f"{label}: {score['accuracy']:.1%} {bounds}" in chart
    # Numbers do not break within their intervals.
    cells = [text.replace("\u00a0", " ") for text in page.texts["td"] + page.texts["th"]]
    for corpus in ("nextqa", "activitynet_qa"):
        table = table_of(corpus)
        assert table.title in page.texts["caption"]
        assert {*table.header, *(cell for row in table.rows for cell in row)} <= set(cells)
    confidences = choice_confidences([row for row in FULL if row.corpus == "nextqa"])
    error = calibration_error(confidences.values, confidences.correct).expected
    (caption,) = (text for text in page.texts["figcaption"] if text.startswith("ECE"))
    assert caption.startswith(f"ECE {error:.3f} (15 bins, n=7, 1 more without confidence)")
    assert any(f"expected calibration error {error:.3f}" in label for label in charts)


def test_the_page_needs_nothing_else(page):
    for _, attributes in page.elements:
        assert not {"src", "srcset", "data", "action", "poster", "background"} & attributes.keys()
        assert attributes.get("href", "#").startswith("#")
    assert not re.search(r"https?:|//[a-z]|url\(|@import", page.source)
    assert "link" not in [tag for tag, _ in page.elements]
    (policy,) = (a["content"] for a in page.all("meta") if "http-equiv" in a)
    script = page.texts["script"][-1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    headings = [tag for tag, _ in page.elements if re.fullmatch(r"h\d", tag)]
    assert headings[0] == "h1"
    assert headings.count("h1") == 1
    targets = {a["id"] for _, a in page.elements if "id" in a}
    assert {a["href"][1:] for a in page.all("a")} <= targets


def test_text_stays_text(page):
    assert not page.all("b")
    assert not page.all("i")
    assert len(page.all("script")) == 2
    assert page.data["items"][0]["question"] == EVIL
    assert page.data["items"][0]["options"][0] == OPTIONS[0]
    assert page.texts["title"][0] == "Evaluation <1>"
    assert "runs/a & b" in page.texts["dd"]
    assert "1 < 2" in page.texts["p"]
    assert any("blind <none>" in text for text in page.texts["li"])
    # textContent and setAttribute are all that the script writes with.
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|\beval\b|document\.write", page.source
    )


def test_half_a_character_does_not_stop_the_page(tmp_path):
    rows = [replace(FULL[8], output="yes \ud800"), *FULL[9:]]
    write_report_page(tmp_path / "report.html", report({"a \ud800": rows}))
    assert Page(tmp_path / "report.html").data["items"][0]["answers"][0]["text"] == "yes \ud800"


def test_each_video_is_there_once_and_shared_by_its_questions(page):
    videos, items = page.data["videos"], page.data["items"]
    assert page.source.count("data:image/jpeg;base64,v0") == 4
    shown = {item["id"]: item["video"] for item in items if item["video"] is not None}
    assert shown["nextqa:test:0"] == shown["nextqa:test:1"]
    assert videos[shown["nextqa:test:0"]]["frames"][2] == {
        "seconds": 2,
        "num_objects": 2,
        "picture": "data:image/jpeg;base64,v02",
    }
    assert page.data["num_pictured"] == 6


def test_a_video_that_cannot_be_read_leaves_its_reason(page):
    (item,) = (item for item in page.data["items"] if item["id"] == "activitynet_qa:test:1")
    video = page.data["videos"][item["video"]]
    assert video["frames"] == []
    assert "/videos/a1.mp4" in video["missing"]
    assert "no such file" in video["missing"]


def test_no_more_videos_are_read_than_questions_are_chosen():
    for limit in (0, 1, 5, 100):
        pictures = Pictures()
        data = browser_data(RUNS, pictures=pictures, num_pictured=limit)
        assert len(pictures.read) == len(set(pictures.read)) == len(data["videos"])
        assert len(data["videos"]) <= limit
        assert all(0 <= item["video"] < len(data["videos"]) for item in data["items"]
                   if item["video"] is not None)  # fmt: skip
    assert len(pictures.read) == 7
    without = browser_data(RUNS, pictures=None, num_pictured=100)
    assert without["num_pictured"] is None
    assert {item["video"] for item in without["items"]} == {None}


def test_copies_of_a_video_are_there_once():
    class Copies(Pictures):
        def frames(self, span) -> list[KeyFrame]:
            return super().frames((span[0].replace("/a", "/v"), None, None))

    data = browser_data(RUNS, pictures=Copies(), num_pictured=100)
    assert len(data["videos"]) == 4
    by_id = {item["id"]: item["video"] for item in data["items"]}
    assert by_id["activitynet_qa:test:1"] == by_id["nextqa:test:3"]


def test_shares_are_equal_as_far_as_there_is_enough():
    assert fair_shares([10, 10], 7) == [4, 3]
    assert fair_shares([1, 10, 3], 9) == [1, 5, 3]
    assert fair_shares([2, 2], 100) == [2, 2]
    assert fair_shares([0, 5], 3) == [0, 3]
    assert fair_shares([], 3) == []
    assert fair_shares([3, 3], 0) == [0, 0]


def test_chosen_questions_are_spread_over_corpora_verdicts_and_files():
    rows = [
        *(choice(number, 0 if number < 90 else 1) for number in range(100)),
        *(open_row(number, "yes" if number % 2 else "no") for number in range(1000)),
    ]
    chosen = choose_items(rows, 40)
    assert choose_items(list(rows), 40) == chosen
    assert [row.id for row in rows if row in chosen] == [row.id for row in chosen]
    counts = {
        (corpus, right): sum(row.corpus == corpus and row.correct is right for row in chosen)
        for corpus in ("nextqa", "activitynet_qa")
        for right in (True, False)
    }
    assert set(counts.values()) == {10}
    indices = [int(row.id.split(":")[2]) for row in chosen if row.corpus == "activitynet_qa"]
    gaps = [after - before for before, after in itertools.pairwise(indices)]
    assert max(gaps) <= 100
    # What one kind lacks, the other gets: 10 wrong ones are all there are.
    more = choose_items(rows[:100], 60)
    assert sum(not row.correct for row in more) == 10
    assert len(more) == 60


def test_questions_beyond_the_most_are_left_out_and_said_so():
    data = browser_data(RUNS, pictures=None, num_pictured=0, max_items=4)
    assert data["num_questions"] == len(FULL)
    assert [item["corpus"] for item in data["items"]] == ["nextqa"] * 2 + ["activitynet_qa"] * 2


def test_runs_that_lack_questions_and_groups_without_interval(tmp_path):
    runs = {"full model": FULL, "majority": FULL[:1]}
    write_report_page(tmp_path / "report.html", report(runs))
    page = Page(tmp_path / "report.html")
    assert page.data["items"][1]["answers"][1] is None
    (chart,) = (a["aria-label"] for a in page.all("svg") if a["aria-label"].startswith("nextqa: "))
    assert "all (n=1), majority: 100.0%;" in chart
    assert "C (n=4), full model" in chart


def test_rows_without_references_and_runs_without_rows(tmp_path):
    hidden = [grade(replace(row, reference=None)) for row in FULL[:8]]
    write_report_page(tmp_path / "hidden.html", report({"full model": hidden}))
    page = Page(tmp_path / "hidden.html")
    assert {item["answers"][0]["verdict"] for item in page.data["items"]} == {"unscored"}
    assert {item["reference"] for item in page.data["items"]} == {""}
    assert not page.all("svg")
    assert any(text.startswith("No answer has a confidence") for text in page.texts["p"])
    write_report_page(tmp_path / "empty.html", report({"full model": []}))
    assert Page(tmp_path / "empty.html").data["items"] == []
    with pytest.raises(ValueError, match="no run"):
        write_report_page(tmp_path / "none.html", report({}))
    assert not (tmp_path / "none.html").exists()


def test_events_count_as_their_protocol_says_and_have_a_diagram(tmp_path):
    output = format_predictions(
        [Prediction("The ball stops", "slow", 0.9), Prediction("it turns", "", 0.4)]
    )
    rows = [
        grade(
            BenchmarkPrediction(
                id=f"causal_vid_instruct:{number}", corpus="causal_vid_instruct", video_id="v",
                question_type="prediction", prompt=FUTURE_PREDICTION_PROMPT, output=output,
                reference=(true,),
            )
        )
        for number, true in enumerate(("the ball stops.", "it turns"))
    ]  # fmt: skip
    write_report_page(tmp_path / "report.html", report({"full model": rows}))
    page = Page(tmp_path / "report.html")
    assert [item["answers"][0]["verdict"] for item in page.data["items"]] == ["right", "wrong"]
    error = calibration_error([0.9, 0.4, 0.9, 0.4], [True, False, False, True]).expected
    assert any(
        text.startswith(f"ECE {error:.3f} (15 bins, n=4)") for text in page.texts["figcaption"]
    )


def test_spans_are_told_in_seconds():
    row = grade(
        BenchmarkPrediction(
            id="nextgqa:1", corpus="nextgqa", video_id="v", question_type="grounding",
            prompt=grounding_prompt("why"), output="2 to 6.5", reference=((2.0, 6.0), (8.5, 9.0)),
        )
    )  # fmt: skip
    (item,) = browser_data({"a": [row]}, pictures=None, num_pictured=0)["items"]
    assert item["reference"] == "2 to 6 s; 8.5 to 9 s"
    assert item["answers"][0]["text"] == "2 to 6.5"
    assert item["answers"][0]["verdict"] == "right"
    assert accuracy(row) == 1


def explanation(output: str, **more: str) -> BenchmarkPrediction:
    """An answer in steps, beside a reference of two."""
    return BenchmarkPrediction(
        id="causal_vid_instruct:0",
        corpus="causal_vid_instruct",
        video_id="v",
        question_type="explanation",
        prompt="why did it stop",
        output=output,
        reference_texts=("1. the ball rolls\n2. the ball hits the wall",),
        **more,
    )


def test_free_answers_stand_beside_their_reference_with_a_score():
    runs = {
        "ours": [explanation("1. the ball rolls\n2. the ball hits the wall")],
        "rival": [explanation("1. a ball rolls")],
        "blind": [explanation("")],
        "unreadable": [explanation("", error="v.mp4: cannot be opened")],
        "majority": [explanation("", missing_capability="answer")],
    }
    (item,) = browser_data(runs, pictures=None, num_pictured=0)["items"]
    assert item["reference"] == "1. the ball rolls\n2. the ball hits the wall"
    scores = [answer["score"] for answer in item["answers"]]
    assert scores == ["step F1 100.0", "step F1 66.7", "step F1 0.0", "", ""]
    assert {answer["verdict"] for answer in item["answers"][:3]} == {"unscored"}
    (choices, *_) = browser_data(RUNS, pictures=None, num_pictured=0)["items"]
    assert {answer["score"] for answer in choices["answers"]} == {""}
