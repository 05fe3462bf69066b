"""Rules for resuming with another configuration: a table of all its fields.

A checkpoint carries the configuration that it was made with, and resuming restores what that says:
a learning rate, the optimizer's betas, the sample order. So a difference that changes what the run
learns is refused, because the checkpoint would silently win; one that decides only where, how fast
or how closely watched the run is takes effect.
"""

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from experiments.experiment_config import ExperimentConfig
from vidreason.key_paths import sections_in

Rule = Literal["result", "free", "content", "longer", "watched"]
"""``result``: what the run learns depends on it; refused. ``free``: may differ. ``content``: says
where something lies; the content hash in the checkpoint, or of the samples' ids, decides.
``longer``: may grow. ``watched``: free, unless the freeze schedule waits for a metric of the
validations."""

RULES: dict[str, Rule] = {
    **dict.fromkeys(("stage", "seed", "initial_checkpoint", "freeze_schedule"), "result"),
    **dict.fromkeys(("run_dir", "debug", "resume", "device", "model", "frozen_parts"), "free"),
    **dict.fromkeys(("video", "prompt", "predict", "controls", "perceive"), "free"),
    "baselines": "free",
    "sample_generations": "free",
    **dict.fromkeys(("evaluation", "decoding"), "watched"),
    # What a video's tokens are made from.
    **dict.fromkeys(("perceiver.sampling", "perceiver.tracks"), "result"),
    **dict.fromkeys(
        (
            *("perceiver.use_objects", "perceiver.objects_per_key_frame"),
            *("perceiver.kept_objects", "perceiver.min_object_share"),
            "perceiver.max_object_share",
        ),
        "result",
    ),
    "perceiver.video_encoder": "result",
    "perceiver.video_encoder.weights": "content",
    "perceiver.segmenter": "result",
    "perceiver.segmenter.weights": "content",
    "store.path": "free",
    "store.dtype": "result",
    **dict.fromkeys(("store.shard_megabytes", "store.flush_seconds", "store.check_media"), "free"),
    # The reasoner.
    "reasoner.fusion": "result",
    **dict.fromkeys(("reasoner.lora", "reasoner.system_prompt"), "result"),
    **dict.fromkeys(
        ("reasoner.language_model.name_or_path", "reasoner.language_model.revision"), "content"
    ),
    **dict.fromkeys(
        (
            *("reasoner.language_model.dtype", "reasoner.language_model.quantization"),
            "reasoner.language_model.attention",
        ),
        "result",
    ),
    "reasoner.language_model.gradient_checkpointing": "free",
    # The data. Their order depends neither on the batch size per device nor on workers.
    **dict.fromkeys(("data.train.reader", "data.train.split", "data.train.weight"), "result"),
    **dict.fromkeys(("data.train.limit", "data.train.columns"), "result"),
    **dict.fromkeys(("data.train.root", "data.train.revision", "data.train.name"), "content"),
    **dict.fromkeys(("data.train.media_dir", "data.train.allow_remote_media"), "content"),
    **dict.fromkeys(("data.validation", "data.benchmark"), "watched"),
    **dict.fromkeys(("data.batch_size", "data.num_workers"), "free"),
    **dict.fromkeys(("data.max_unreadable_fraction", "data.decode_timeout_seconds"), "free"),
    "data.max_malformed_fraction": "free",
    **dict.fromkeys(("data.global_batch_size", "data.max_text_tokens"), "result"),
    **dict.fromkeys(("data.long_prompts", "data.loss_on", "data.drop"), "result"),
    **dict.fromkeys(("data.limit", "data.overfit_batches"), "result"),
    "data.num_epochs": "longer",
    # How it trains.
    **dict.fromkeys(("optimizer", "weight_average"), "result"),
    **dict.fromkeys(("guard.skip_nonfinite", "guard.spike_deviations", "guard.window"), "result"),
    "guard.max_skipped": "free",
    **dict.fromkeys(
        (
            *("trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy"),
            *("trainer.sharded_checkpoints", "trainer.compile", "trainer.deterministic"),
            *("trainer.stop_after_steps", "trainer.log_every_n_steps"),
            *("trainer.checkpoint_every_n_steps", "trainer.keep_checkpoints", "trainer.keep_best"),
            *("trainer.monitor", "trainer.monitor_mode", "trainer.early_stopping_patience"),
            *("trainer.early_stopping_min_delta", "trainer.record_samples", "trainer.loggers"),
            *("trainer.save_reasoner", "trainer.profile_steps"),
            "trainer.rehearse_largest_batch",
        ),
        "free",
    ),
    **dict.fromkeys(("trainer.precision", "trainer.callbacks"), "result"),
    "trainer.validate_every_n_steps": "watched",
}
"""Rules by dotted key; a section's is that of its fields which are not listed. Those that list
their fields one by one are the ones whose fields differ."""

_PART_OF = {
    "reasoner.language_model.name_or_path": "language_model",
    "reasoner.language_model.revision": "language_model",
    "perceiver.video_encoder.weights": "video_encoder",
    "perceiver.segmenter.weights": "segmenter",
}
"""Frozen part whose content hash decides."""
_OBJECT_KEYS = (
    *("perceiver.segmenter", "perceiver.tracks", "perceiver.objects_per_key_frame"),
    *("perceiver.kept_objects", "perceiver.min_object_share", "perceiver.max_object_share"),
)

_ABSENT = "absent"


class Change(typing.NamedTuple):
    """A field in which two configurations differ."""

    key: str
    former: Any
    present: Any

    def __str__(self) -> str:
        return f"{self.key}: {self.former!r} -> {self.present!r}"


def rule_of(key: str) -> Rule | None:
    """The rule for a field by its dotted key; None if the table does not say."""
    name = _field(key)
    while name:
        if name in RULES:
            return RULES[name]
        name = name.rpartition(".")[0]
    return None


def learnt_settings(config: ExperimentConfig) -> dict[str, Any]:
    """The part of a configuration that decides what a run learns: values by dotted key.

    Where things lie counts; watching and validation do not.
    """
    return {
        key: value
        for key, value in _leaves(dataclasses.asdict(config))
        if rule_of(key) not in ("free", "watched")
    }


def refused_changes(
    former: Mapping[str, Any], present: Mapping[str, Any], hashed_parts: Mapping[str, str]
) -> list[Change]:
    """Return the differences between two configurations with which a run cannot continue.

    Args:
        former: That of the checkpoint, as plain values; what its version did not have counts as
            today's default.
        present: That of the run.
        hashed_parts: Content hashes of frozen parts in the checkpoint, which are compared when it
            is loaded.
    """
    # A schedule that waits for a metric depends on the validations.
    waits = any(
        thaw.get("when_metric")
        for config in (former, present)
        for thaw in config.get("freeze_schedule") or ()
    )
    return [
        change
        for change in changes(former, present)
        if not _is_unread(change.key, former, present)
        and not _may_be(change, hashed_parts, waits=waits)
    ]


def changes(former: Any, present: Any, key: str = "") -> Iterator[Change]:  # noqa: ANN401
    """List where two configurations of plain values differ."""
    if isinstance(former, Mapping) and isinstance(present, Mapping):
        for name, value in present.items():
            lower = f"{key}.{name}" if key else name
            before = former[name] if name in former else _default(lower)
            yield from changes(before, value, lower)
        # Names that a user gave are missed; keys of a section that a later version dropped are not.
        if not _is_section(key):
            for name in sorted(former.keys() - present.keys()):
                yield Change(f"{key}.{name}", former[name], _ABSENT)
        return
    # Lists of sections are compared item by item, other lists as a whole.
    lists = [value for value in (former, present) if isinstance(value, list | tuple)]
    if len(lists) == 2:
        if len(former) == len(present) and any(isinstance(value, Mapping) for value in present):
            for number, (one, other) in enumerate(zip(former, present, strict=True)):
                yield from changes(one, other, f"{key}.{number}")
            return
        # A tuple and a list of the same values are no difference.
        former, present = list(former), list(present)
    if former != present:
        yield Change(key, former, present)


def field_defaults(schema: type, key: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys of all fields of a configuration dataclass, and of those in its lists."""
    hints = typing.get_type_hints(schema)
    for field in dataclasses.fields(schema):
        name = f"{key}.{field.name}" if key else field.name
        nested = sections_in(hints[field.name])
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        if not nested or default is None:
            yield name, _ABSENT if default is dataclasses.MISSING else default
        for one in nested:
            yield from field_defaults(one, name)


def _field(key: str) -> str:
    """Return a dotted key without the indices of lists."""
    return ".".join(word for word in key.split(".") if not word.isdigit())


def _default(key: str) -> Any:  # noqa: ANN401 - of any field
    """Today's default of a field that a former configuration does not have."""
    name = _field(key)
    defaults = dict(field_defaults(ExperimentConfig))
    if name in defaults:
        return defaults[name]
    section: dict[str, Any] = {}
    return section if _is_section(key) else _ABSENT


def _is_section(key: str) -> bool:
    """Tell whether a key, or none at all, stands for a dataclass."""
    name = _field(key)
    return not name or any(
        other.startswith(f"{name}.") for other, _ in field_defaults(ExperimentConfig)
    )


def _may_be(change: Change, hashed_parts: Mapping[str, str], *, waits: bool) -> bool:
    rule = rule_of(change.key)
    if rule == "content":
        # Without weights they are drawn from a seed, and have no hash.
        part = _PART_OF.get(change.key)
        return part is None or (part in hashed_parts and "" not in (change.former, change.present))
    if rule == "longer":
        return bool(change.present > change.former)
    return rule == "free" or (rule == "watched" and not waits)


def _is_unread(key: str, *configs: Mapping[str, Any]) -> bool:
    """Tell whether nothing reads a field in either configuration, because of another one."""
    values = [dict(_leaves(config)) for config in configs]
    # Unread in both: a field that only one of them reads would begin to count, or cease to.
    if key.startswith(_OBJECT_KEYS) and not any(v.get("perceiver.use_objects") for v in values):
        return True
    if key.startswith("reasoner.fusion.") and key != "reasoner.fusion.kind":
        return all(v.get("reasoner.fusion.kind") == "mean_pool" for v in values)
    section, _, name = key.rpartition(".")
    # Read where a part has no weights, and is drawn at random.
    if name in ("seed", "allow_random_weights") and section.startswith("perceiver."):
        return all(v.get(f"{section}.weights") for v in values)
    return False


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of a configuration of plain values; lists count as one value."""
    for name, value in values.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{key}.")
        else:
            yield key, value
