"""Settings of a study: what each variant changes, and which jobs variants share."""

import dataclasses
from pathlib import Path

import pytest

from experiments.ablate.config import FULL, MicroworldStudy, StudyConfig, Variant
from experiments.ablate.study import Run, expand, study_variants
from experiments.demo.config import DemoConfig
from experiments.fit.resume_rules import learnt_settings
from experiments.jobs import unique_jobs
from experiments.trained_model import reasoner_folder
from vidreason.config import merge_config

SHIPPED = Path(__file__).parents[2] / "experiments" / "configs" / "ablations" / "microworld.yaml"
PAPERS = ["no_fusion_core", "no_objects", "no_stage2", "no_synthetic_data", "smaller_llm"]
OURS = ["no_token_positions", "no_stage1", "queries_8", "objects_2"]


@pytest.fixture(scope="module")
def config() -> StudyConfig:
    forms = ["nextqa", "activitynet_qa", "causal_vid_instruct"]
    return StudyConfig(
        run_dir="study",
        microworld=MicroworldStudy(demo=DemoConfig(forms=forms)),
        benchmark=["causal_vid_instruct"],
    )


@pytest.fixture(scope="module")
def runs(config: StudyConfig) -> dict[tuple[str, int], Run]:
    return {(run.variant, run.seed): run for run in expand(config)}


def changes(one: Run, other: Run, stage: int) -> dict[str, object]:
    """The settings of a training job that differ from the same stage's of another run."""
    a, b = (learnt_settings(run.training[stage].config) for run in (one, other))
    return {key: a[key] for key in a if a[key] != b[key] and key != "initial_checkpoint"}


def test_the_study_is_the_papers_table_and_ours_times_seeds(config, runs):
    assert list(study_variants(config)) == [FULL, *PAPERS, *OURS]
    assert {name for name, v in config.variants.items() if v.source == "paper"} == set(PAPERS)
    assert set(runs) == {(name, seed) for name in (FULL, *PAPERS, *OURS) for seed in range(3)}


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("no_fusion_core", {"reasoner.fusion.kind": "mean_pool"}),
        ("no_objects", {"perceiver.kept_objects": 0}),
        ("no_token_positions", {"reasoner.fusion.token_positions": "none"}),
        ("queries_8", {"reasoner.fusion.num_queries": 8}),
        ("objects_2", {"perceiver.kept_objects": 2}),
    ],
)
def test_a_variant_changes_one_thing_in_both_stages(runs, name, changed):
    for stage in (0, 1):
        assert changes(runs[name, 1], runs[FULL, 1], stage) == changed


def test_a_seed_changes_the_weights_and_the_order_of_the_data(runs):
    for stage in (0, 1):
        changed = changes(runs[FULL, 2], runs[FULL, 0], stage)
        assert changed == {"seed": 2}


def test_without_stage_2_the_full_systems_stage_1_is_evaluated(runs):
    full, one = runs[FULL, 0], runs["no_stage2", 0]
    assert one.training == (one.training[0],)
    assert one.training[0].key == full.training[0].key
    assert reasoner_folder(one.evaluation.config) == f"{full.training[0].folder}/reasoner"
    for name in ("benchmark", "num_epochs"):
        assert getattr(one.evaluation.config.data, name) == getattr(
            full.evaluation.config.data, name
        )


def test_without_stage_1_stage_2_starts_anew(runs):
    full, one = runs[FULL, 0], runs["no_stage1", 0]
    assert [job.config.stage for job in one.training] == ["instruction"]
    assert one.training[0].config.initial_checkpoint == ""
    first = full.training[0].folder
    assert full.training[1].config.initial_checkpoint == f"{first}/checkpoints/last.ckpt"
    assert not any("stage 1:" in job.title for job in unique_jobs([one.evaluation]))


def test_without_synthetic_data_stage_1_is_shared(runs):
    full, one = runs[FULL, 1], runs["no_synthetic_data", 1]
    assert one.training[0].key == full.training[0].key
    assert one.training[1].key != full.training[1].key
    readers = [corpus.reader for corpus in one.training[1].config.data.train]
    assert readers == ["nextqa", "activitynet_qa"]


def test_the_smaller_llm_is_pretrained_once_and_used_in_both_stages(runs):
    pretraining = {
        job.key: job
        for run in runs.values()
        for job in unique_jobs([run.evaluation])
        if job.program == "experiments.pretrain_microworld"
    }
    assert len(pretraining) == 1
    (job,) = pretraining.values()
    for training in runs["smaller_llm", 2].training:
        index = training.config.reasoner.language_model.name_or_path
        assert index == str(job.outputs[0])
        assert job.key in [need.key for need in training.needs]
    assert job.program_arguments[:5] == ["language_model", "--width", "96", "--layers", "2"]


def test_no_two_jobs_share_a_folder_and_all_share_one_store(runs):
    jobs = unique_jobs([run.evaluation for run in runs.values()])
    assert len({job.folder for job in jobs}) == len({job.key for job in jobs}) == len(jobs)
    assert {job.config.store.path for job in jobs if job.config is not None} == {"study/store"}
    programs = [job.program.split(".")[1] for job in jobs]
    counts = {name: programs.count(name) for name in dict.fromkeys(programs)}
    # Stage 1 of 7 variants and stage 2 of 9, under 3 seeds.
    assert counts == {"perceive": 2, "pretrain_microworld": 1, "fit": 48, "evaluate": 30}


def test_all_variants_answer_the_same_questions_and_full_is_also_blind(runs):
    for (name, _), run in runs.items():
        evaluated = run.evaluation.config
        benchmark = [(corpus.reader, corpus.split) for corpus in evaluated.data.benchmark]
        assert benchmark == [
            ("nextqa", "test"),
            ("activitynet_qa", "test"),
            ("causal_vid_instruct", "test"),
        ]
        assert evaluated.controls == (["none", "blind"] if name == FULL else ["none"])


def test_a_users_variant_is_added_and_chosen_by_overrides():
    config = merge_config(
        StudyConfig,
        [],
        [
            "microworld={}",
            "seeds=[5]",
            "variants.rank_4.both_stages=[optimizer.weight_decay=0.1]",
            "variants.rank_4.stage2=[reasoner.lora.rank=4]",
            "only=[rank_4]",
        ],
    )
    full, one = expand(config)
    assert (full.variant, one.variant, one.seed) == (FULL, "rank_4", 5)
    assert changes(one, full, 0) == {"optimizer.weight_decay": 0.1}
    assert changes(one, full, 1) == {"optimizer.weight_decay": 0.1, "reasoner.lora.rank": 4}


def test_the_shipped_study_trains_every_variant_alike(tmp_path):
    config = merge_config(StudyConfig, [str(SHIPPED)], ["only=[no_objects]", "seeds=[0]"])
    full, one = expand(config)
    stage1, stage2 = (job.config for job in full.training)
    assert (stage1.data.num_epochs, stage1.data.global_batch_size) == (6, 8)
    assert [corpus.weight for corpus in stage2.data.train] == [0.3, 0.3, 0.25]
    assert {Path(corpus.root).parts[:-1] for corpus in stage2.data.train} == {
        ("runs", "ablation", "world")
    }
    for stage in (0, 1):
        assert changes(one, full, stage) == {"perceiver.kept_objects": 0}


@pytest.mark.slow
def test_what_a_job_does_not_depend_on_does_not_change_it():
    config = StudyConfig(microworld=MicroworldStudy(), only=["no_stage1"], seeds=[0])
    other = dataclasses.replace(
        config,
        max_parallel=2,
        microworld=MicroworldStudy(demo=DemoConfig(num_workers=0)),
        both_stages=["trainer.log_every_n_steps=3"],
    )
    assert [run.evaluation.key for run in expand(config)] == [
        run.evaluation.key for run in expand(other)
    ]
    longer = dataclasses.replace(config, both_stages=["data.num_epochs=3"])
    assert not {run.evaluation.key for run in expand(config)} & {
        run.evaluation.key for run in expand(longer)
    }


@pytest.mark.slow
def test_a_study_of_yaml_files_needs_to_know_the_smaller_llm(tiny_experiment, tmp_path):
    stage1 = tmp_path / "stage1.yaml"
    stage1.write_text("stage: alignment\nreasoner: {lora: null}\n")
    files = {"stage1": [str(tiny_experiment), str(stage1)], "stage2": [str(tiny_experiment)]}
    with pytest.raises(ValueError, match="'smaller_llm' wants a smaller LLM"):
        expand(StudyConfig(**files))
    runs = expand(StudyConfig(**files, smaller_language_model="small", seeds=[0]))
    smaller = next(run for run in runs if run.variant == "smaller_llm")
    for job in smaller.training:
        assert job.config.reasoner.language_model.name_or_path == "small"
    assert [job.config.stage for job in smaller.training] == ["alignment", "instruction"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "stage1 and stage2 are empty"),
        ({"microworld": MicroworldStudy(), "only": ["nothing"]}, "unknown variants"),
        ({"microworld": MicroworldStudy(), "seeds": [1, 1]}, "seeds: expected one or more"),
        ({"microworld": MicroworldStudy(), "variants": {"a": Variant()}}, "there is no 'full'"),
        ({"microworld": MicroworldStudy(), "max_parallel": 0}, "max_parallel is 0"),
    ],
)
def test_a_wrong_study_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        StudyConfig(**wrong)


def test_a_variant_that_leaves_nothing_to_train_on_is_refused():
    variant = Variant(without_corpora=["webvid"])
    config = StudyConfig(
        microworld=MicroworldStudy(), variants={FULL: Variant(), "nothing": variant}
    )
    with pytest.raises(ValueError, match="'nothing': without_corpora"):
        expand(config)
