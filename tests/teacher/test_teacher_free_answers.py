"""Answers without a teacher: templates, the sample, exclusion, and the shipped configurations."""

import json
from math import isnan
from pathlib import Path
from typing import Any

import pytest
import yaml
from sound_sentences import assert_sound
from tiny_corpora import TINY_CORPORA

from data_modules import template_answers as causes
from data_modules.corpora import CorpusConfig
from data_modules.example_kinds import caption_example, choice_example
from data_modules.files import Files
from data_modules.readers import READERS, read_corpus
from data_modules.skipped_rows import SkippedRows
from data_modules.teacher_free_config import SpanRules, TeacherFreeConfig
from experiments.ablate.config import StudyConfig
from experiments.ablate.study import expand
from experiments.make_instructions.config import MakeInstructionsConfig
from experiments.make_instructions.teacher_free import (
    TWICE,
    TeacherFreeReport,
    teacher_free_answers,
)
from vidreason.config import merge_config
from vidreason.example import Example
from vidreason.teacher.clip import Clip
from vidreason.teacher.draft import Draft

CONFIGS = Path(__file__).parents[2] / "experiments" / "configs"
TINY = {corpus.reader: corpus for corpus in TINY_CORPORA}


def templates(
    examples: list[Example], **rules: Any
) -> tuple[list[tuple[Clip, Draft]], SkippedRows]:
    skipped = SkippedRows(quiet=True)
    return list(causes.template_answers(examples, SpanRules(**rules), skipped)), skipped


def question(video: str, number: int, text: str, answer: str) -> Example:
    return choice_example(
        text,
        (answer, "something else"),
        0,
        id=f"nextqa:train:{video}_{number}",
        media=f"{video}.mp4",
        video_id=video,
    )


def caption(start: float, end: float, text: str, video: str = "v") -> Example:
    return caption_example(
        text, id=f"x:train:{video}{start}", media="v.mp4", video_id=video, span=(start, end)
    )


def test_questions_of_a_video_are_the_steps_of_one_answer() -> None:
    asked_of = [
        question("a", 0, "why did the boy bend down", "pick up ball"),
        question("b", 0, "how does the girl cross", "jump over the wall"),
        question("a", 1, "what did the boy do after he bent down", "throw the ball"),
        question("a", 2, "why did the boy bend down", "pick up ball"),
        question("a", 3, "where is this", "park"),
        question("c", 0, "why did the boy run", "toy"),
        question("a", 4, "why is the boy smiling", "happy"),
    ]
    answers, skipped = templates(asked_of, max_steps=2)
    assert [(clip.video_id, [step.text for step in draft.steps]) for clip, draft in answers] == [
        (
            "a",
            [
                "The boy bent down to pick up the ball.",
                "After he bent down, the boy threw the ball.",
            ],
        ),
        ("b", ["The girl crosses by jumping over the wall."]),
    ]
    for clip, draft in answers:
        assert (clip.start_seconds, clip.end_seconds, draft.predictions) == (None, None, ())
        assert all(step.start_seconds is None for step in draft.steps)
    assert skipped.num_read == 3
    assert skipped.num_skipped == 4
    assert skipped.causes[causes.SAME_SENTENCE] == skipped.causes[causes.TOO_MANY] == 1


def test_a_timed_answer_is_predicted_from_the_clip_before_it(tmp_path: Path) -> None:
    columns = "video_id,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4"
    asked_row = "0101,9,6,4,what did the boy do after he sat,jump,1,TN,jump,b,c,d,e"
    (tmp_path / "train.csv").write_text(f"{columns}\n{asked_row}\n")
    location = {"0101": {"duration": 60, "fps": 30, "location": {"1": [[20.0, 24.0]]}}}
    (tmp_path / "gsub_train.json").write_text(json.dumps(location))
    (tmp_path / "videos").mkdir()
    read = READERS["nextgqa"].read(Files(tmp_path), "train", SkippedRows())
    ((clip, draft),), skipped = templates(list(read), max_clip_seconds=10.0)
    assert (clip.start_seconds, clip.end_seconds) == (9.5, 19.5)
    assert (draft.steps, draft.predictions[0].event) == ((), "The boy jumped.")
    assert isnan(draft.predictions[0].confidence)
    assert skipped.num_read == 1


def test_captions_are_told_in_the_order_of_their_times() -> None:
    answers, skipped = templates(
        [
            caption(5, 8, "The man stands up."),
            caption(1, 4, "A man sits."),
            caption(30, 33, "He leaves."),
            caption(0, 90, "It is a film about a man."),
            caption(6, 8, "A man sits."),
            caption(80, 83, "He comes back."),
        ],
        max_clip_seconds=40.0,
    )
    ((clip, draft),) = answers
    assert (clip.start_seconds, clip.end_seconds) == (1, 33)
    assert [tuple(step) for step in draft.steps] == [
        ("First, a man sits.", 0, 3),
        ("Then, the man stands up.", 4, 7),
        ("Finally, he leaves.", 29, 32),
    ]
    assert skipped.causes == {causes.TOO_LONG: 1, causes.SAME_SENTENCE: 1, causes.ALONE: 1}
    assert skipped.num_read == 3


def test_rows_of_the_set_itself_keep_their_predictions(tmp_path: Path) -> None:
    corpus = TINY["causal_vid_instruct"]
    rows: list[dict[str, Any]] = [dict(corpus.rows[0]), dict(corpus.rows[1])]
    rows[0]["causal_explanation"] = ["a ball rolls", "It.", "it hits the <b>wall</b>"]
    rows[0]["predictions"] = [
        {"text": "The ball turns", "confidence": 0.3},
        {"text": "The ball stops", "confidence": 0.7},
    ]
    rows[1] |= {"predictions": None, "prediction": "the ball stops", "futures": None}
    corpus.write(tmp_path, rows)
    config = CorpusConfig(reader="causal_vid_instruct", root=str(tmp_path), name="world")
    read = read_corpus(config)
    answers, _ = templates(list(read))
    first, second = (draft for _, draft in answers)
    assert [step.text for step in first.steps] == ["A ball rolls."]
    # The most likely first.
    assert [(one.event, one.confidence) for one in first.predictions] == [
        ("The ball stops", 0.7),
        ("The ball turns", 0.3),
    ]
    assert first.outcome is not None
    assert first.outcome.kind == "block"
    assert second.predictions[0].event == "The ball stops."
    assert isnan(second.predictions[0].confidence)


# ------------------------------------------------------------------ the program's source of answers


def written_captions(root: Path, num_videos: int, split: str = "train") -> CorpusConfig:
    videos = {
        f"v_{number}": {
            "duration": 100,
            "timestamps": [[20.0 * n, 20.0 * n + 14] for n in range(4)],
            "sentences": [f"A man lifts tool{number}{n} beside door{n}." for n in range(4)],
        }
        for number in range(num_videos)
    }
    root.mkdir(parents=True)
    (root / f"{split}.json").write_text(json.dumps(videos))
    return CorpusConfig(reader="activitynet_captions", root=str(root), split=split)


def config_of(corpora: list[CorpusConfig], **fields: Any) -> MakeInstructionsConfig:
    fields = {"answers": "continuation", "num_clips": 1000} | fields
    return MakeInstructionsConfig(teacher_free=TeacherFreeConfig(corpora=corpora), **fields)


def allow(clip: Clip) -> str:
    return ""


def test_the_sample_follows_from_the_seed_and_splits_by_video(tmp_path: Path) -> None:
    corpora = [written_captions(tmp_path / name, 60) for name in "ab"]
    corpora[0].weight = 3.0
    config = config_of(corpora, num_clips=100, validation_fraction=0.3)
    report = TeacherFreeReport()
    answers = list(teacher_free_answers(config, allow, report))
    assert answers == list(teacher_free_answers(config, allow))
    assert [one.num_drawn for one in report.corpora] == [75, 25]
    assert [one.num_answers for one in report.corpora] == [180, 180]
    assert len({clip.id for clip, _ in answers[:75]}) == 75
    other_seed = config_of(corpora, num_clips=100, seed=1)
    assert answers != list(teacher_free_answers(other_seed, allow))
    by_video: dict[str, set[str]] = {}
    for clip, _ in answers:
        by_video.setdefault(clip.video_id, set()).add(clip.split)
    assert all(len(splits) == 1 for splits in by_video.values())
    assert {"train", "val"} == set.union(*by_video.values())
    # What one corpus does not have, the other gives.
    small = [written_captions(tmp_path / "c", 2), corpora[1]]
    report = TeacherFreeReport()
    assert len(list(teacher_free_answers(config_of(small, num_clips=50), allow, report))) == 50
    assert [one.num_drawn for one in report.corpora] == [6, 44]


def test_excluded_clips_are_left_out_and_counted(tmp_path: Path) -> None:
    corpus = written_captions(tmp_path / "a", 4)
    report = TeacherFreeReport()

    def refuse(clip: Clip) -> str:
        return "EgoSchema asks about its video" if clip.video_id in ("v_1", "v_2") else ""

    answers = list(teacher_free_answers(config_of([corpus]), refuse, report))
    assert {clip.video_id for clip, _ in answers} == {"v_0", "v_3"}
    assert report.corpora[0].left_out["EgoSchema asks about its video"] == 6
    with pytest.raises(ValueError, match=r"no continuation can be made .*EgoSchema"):
        list(teacher_free_answers(config_of([corpus]), lambda clip: "EgoSchema"))


def test_videos_that_are_not_for_training_are_left_out_by_their_reader(tmp_path: Path) -> None:
    corpus = TINY["ego4d"]
    narrations = [
        {"timestamp_sec": 5.0 * n, "narration_text": f"#C C lifts tool{n} beside door{n}"}
        for n in range(1, 4)
    ]
    passes = {"narration_pass_1": {"narrations": narrations}}
    uids = ("train-1", "val-1", "test-1", "asked-1")
    corpus.write(tmp_path, [dict.fromkeys(uids, passes)])
    videos: list[dict[str, Any]] = [
        {"video_uid": uid, "duration_sec": 60, "split_em": uid[:-2]} for uid in uids
    ]
    (tmp_path / "ego4d.json").write_text(json.dumps({"videos": videos}))
    asked_clips = {"q": {"video_uid": "asked-1"}}
    (tmp_path / "uid_to_ego4d.json").write_text(json.dumps(asked_clips))
    config = config_of([CorpusConfig(reader="ego4d", root=str(tmp_path))])
    for answers in ("continuation", "templates"):
        config.answers = answers  # type: ignore[assignment]
        report = TeacherFreeReport()
        clips = [clip for clip, _ in teacher_free_answers(config, allow, report)]
        assert {clip.video_id for clip in clips} == {"train-1"}
        assert report.corpora[0].left_out["EgoSchema asks about its video"] == 3


def test_the_same_span_is_taken_once(tmp_path: Path) -> None:
    corpus = written_captions(tmp_path / "a", 1)
    path = tmp_path / "a" / "train.json"
    video = json.dumps(json.loads(path.read_text())["v_0"])
    path.write_text(f'{{"v_0": {video}, "v_1": {video}, "v_0": {video}}}')
    report = TeacherFreeReport()
    answers = list(teacher_free_answers(config_of([corpus]), allow, report))
    assert len({clip.id for clip, _ in answers}) == len(answers) == 6
    assert report.corpora[0].left_out[TWICE] == 3
    for _, draft in answers:
        for step in draft.steps:
            assert_sound(step.text)


def test_what_is_missing_is_said() -> None:
    with pytest.raises(ValueError, match=r"continuation needs .* teacher_free\.corpora"):
        next(teacher_free_answers(config_of([]), allow))


# --------------------------------------------------------------------------- shipped configurations


@pytest.mark.parametrize(
    "path", sorted((CONFIGS / "instructions").glob("*.yaml")), ids=lambda p: p.stem
)
def test_a_shipped_configuration_loads(path: Path) -> None:
    config: Any = merge_config(MakeInstructionsConfig, [str(path)])
    assert config.run_dir == f"runs/instructions/{path.stem}"
    assert bool(config.sources) == (config.answers == "teacher")
    assert bool(config.teacher_free.corpora) == (config.answers != "teacher")
    assert config.exclude or path.stem == "own_videos"


def test_the_ablation_trains_every_variant_on_as_many_samples() -> None:
    study: Any = merge_config(
        StudyConfig, [str(CONFIGS / "ablations" / "instructions.yaml")], ["seeds=[0]"]
    )
    runs = expand(study)
    assert {run.variant for run in runs} == {
        *("full", "no_synthetic_data", "teacher", "templates", "continuation")
    }
    for run in runs:
        corpora = run.training[-1].config.data.train
        assert sum((corpus.limit or 0) * corpus.weight for corpus in corpora) == 5000
        synthetic = [one for one in corpora if one.reader == "causal_vid_instruct"]
        assert len(synthetic) == (run.variant != "no_synthetic_data")
        if run.variant in ("teacher", "templates", "continuation"):
            name = "microworld" if run.variant == "teacher" else run.variant
            made = yaml.safe_load((CONFIGS / "instructions" / f"{name}.yaml").read_text())
            assert synthetic[0].root == f"{made['run_dir']}/set"
