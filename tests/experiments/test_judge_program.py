"""``python -m experiments.judge``: predictions in, judgements and a summary out."""

import json
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback import KEY, http, reply

from experiments.judge import __main__ as program
from experiments.judge import run as judge_run
from experiments.writer_lock import sole_writer
from vidreason.config import merge_config
from vidreason.endpoints.cache import ReplyCache
from vidreason.endpoints.errors import EndpointUnavailableError
from vidreason.endpoints.replies import ChatReply
from vidreason.evaluation.judge.files import read_evidence, read_scores
from vidreason.evaluation.judge.heuristic import HeuristicJudge
from vidreason.evaluation.judge.judging import judge_answer
from vidreason.evaluation.judge.request import JudgeItem
from vidreason.evaluation.judge.summary import summarise_aspects
from vidreason.evaluation.judge.video_chatgpt import judge_aspect, read_aspect
from vidreason.evaluation.manifest import Manifest
from vidreason.evaluation.predictions.row_files import read_predictions, write_predictions
from vidreason.evaluation.predictions.rows import BenchmarkPrediction

GROUNDED = "The ball turns because it hits the wall."


def answers(outputs: list[str]) -> list[BenchmarkPrediction]:
    return [
        BenchmarkPrediction(
            id=f"c:{n}",
            corpus="c",
            video_id=f"v{n // 2}",
            prompt="Why does the ball turn?",
            output=output,
            reference=("it hits the wall",) if n != 1 else None,
        )
        for n, output in enumerate(outputs)
    ]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    choice = BenchmarkPrediction(
        id="mc", corpus="c", video_id="v", options=("a", "b"), option_log_likelihoods=(-1.0, -2.0)
    )
    unread = BenchmarkPrediction(id="u", corpus="c", video_id="u", output="x", error="no such file")
    good = [*answers([GROUNDED] * 6), choice, unread]
    write_predictions(tmp_path / "good.jsonl", good)
    write_predictions(tmp_path / "bad.jsonl", [*answers(["Aliens."] * 6), choice, unread][::-1])
    evidence = [
        {"video_id": "v0", "evidence": "A ball hits the wall."},
        {"id": "c:2", "evidence": "The ball turns."},
    ]
    lines = "".join(json.dumps(row) + "\n" for row in evidence)
    (tmp_path / "evidence.jsonl").write_text(lines)
    return {name: str(tmp_path / f"{name}.jsonl") for name in ("good", "bad", "evidence")}


def test_a_configuration_file_names_the_judge(tmp_path):
    file = tmp_path / "judge.yaml"
    file.write_text(
        "judge: {model: m, request_fields: {max_tokens: null, max_completion_tokens: 800}}\n"
    )
    config = merge_config(program.JudgeProgramConfig, [str(file)], ["predictions=p.jsonl"])
    assert config.judge.request_fields == {"max_tokens": None, "max_completion_tokens": 800}


def run(*arguments: str) -> int:
    return program.main(["judge.kind=heuristic", *arguments])


def read(folder: Path) -> tuple[list[dict], dict]:
    rows = [json.loads(line) for line in (folder / "judgements.jsonl").read_text().splitlines()]
    return rows, json.loads((folder / "summary.json").read_text())


def test_numbers_of_other_judges_are_not_comparable(files, tmp_path):
    manifest = Manifest(model="m")
    path = tmp_path / "made" / "good.jsonl"
    write_predictions(path, read_predictions(files["good"]), manifest.as_json())
    assert run(f"predictions={path}") == 0
    _, summary = read(path.parent / "judged")
    judged = summary["manifest"]
    assert judged["judge"].startswith("heuristic-1, axes, prompts ")
    assert judged["model"] == "m"
    assert judged["protocol_hash"] != manifest.protocol_hash


def test_two_judges_do_not_write_to_one_folder(files, tmp_path, capsys):
    with sole_writer(tmp_path / "judged", "judge"):
        assert run(f"predictions={files['good']}") == 2
    assert "is being written to by judge" in capsys.readouterr().err
    assert run(f"predictions={files['good']}") == 0


def test_answers_are_scored_on_three_axes(files, tmp_path, capsys):
    assert run(f"predictions={files['good']}", f"evidence={files['evidence']}") == 0
    rows, summary = read(tmp_path / "judged")
    assert [row["id"] for row in rows] == [*(f"c:{n}" for n in range(6)), "u"]
    assert (summary["num_items"], summary["num_videos"], summary["num_empty_answers"]) == (7, 4, 1)
    grounding, coherence, _ = summary["results"]
    # Evidence is known for two questions of v0 and one of v1.
    assert (grounding["num_judged"], grounding["num_not_judged"]) == (3, 4)
    assert coherence["num_judged"] == 7
    mean, low, high = coherence["score"]
    assert low <= mean <= high
    assert rows[-1]["scores"] == {"logical_coherence": 1, "insightfulness": 1}
    assert len(summary["prompt_hashes"]) == 2, "with and without evidence"
    assert summary["judge"] == "heuristic-1"
    assert summary["manifest"] is None, "these predictions do not say what they were made with"
    printed = capsys.readouterr().out
    for text in (printed, (tmp_path / "judged/tables.md").read_text()):
        assert "judge heuristic-1" in text
        assert all(one in text for one in summary["prompt_hashes"])
        assert f"{mean:.2f} [{low:.2f}, {high:.2f}]" in text
    (row,) = (line.split() for line in printed.splitlines() if line.startswith("factual_grounding"))
    assert row[1] == "3"
    assert row[-2:] == ["0", "4"]


def test_two_runs_are_compared_in_both_orders(files, tmp_path):
    both = (f"predictions={files['good']}", f"against={files['bad']}")
    assert run(*both, f"output_dir={tmp_path / 'pairs'}") == 0
    rows, summary = read(tmp_path / "pairs")
    coherence = summary["results"][1]
    assert coherence["num_wins"] == 6
    assert coherence["num_ties"] == 1, "neither answered about the unreadable video"
    assert coherence["consistency"] == 1.0
    assert coherence["win_rate"][0] == pytest.approx(6.5 / 7)
    # Four videos, of which three have answers of the first system that win.
    assert coherence["p_value"] == 2 / 2**3
    table = (tmp_path / "pairs/tables.md").read_text()
    assert f"{files['good']} against {files['bad']}" in table
    assert "| logical_coherence | 7 | 6 | 1 | 0 | 92.9 [" in table
    assert all(len(row["outputs"]) == 2 for row in rows[:6])
    # The other way round, the same judgements say that the other system loses.
    other = (f"predictions={files['bad']}", f"against={files['good']}")
    assert run(*other, f"output_dir={tmp_path / 'turned'}") == 0
    assert read(tmp_path / "turned")[1]["results"][1]["num_losses"] == 6
    # A limit takes the same questions of both, whatever their order.
    assert run(*both, "limit=2", f"output_dir={tmp_path / 'few'}") == 0
    assert read(tmp_path / "few")[1]["num_items"] == 2


def test_judges_are_compared(files, tmp_path):
    assert run(f"predictions={files['good']}", f"evidence={files['evidence']}") == 0
    first = tmp_path / "judged/judgements.jsonl"
    again = f"agreement_with=[{first}]"
    assert run(f"predictions={files['good']}", again, f"output_dir={tmp_path / 'again'}") == 0
    outcome = read(tmp_path / "again")[1]["agreement"][str(first)]
    assert outcome["factual_grounding"] is None, "the second judge had no evidence"
    assert (outcome["logical_coherence"]["num_items"], outcome["logical_coherence"]["exact"]) == (
        7,
        1,
    )
    table = (tmp_path / "again/tables.md").read_text()
    assert f"| {first} | factual_grounding | 0 | - |" in table
    assert f"| {first} | logical_coherence | 7 | 1.00 |" in table


def test_video_chatgpt_protocol(files, tmp_path):
    out = f"output_dir={tmp_path / 'qa'}"
    assert run(f"predictions={files['good']}", "protocol=video_chatgpt_qa", out) == 0
    _, summary = read(tmp_path / "qa")
    assert (summary["num_items"], summary["num_without_reference"]) == (5, 2)
    (result,) = summary["results"]
    assert (result["aspect"], result["accuracy"][0], result["score"][0]) == ("answer", 1.0, 5.0)
    table = (tmp_path / "qa/tables.md").read_text()
    assert "| answer | 5 | 5.00 [1.46, 5.00] | 100.0 [29.2, 100.0] | 0 |" in table
    out = f"output_dir={tmp_path / 'generation'}"
    assert run(f"predictions={files['bad']}", "protocol=video_chatgpt_generation", out) == 0
    results = read(tmp_path / "generation")[1]["results"]
    names = [one["aspect"] for one in results]
    assert names == ["correctness", "detail", "context", "temporal"]
    assert {one["score"][0] for one in results} == {0.0}
    assert {one["accuracy"] for one in results} == {None}


def test_a_stopped_run_goes_on_without_asking_again(files, tmp_path, monkeypatch, capsys):
    questions = []

    class Failing(HeuristicJudge):
        def ask(self, request):
            questions.append(request)
            if len(questions) == 4:
                raise EndpointUnavailableError("the service is down")
            return super().ask(request)

    monkeypatch.setattr(judge_run, "build_judge", lambda config: Failing())
    # Answers differ, so that each is a request of its own.
    write_predictions(files["good"], answers([f"{GROUNDED} {n}" for n in range(6)]))
    assert run(f"predictions={files['good']}") == 1
    assert "the service is down; start again" in capsys.readouterr().err
    assert not (tmp_path / "judged/summary.json").exists()
    assert run(f"predictions={files['good']}") == 0
    assert len(questions) == 4 + 3, "three were in the cache"
    assert len(read(tmp_path / "judged")[0]) == 6


def ask_endpoint(monkeypatch, predictions: str, url: str, *arguments: str) -> int:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    endpoint = ("judge.kind=openai", "judge.model=m", f"judge.base_url={url}")
    once = "judge.max_attempts=1"
    return program.main([f"predictions={predictions}", *endpoint, once, *arguments])


NO_REPLIES = [
    http(200, {"choices": [None]}),
    http(200, b"[" * 90_000),
    http(200, b'{"usage": ' + b"9" * 5_000 + b"}"),
    http(200, b"\xff\xfe"),
    http(200, b"{}", "Content-Encoding: gzip"),
    http(503, {"error": f"\x1b[2Jbusy, {KEY}"}),
]


@pytest.mark.parametrize("answer", NO_REPLIES)
def test_a_bad_reply_ends_in_a_line_and_the_next_start_goes_on(
    files, loopback, monkeypatch, capsys, answer
):
    url = loopback.script(reply("no verdict"), answer)
    arguments = ("num_parallel=1", "limit=3")
    write_predictions(files["good"], answers([f"{GROUNDED} {n}" for n in range(3)]))
    assert ask_endpoint(monkeypatch, files["good"], url, *arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"judge: {url} gave no output in 1 try; the last one failed: ")
    assert line.endswith("; start again to continue from here")
    assert KEY not in line
    assert line.isprintable()
    loopback.script(reply("no verdict"))
    assert ask_endpoint(monkeypatch, files["good"], url, *arguments) == 0
    assert len(loopback.requests) == 2, "what came before was kept, and the bad reply was not"


WRONG_OUTPUTS = [
    "9" * 5_000,
    "[" * 90_000,
    '{"insightfulness": ' * 900 + "1" + "}" * 900,
    "half \ud800 a pair",
    "\x00",
    None,
    KEY,
]


def test_outputs_that_are_no_verdicts_are_counted_once_and_for_all(
    files, loopback, tmp_path, monkeypatch, capsys
):
    texts = [f"{GROUNDED} {n}" for n in range(len(WRONG_OUTPUTS))]
    write_predictions(files["good"], answers(texts))
    url = loopback.script(*(reply(text, finish_reason="length") for text in WRONG_OUTPUTS))
    for num_requests in (len(WRONG_OUTPUTS), 0):
        loopback.requests.clear()
        assert ask_endpoint(monkeypatch, files["good"], url, "num_parallel=1") == 0
        assert len(loopback.requests) == num_requests, "all of them are kept"
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("judge: 7 of 7 outputs are no verdicts, such as that of c:0: the ou")
        rows, summary = read(tmp_path / "judged")
        assert summary["results"][1]["num_invalid"] == len(WRONG_OUTPUTS)
        assert all(row["invalid"].startswith("the output was cut at") for row in rows)
    for path in (tmp_path / "judged").iterdir():
        assert KEY.encode() not in path.read_bytes()


def test_a_refusal_of_the_endpoint_is_status_2(files, loopback, monkeypatch, capsys):
    url = loopback.script(http(401, {"error": {"message": f"no such key: {KEY}"}}))
    assert ask_endpoint(monkeypatch, files["good"], url) == 2
    assert "put a valid key into OPENAI_API_KEY): no such key: [secret]" in capsys.readouterr().err


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C as Python has it at its start, whatever the tests before have left."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    signal.signal(signal.SIGINT, former)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_ends_it_at_once(files, loopback, monkeypatch, capsys):
    main_thread = threading.get_ident()

    def interrupt(connection, done):
        signal.pthread_kill(main_thread, signal.SIGINT)
        done.wait(60)

    url = loopback.script(interrupt)
    assert ask_endpoint(monkeypatch, files["good"], url, "num_parallel=1") == 130
    assert "ended by Ctrl-C" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "predictions is empty"),
        (["predictions=absent.jsonl"], "there is no file 'absent.jsonl'"),
        (["predictions={good}", "against={bad}", "protocol=video_chatgpt_qa"], "against compares"),
        (["predictions={good}", "limit=0"], "limit is 0"),
        (["predictions={good}", "evidence={good}"], "good.jsonl:1: expected a text 'evidence'"),
        (["predictions={good}", "agreement_with=[{evidence}]"], "evidence.jsonl:1: id is None"),
        (["predictions={good}", "agreement_with=[{good}]"], "good.jsonl:1: scores is None"),
        (["predictions={good}", "judge.base_url=https://u:hunter2@h"], "judge.base_url has a user"),
        (["predictions={good}", "judge.kind=openai"], "judge.model is empty"),
        (["predictions={good}", "judge.knd=openai"], "judge.knd"),
    ],
)
def test_mistakes_are_a_line_and_status_2(files, capsys, arguments, message):
    assert run(*(argument.format(**files) for argument in arguments)) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "not valid JSON: Expecting"),
        (b"[" * 90_000, "not valid JSON: nested too deep"),
        (b'{"id": ' + b"9" * 5_000 + b"}", "not valid JSON: Exceeds the limit"),
        (b'{"id": "\xff"}', "not UTF-8"),
        (b"[]", "[], not an object"),
        (b'{"id": ["a"], "evidence": "e"}', "id is ['a'], expected a text"),
        (b'{"id": true, "evidence": "e"}', "id is True, expected a text"),
        (b'{"video_id": 1.5, "evidence": "e"}', "video_id is 1.5, expected a text"),
        (b'{"id": "a", "evidence": null}', "expected a text 'evidence'"),
        (b'{"id": "a", "evidence": ["e"]}', "expected a text 'evidence'"),
        (b'{"id": "a", "video_id": "v", "evidence": "e"}', "one of 'id' and 'video_id'"),
        (b'{"id": 5, "evidence": "e"}', "there is evidence for 'id:5' already"),
    ],
)
def test_wrong_lines_of_evidence_are_named(tmp_path, line, message):
    path = tmp_path / "evidence.jsonl"
    path.write_bytes(b'{"id": "5", "evidence": "e"}\n\n' + line + b"\n")
    with pytest.raises(ValueError, match=re.escape(f"{path}:3: ")) as caught:
        read_evidence(str(path))
    assert message in str(caught.value)
    path.write_bytes(b'\xef\xbb\xbf{"video_id": 7, "evidence": "e"}\r\n')
    assert read_evidence(str(path)) == {"video:7": "e"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": None, "scores": {}}, "id is None"),
        ({"id": "a", "scores": [1]}, "scores is a list of 1"),
        (
            {"id": "a", "scores": {"insightfulness": True}},
            "insightfulness is True, expected a whole",
        ),
        ({"id": "a", "scores": {"insightfulness": 4.0}}, "insightfulness is 4.0"),
        ({"id": "a", "scores": {"insightfulness": 6}}, "insightfulness is 6"),
        ({"id": "b", "scores": {"insightfulness": 5}}, "there is a score of 'b' already"),
    ],
)
def test_wrong_judgements_of_others_are_named(tmp_path, row, message):
    path = tmp_path / "judgements.jsonl"
    good = {"id": "b", "scores": {"insightfulness": 5}}
    path.write_text(json.dumps(good) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(ValueError, match=re.escape(f"{path}:2: ")) as caught:
        read_scores(str(path))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{'pred': 'yes', 'score': 4}", {"pred": "yes", "score": 4}),
        ('{"pred": "No", "score": 4.8}', {"pred": "no", "score": 4}),
        ("{'pred': 'yes'}", None),
        ("{'pred': 'maybe', 'score': 4}", None),
        ("{'pred': 'yes', 'score': 6}", None),
        ("{'pred': 'yes', 'score': True}", None),
        ("Sure! {'pred': 'yes', 'score': 4}", None),
        ("__import__('os').getcwd()", None),
        ("{'pred': 'yes', 'score': 1e999}", None),
        ("{'pred': 'yes', 'score': 0x" + "f" * 5_000 + "}", None),
        ("{'pred': 'yes', 'score': " + "9" * 5_000 + "}", None),
        ("{'pred': 0x" + "f" * 5_000 + ", 'score': 4}", None),
        ("{'pred': 'yes', 'score': 4j}", None),
        ("{'pred': " + "[" * 90 + "]" * 90 + ", 'score': 4}", None),
        ("{[]: 1}", None),
        ("{{}}", None),
        ("{'pred': 'yes', 'score': [4]}", None),
        ("{'pred': '\\d', 'score': 4}", None),
        ("{'pred': 'yes', 'score': 4}\x00", None),
        ("-" * 9_000 + "1", None),
        ("(" * 9_000, None),
        ("1+" * 4_000 + "1", None),
        ("[1, " * 9_000, None),
        ("[1]," * 9_000, None),
    ],
)
def test_outputs_are_read_as_the_official_script_reads_them(text, expected):
    if expected is None:
        with pytest.raises(ValueError, match=r"dictionary|score|pred|longer than any"):
            read_aspect(text, "answer")
    else:
        assert read_aspect(text, "answer") == expected


def test_unreadable_outputs_leave_the_accuracy_and_are_counted(tmp_path):
    class Scripted:
        judge_id = "scripted"

        def ask(self, request):
            return ChatReply(text=request.blocks["ANSWER"])

    cache = ReplyCache(tmp_path / "cache")
    outputs = ["{'pred': 'yes', 'score': 5}", "{'pred': 'no', 'score': 1}", "nonsense", " "]
    judged = [
        judge_aspect(
            Scripted(),
            cache,
            JudgeItem(id=str(n), video_id=str(n), question="q", answer=text, references=("r",)),
            "answer",
        )
        for n, text in enumerate(outputs)
    ]
    (summary,) = summarise_aspects(judged)
    assert (summary["num_judged"], summary["num_invalid"]) == (3, 1)
    assert summary["accuracy"].mean == pytest.approx(1 / 3)
    assert summary["score"].mean == pytest.approx(2.0)
    assert judged[3].pred == "no", "no answer is a wrong one"
    with pytest.raises(ValueError, match="needs a correct answer"):
        judge_aspect(
            Scripted(), cache, JudgeItem(id="x", video_id="x", question="q", answer="a"), "answer"
        )
    scored = judge_answer(
        Scripted(), cache, JudgeItem(id="x", video_id="x", question="q", answer="a")
    )
    assert scored.invalid
