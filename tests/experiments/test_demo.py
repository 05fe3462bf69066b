"""The demo at its smallest, every part of it; and the configurations that it uses."""

import json
import re
import shutil
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from experiments.demo import run
from experiments.demo.__main__ import main
from experiments.demo.answers import read_answers
from experiments.demo.config import QUICK, DemoConfig
from experiments.demo.imagine import Imagining
from experiments.demo.parts import read_records
from experiments.demo.references import references_files, write_references
from experiments.demo.run import FUSION_CORE_FILE, stage_experiment
from experiments.experiment_config import ExperimentConfig
from experiments.fit.resume import checkpoint_step
from experiments.trained_model import REASONER_FOLDER
from vidreason import cli
from vidreason.config import merge_config
from vidreason.evaluation.predictions.row_files import read_predictions
from vidreason.microworld import parts
from vidreason.microworld.scenes import draw_rollouts
from vidreason.model import DecodingConfig, VideoReasoner
from vidreason.perception.visual_tokens import collate_visual_tokens
from vidreason.reasoning.text_batch import collate_texts
from vidreason.reasoning.tokenization import encode_example
from vidreason.store.feature_store import StoreConfig
from vidreason.store.visual_token_source import VisualTokenSource
from vidreason.training.checkpoint import LAST_CHECKPOINT

ROWS = (
    "full model",
    "stage 1 alone",
    "first half",
    "single frame",
    "shuffled frames",
    "blind (no visual tokens)",
    "another video's tokens",
    "majority answer",
    "oracle (simulator's state)",
    "extrapolation (perceived tracks)",
    "chance",
)
CONFIGS = Path(__file__).parents[2] / "experiments" / "configs"
NUM_TEST_VIDEOS = 3
SMALLER = (
    *("quick=true", "num_validation_videos=2"),
    *(f"num_test_videos={NUM_TEST_VIDEOS}", "num_shown_videos=2"),
    *("imagined_steps=2", "tuning_steps=2"),
    "stage1=[data.num_epochs=1,data.batch_size=4,data.global_batch_size=4,"
    "'data.train=[{reader: webvid, root: world, split: train}]']",
    "stage2=[data.num_epochs=1,data.batch_size=8,data.global_batch_size=8,"
    "'data.train=[{reader: nextqa, root: world, split: train},"
    "{reader: activitynet_qa, root: world, split: train},"
    "{reader: causal_vid_instruct, root: world, split: train}]']",
    "both_stages=[optimizer.warmup_steps=1,trainer.log_every_n_steps=1,decoding.max_new_tokens=12]",
)
"""Half of the quick demo, but for what it trains on; and with imagined videos."""


class Elements(HTMLParser):
    """The start tags of a page with their attributes, and the tags that are left open."""

    VOID = ("meta", "img")

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.unclosed: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.unclosed.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.unclosed.pop() == tag


def load(*names: str) -> ExperimentConfig:
    return merge_config(ExperimentConfig, [str(CONFIGS / f"{name}.yaml") for name in names])


def test_the_perceiver_has_the_sizes_of_the_shipped_parts():
    perceiver = load("microworld").perceiver
    assert perceiver.video_encoder.weights == "vidreason/microworld/parts/encoder.safetensors"
    assert perceiver.segmenter.weights == "vidreason/microworld/parts/segmenter.safetensors"
    wanted = parts.perceiver_config()
    for config in (perceiver, wanted):
        for part in (config.video_encoder, config.segmenter):
            part.weights, part.allow_random_weights = "", True
    assert perceiver == wanted


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_the_demo_trains_what_the_shipped_configurations_say(stage):
    shipped = load("microworld", f"microworld_{stage}")
    built = stage_experiment(DemoConfig(), stage)
    for config in (shipped, built):
        config.perceiver = parts.perceiver_config()  # its weights' paths are absolute in the demo
        config.reasoner.language_model.name_or_path = "parts"
    assert built == shipped


def test_everything_lies_in_the_run_folder_whatever_it_is_called():
    config = DemoConfig(run_dir="a [b]=c", stage2=["data.num_epochs=7"], both_stages=["seed=5"])
    stage1, stage2 = stage_experiment(config, "stage1"), stage_experiment(config, "stage2")
    assert stage1.run_dir == "a [b]=c/stage1"
    assert stage2.initial_checkpoint == "a [b]=c/stage1/checkpoints/last.ckpt"
    assert stage2.store.path == stage1.store.path == "a [b]=c/store"
    corpora = [*stage1.data.train, *stage1.data.validation]
    for section in (stage2.data.train, stage2.data.validation, stage2.data.benchmark):
        corpora += section
    assert all(corpus.root == f"a [b]=c/world/{corpus.reader}" for corpus in corpora)
    shipped = load("microworld", "microworld_stage1")
    assert (stage1.data.num_epochs, stage2.data.num_epochs) == (shipped.data.num_epochs, 7)
    assert (stage1.seed, stage2.seed) == (5, 5)


@pytest.mark.parametrize(
    "override", ["num_test_videos=1", "num_train_videos=0", "num_shown_videos=61", "videos=3"]
)
def test_sizes_that_cannot_be_are_refused_in_a_line(override, capsys):
    assert main([override]) == 2
    error = capsys.readouterr().err
    assert error.startswith("demo: ")
    assert override.split("=")[0] in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("key", ["imagined_steps", "tuning_steps"])
def test_only_a_fusion_core_learns_from_imagined_videos(key, tmp_path, capsys):
    """A line says so before videos are drawn and perceived."""
    overrides = ["both_stages=['reasoner.fusion={kind: mean_pool}']", f"{key}=5"]
    assert main([*overrides, f"run_dir={tmp_path / 'run'}"]) == 2
    error = capsys.readouterr().err
    assert re.search(rf"{key} is 5\b.*, but .*'mean_pool'.*set .*{key}=0", error)
    assert not (tmp_path / "run" / "world").exists()


@pytest.fixture(scope="module")
def quick_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("demo") / "run"
    assert main([*SMALLER, f"run_dir={run_dir}"]) == 0
    return run_dir


def test_the_demo_does_all_parts_and_leaves_the_table(quick_demo):
    records = read_records(quick_demo)
    assert [title.split(":")[0] for title in records] == [
        *("world", "perceive", "imagine", "stage 1", "stage 2"),
        *("tune", "evaluate", "answer", "report"),
    ]
    assert all(record.complete and record.starts == 1 for record in records.values())
    tables = (quick_demo / "table.md").read_text().split("\n\n**")
    accuracies, sure = tables[:4], "\n".join(tables[4:])
    assert all(f"| {name} |" in table for name in ROWS for table in accuracies)
    assert "printed confidence of predicted events" in sure
    assert "computed probability of the next event" in sure
    assert "computed distributions over next events" in sure
    assert f"about {NUM_TEST_VIDEOS} held-out videos" in tables[0]
    # Stage 1 starts from the fusion core that has learnt from imagined videos.
    assert [path.name for path in (quick_demo / "fusion_core").iterdir()] == [FUSION_CORE_FILE]
    start = json.loads((quick_demo / "stage1" / "warm_start.json").read_text())
    assert start["left"] == []
    # The reasoner that is evaluated is the tuned one.
    assert [path.name for path in (quick_demo / "tuned").iterdir()] == [REASONER_FOLDER]
    card = (quick_demo / "tuned" / REASONER_FOLDER / "README.md").read_text()
    assert "and 2 steps on imagined videos" in card
    tuned, before = (
        load_file(folder / "fusion.safetensors")
        for folder in (quick_demo / "tuned" / REASONER_FOLDER, quick_demo / "stage2" / "reasoner")
    )
    assert not all(torch.equal(value, before[name]) for name, value in tuned.items())
    # It learns from 8 videos, 4 a step.
    newest = quick_demo / "stage1" / "checkpoints" / LAST_CHECKPOINT
    assert checkpoint_step(str(newest)) == 2


def test_videos_are_imagined_of_more_stories_than_are_perceived(quick_demo):
    config = merge_config(DemoConfig, [], [*QUICK, *SMALLER, f"run_dir={quick_demo}"])
    imagining = Imagining(stage_experiment(config, None), world_seed=0)
    assert imagining.source.num_perceived == 0
    stories = imagining.stories
    assert len(stories) == 8 * len(imagining.perceived) == 64
    assert [story for _, story in imagining.perceived] == stories[:8]
    # All of them are the training split's, and none is a test video's.
    assert stories == [story for _, story in draw_rollouts("train", 64)]
    assert not any(story in stories for _, story in draw_rollouts("test", NUM_TEST_VIDEOS))


def test_references_are_the_same_whatever_was_trained_on(quick_demo, tmp_path):
    """Zero-shot, without predictions in training; and without any that are asked for."""
    config = merge_config(DemoConfig, [], [*QUICK, *SMALLER, f"run_dir={quick_demo}"])
    stage2 = stage_experiment(config, "stage2")
    expected = {name: read_predictions(path) for name, path in references_files(stage2).items()}
    stage2.run_dir = str(tmp_path)
    stage2.data.train = [c for c in stage2.data.train if c.reader == "nextqa"]
    write_references(stage2, world_seed=0)
    written = references_files(stage2)
    assert {name: read_predictions(path) for name, path in written.items()} == expected
    stage2.data.benchmark = [c for c in stage2.data.benchmark if c.reader == "nextqa"]
    write_references(stage2, world_seed=0)
    assert [read_predictions(path) for path in written.values()] == [[], []]


def test_the_demo_ends_well_where_no_video_is_shown(quick_demo, monkeypatch, capsys):
    """Forms without questions that are shown, such as predictions alone."""
    monkeypatch.setattr(run, "run_parts", lambda parts, folder: {})
    monkeypatch.setattr(run, "read_answers", lambda folder: [])
    assert main([*SMALLER, f"run_dir={quick_demo}"]) == 0
    assert capsys.readouterr().out.rstrip().endswith("report.html")


def test_blind_is_the_same_model_without_its_visual_tokens(quick_demo):
    """The blind row's predictions come from stage 2's own folder, and do not see the video."""
    rows = read_predictions(quick_demo / "stage2" / "evaluation" / "predictions-blind.jsonl")
    # Explanations have no right answer; they have scores of their own.
    num_questions = sum(row.reference is not None for row in rows)
    assert f"all questions (n={num_questions})" in (quick_demo / "table.md").read_text()
    said: dict[str, set[str]] = {}
    for row in rows:
        if not row.options:
            said.setdefault(row.prompt, set()).add(row.output)
    assert all(len(answers) == 1 for answers in said.values())


def test_the_report_shows_everything_and_needs_nothing_else(quick_demo):
    page = (quick_demo / "report.html").read_text()
    videos = read_answers(quick_demo)
    assert len(videos) == 2
    for video in videos:
        assert video.questions
        for text in (
            *(video.video_id, video.explanation, video.reference_explanation),
            *video.events_after,
            *(future.justification for future in video.futures),
            *(shown.blind_answer for shown in video.questions),
        ):
            assert escape(text) in page
    parser = Elements()
    parser.feed(page)
    pictures = [a for tag, a in parser.elements if tag == "img"]
    assert len(pictures) == 8 * len(videos)
    assert all(a["src"].startswith("data:image/jpeg;base64,") for a in pictures)
    assert all(re.search(r"Frame at .* with \d+ object masks", a["alt"]) for a in pictures)
    charts = [a["aria-label"] for tag, a in parser.elements if tag == "svg"]
    assert [label.split(":")[0] for label in charts] == [
        *("Accuracy over all questions", "Next events named word for word", "Stage 1", "Stage 2")
    ]
    assert all("training from" in label and "validation from" in label for label in charts[2:])
    outside = [a for _, a in parser.elements if {"href", "srcset"} & a.keys()]
    assert outside == [{"href": "questions.html"}]
    questions = (quick_demo / "questions.html").read_text()
    for row in read_predictions(quick_demo / "stage2" / "evaluation" / "predictions-none.jsonl"):
        assert f'"id":{json.dumps(row.id)}' in questions
    assert questions.count("data:image/jpeg;base64,") == 8 * NUM_TEST_VIDEOS
    assert "url(" not in page
    assert not parser.unclosed


def test_the_demo_started_again_does_what_is_not_done(quick_demo, capsys):
    before = (quick_demo / "table.md").stat().st_mtime_ns
    assert main([*SMALLER, f"run_dir={quick_demo}"]) == 0
    printed = capsys.readouterr().out
    assert printed.count(": complete (") == 8
    assert "[9/9] report ...\n" in printed
    assert (quick_demo / "table.md").stat().st_mtime_ns == before
    assert all(name in printed for name in ROWS)
    assert "what happens next" in printed
    assert re.search(r"all questions: [\d.]+% of \d+ .*without its visual tokens [\d.]+%", printed)
    assert re.search(rf"next event: [\d.]+% of {NUM_TEST_VIDEOS} .*extrapolation", printed)
    assert f"--model {quick_demo / 'tuned' / REASONER_FOLDER}" in printed


def test_the_demos_model_says_the_same_in_both_forms(quick_demo, tmp_path):
    """Exported from its checkpoint: merged, to the bytes that training left, and as adapters."""
    for form in ("trained", "merged"):
        more = ["--merged"] if form == "merged" else []
        assert cli.main(["export", str(quick_demo / "stage2"), str(tmp_path / form), *more]) == 0
    for name in ("fusion.safetensors", "language_model/model.safetensors"):
        expected = (quick_demo / "stage2" / "reasoner" / name).read_bytes()
        assert (tmp_path / "merged" / name).read_bytes() == expected
    merged, trained = (VideoReasoner.from_pretrained(tmp_path / f) for f in ("merged", "trained"))
    assert merged.perceiver == trained.perceiver
    store = StoreConfig(path=str(quick_demo / "store"), dtype="float32")
    source = VisualTokenSource(trained.perceiver, store)
    visual = collate_visual_tokens([source(video.media) for video in read_answers(quick_demo)])
    assert source.num_perceived == 0
    prompts = ["what entered first"] * len(visual["mask"])
    row = encode_example(trained.tokenizer, prompts[0], "the red ball", max_tokens=200)
    batch = collate_texts([row] * len(prompts))
    with torch.no_grad():
        first, second = (reasoner(visual, batch) for reasoner in (merged, trained))
    # The same products, rounded in another order: measured 1.5e-5 on logits of up to 9.5.
    torch.testing.assert_close(first, second, atol=2e-4, rtol=0)
    decoding = DecodingConfig(max_new_tokens=24)
    assert merged.generate(visual, prompts, decoding) == trained.generate(visual, prompts, decoding)


@pytest.mark.slow  # trains, evaluates and answers once more
def test_a_killed_stage_continues_and_the_rest_follows(quick_demo, capsys):
    """The record says that stage 2 was begun; it has its checkpoints, but no merged model."""
    path = quick_demo / "parts.json"
    records = json.loads(path.read_text())
    for title in list(records)[4:]:
        records[title]["complete"] = False
    path.write_text(json.dumps(records))
    shutil.rmtree(quick_demo / "stage2" / "reasoner")
    table = (quick_demo / "table.md").read_text()
    assert main([*SMALLER, f"run_dir={quick_demo}"]) == 0
    assert capsys.readouterr().out.count(": complete (") == 4
    assert (quick_demo / "table.md").read_text() == table
    starts = json.loads((quick_demo / "stage2" / "run.json").read_text())["starts"]
    assert starts[-1]["resumed_from"].endswith(".ckpt")
