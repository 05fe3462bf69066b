"""Every benchmark form of the microworld from its files to its scores, with a reasoner that has
learnt next to nothing: videos and still images are perceived, stored, asked about and scored."""

import importlib
import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import yaml
from tiny_experiment import SEGMENTER

from data_modules.corpus_index import open_corpora
from experiments.evaluate.run import evaluate
from experiments.experiment_config import ExperimentConfig
from experiments.fit.run import fit
from experiments.perceive.run import perceive
from vidreason.config import merge_config
from vidreason.evaluation.cells import score_predictions
from vidreason.evaluation.lmms_eval import tasks
from vidreason.evaluation.lmms_eval.plugin import manifest
from vidreason.evaluation.lmms_eval.tasks import write_tasks
from vidreason.evaluation.predictions.rows import BenchmarkPrediction
from vidreason.evaluation.predictions.submissions import write_submissions
from vidreason.example import Example, Turn
from vidreason.microworld.corpora import WorldConfig, write_world
from vidreason.perception.visual_tokens import CLIP_TOKEN
from vidreason.store.visual_token_source import VisualTokenSource

LIMITS = {"nextgqa": 6, "vcr": 6, "test_of_time": 8, "clevrer": 8, "causal_vid_instruct": 4}


@pytest.fixture(scope="module")
def config(tiny_experiment: Path, tmp_path_factory: pytest.TempPathFactory) -> ExperimentConfig:
    """After perceive and fit."""
    folder = tmp_path_factory.mktemp("forms")
    world = folder / "world"
    write_world(world, WorldConfig(num_videos={"test": 8}, questions_per_video=4))
    overlay = {
        "run_dir": str(folder / "run"),
        "store": {"path": str(folder / "store")},
        "perceiver": {"use_objects": True, "objects_per_key_frame": 2, "segmenter": SEGMENTER},
        "data": {
            "train": [{"reader": "webvid", "root": str(world / "webvid"), "split": "test"}],
            "validation": [],
            "benchmark": [
                {"reader": name, "root": str(world / name), "split": "test", "limit": limit}
                for name, limit in LIMITS.items()
            ],
            "num_epochs": 1,
            "max_text_tokens": 900,
        },
        "optimizer": {"warmup_steps": 1},
        "trainer": {"stop_after_steps": 1},
        "evaluation": {"max_text_tokens": 2000},
        "controls": ["none"],
    }
    path = folder / "forms.yaml"
    path.write_text(yaml.safe_dump(overlay))
    config = merge_config(ExperimentConfig, [str(tiny_experiment), str(path)])
    counts = perceive(config)
    assert counts.unreadable == 0
    assert counts.perceived > 8  # pictures, too
    fit(config)
    return config


@pytest.fixture(scope="module")
def predictions(config: ExperimentConfig) -> list[BenchmarkPrediction]:
    (rows,) = (rows for name, rows in evaluate(config).items() if name == "full model")
    return rows


def test_an_image_is_a_clip_of_one_frame(config: ExperimentConfig) -> None:
    images = sorted(Path(config.data.benchmark[1].root).glob("vcr1images/*/*.jpg"))
    source = VisualTokenSource(config.perceiver, config.store)
    assert source.store is not None
    assert len(images) >= 2
    one, two = (source(str(image)) for image in images[:2])
    assert source.store.get(source.key(str(images[0]))) is not None
    assert one.duration_seconds > 0
    clips = one.features[one.kinds == CLIP_TOKEN]
    assert len(clips) == config.perceiver.sampling.num_clips
    assert (clips - clips[0]).abs().max() < 1e-5  # the same picture, repeated
    assert (clips[0] - two.features[two.kinds == CLIP_TOKEN][0]).abs().max() > 1e-3
    assert (one.kinds != CLIP_TOKEN).any()  # objects, too


def test_each_form_is_scored_by_its_own_protocol(predictions: list[BenchmarkPrediction]) -> None:
    assert {row.error for row in predictions} == {""}
    groups: dict[str, dict[str, int]] = {}
    for score in score_predictions(predictions):
        groups.setdefault(score.corpus, {})[score.group] = score.num_items
    assert groups["nextgqa"]["Acc@GQA"] == groups["nextgqa"]["mIoU"] == 3
    assert groups["vcr"] == {"all": 3, "Q->AR": 3, "Q->A": 3, "QA->R": 3}
    of_time = groups["test_of_time"]
    assert of_time["all"] == 8
    assert {"pairs", "mean of categories", "order"} <= set(of_time)
    assert of_time["pairs"] == of_time["order"] / 2
    assert groups["clevrer"]["counterfactual per option"] > 1
    assert (
        groups["clevrer"]["counterfactual per question"]
        < groups["clevrer"]["counterfactual per option"]
    )
    # Two of its four rows are explanations, which have no reference to be compared with.
    assert groups["causal_vid_instruct"]["any-of-3 hit"] == 2


def test_the_servers_files_hold_the_answers(
    predictions: list[BenchmarkPrediction], tmp_path: Path
) -> None:
    names = {path.name for path in write_submissions(predictions, tmp_path)}
    assert {"clevrer_submission.json", "nextgqa_answers.json"} <= names
    scenes = json.loads((tmp_path / "clevrer_submission.json").read_text())
    choices = [
        choice
        for scene in scenes
        for question in scene["questions"]
        for choice in question["choices"]
    ]
    assert len(choices) == LIMITS["clevrer"]
    assert {choice["answer"] for choice in choices} <= {"correct", "wrong"}


@pytest.fixture
def lmms_eval(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in for lmms-eval's base class and manifest, where it is not installed."""
    if importlib.util.find_spec("lmms_eval") is not None:
        return
    names = ("lmms_eval", "lmms_eval.api", "lmms_eval.api.model", "lmms_eval.models")
    names = (*names, "lmms_eval.models.registry_v2")
    modules = {name: ModuleType(name) for name in names}
    modules["lmms_eval.api.model"].lmms = type("lmms", (), {"task_dict": {}})  # type: ignore[attr-defined]
    modules["lmms_eval.models.registry_v2"].ModelManifest = SimpleNamespace  # type: ignore[attr-defined]
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "vidreason.evaluation.lmms_eval.model", raising=False)


@pytest.mark.slow
def test_lmms_eval_scores_what_evaluate_scores(
    config: ExperimentConfig,
    predictions: list[BenchmarkPrediction],
    lmms_eval: None,
    tmp_path: Path,
) -> None:
    model_path = manifest().simple_class_path
    module_name, _, class_name = model_path.rpartition(".")
    model = getattr(importlib.import_module(module_name), class_name)(
        pretrained=f"{config.run_dir}/reasoner", store=config.store.path, device="cpu", batch_size=4
    )
    examples = list(open_corpora(config.data.benchmark))
    names = write_tasks(examples, tmp_path)
    assert {"vidreason_vcr", "vidreason_clevrer", "vidreason_test_of_time"} <= set(names)
    # Of Acc@GQA each of the two tasks has one half.
    halves = [(tmp_path / f"vidreason_nextgqa{end}.yaml").read_text() for end in ("", "_open")]
    assert not any("Acc@GQA" in half or '"all"' in half for half in halves)
    assert "Acc@QA" in halves[0]
    assert "mIoP" in halves[1]
    by_id = {row.id: row for row in predictions}
    for name in ("vidreason_vcr", "vidreason_test_of_time"):
        task = tmp_path / f"{name}.yaml"
        assert f"{name}.jsonl" in task.read_text()
        documents = list(map(json.loads, (tmp_path / f"{name}.jsonl").read_text().splitlines()))
        model.task_dict = {name: {"test": documents}}
        results = []
        for number, document in enumerate(documents):
            where = (tasks.doc_to_visual, number, name, "test")
            requests = [
                SimpleNamespace(args=(tasks.doc_to_text(document), f" {option}", *where))
                for option in tasks.doc_to_choice(document)
            ]
            answers = model.loglikelihood(requests)
            each = by_id[document["id"]]
            losses = [-loss for loss, _ in answers]
            assert losses == pytest.approx(each.option_log_likelihoods, abs=1e-4)
            assert each.options[tasks.doc_to_target(document)] == document["response"]
            results.append(tasks.process_choices(document, answers))
            # lmms-eval 0.7.3 hands on texts.
            assert tasks.process_choices(document, [*map(str, answers)]) == results[-1]
        own_scores = {
            score.group: score.score.mean
            for score in score_predictions(predictions)
            if f"vidreason_{score.corpus}" == name
        }
        result = {group: tasks.aggregate([r[group] for r in results]) for group in results[0]}
        assert result == pytest.approx(own_scores)
    settings = {"max_new_tokens": 4, "until": ["\n\n"]}
    args = ("why", settings, tasks.doc_to_visual, 0, name, "test")
    (answer,) = model.generate_until([SimpleNamespace(args=args)])
    assert isinstance(answer, str)
    assert "\n\n" not in answer
    with pytest.raises(NotImplementedError, match="one question about one video"):
        model.generate_until_multi_round([])
    with pytest.raises(ValueError, match="--model_args has max_frames; vidreason takes pretrained"):
        type(model)(pretrained="x", max_frames=8)


def test_lmms_eval_asks_our_model_in_turns_and_others_in_one_text(
    lmms_eval: None, tmp_path: Path
) -> None:
    module_name, _, class_name = manifest().simple_class_path.rpartition(".")
    model = getattr(importlib.import_module(module_name), class_name)
    turns = (Turn("system", "Be brief."), Turn("user", "What is it?"), Turn("assistant", "A ball."))
    alone = Example(
        id="a",
        corpus="llava",
        media=str(tmp_path / "a.mp4"),
        video_id="a",
        prompt="Which colour?",
        response="Red.",
        answers=("Red.",),
    )
    write_tasks([replace(alone, earlier_turns=turns), replace(alone, id="b")], tmp_path)
    first, second = map(
        json.loads, (tmp_path / "vidreason_llava_open.jsonl").read_text().splitlines()
    )
    context = tasks.doc_to_text(first)
    assert context.startswith("Be brief.\n\nEarlier about this video:\nQuestion: What is it?\n")

    def example(context: str, document: dict[str, object]) -> Example:
        bare = object.__new__(model)
        made = bare._example(0, context, tasks.doc_to_visual, document, "t")
        assert isinstance(made, Example)
        return made

    assert (example(context, first).prompt, example(context, first).earlier_turns) == (
        "Which colour?",
        turns,
    )
    # A text that a task has added to is asked as it is.
    assert example(f"{context} Now.", first).prompt == f"{context} Now."
    assert example("Which colour?", second).earlier_turns == ()


def test_importing_the_plugin_does_not_import_lmms_eval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lmms_eval", None)  # to import it would be an error
    for name in ("plugin", "tasks"):
        importlib.reload(importlib.import_module(f"vidreason.evaluation.lmms_eval.{name}"))
