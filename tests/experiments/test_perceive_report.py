"""The end of ``perceive`` says what the tokens hold, and what could not be read."""

import pytest

from experiments.perceive.pool import Seen
from experiments.perceive.run import Counts, report
from vidreason.config import config_from_values
from vidreason.perception.config import PerceiverConfig
from vidreason.video.failures import FailureLog, VideoFailure

NUM_CLIPS = 4


def counted(*tokens_of_videos: int, **others: int) -> Counts:
    counts = Counts(**others)
    for number, num_tokens in enumerate(tokens_of_videos):
        counts.add(Seen("stored" if number % 2 else "perceived", num_tokens), NUM_CLIPS)
    return counts


def lines(counts: Counts, failures: FailureLog, use_objects: bool = True) -> list[str]:
    values = {"sampling": {"num_clips": NUM_CLIPS}, "use_objects": use_objects}
    return report(counts, config_from_values(PerceiverConfig, values, "a test"), failures)


@pytest.fixture
def failures(tmp_path):
    return FailureLog(tmp_path / "failures.jsonl", 1.0, 10)


def test_what_the_tokens_hold(failures):
    assert lines(counted(4, 10, 7), failures) == [
        "perceived 2 videos, found 1 in the store, could not read 0",
        "visual tokens: 12 clips and 9 objects on key frames; 1 of 3 videos have no object",
    ]


def test_what_a_crash_has_taken_back_is_not_counted():
    counts = counted(4, 10, 7)
    counts.add(Seen("lost", 7), NUM_CLIPS)
    counts.add(Seen("lost", 4), NUM_CLIPS)
    counts.add(Seen("alias"), NUM_CLIPS)
    assert counts == Counts(stored=1, perceived=0, objects=6, without_objects=0)


@pytest.mark.parametrize(("num_without", "is_said"), [(94, False), (95, True), (100, True)])
def test_a_segmenter_that_finds_nothing_is_said_with_the_keys_that_help(
    failures, num_without, is_said
):
    counts = counted(*[4] * num_without, *[5] * (100 - num_without))
    text = "\n".join(lines(counts, failures))
    assert (f"WARNING: the segmenter finds no object in {num_without}%" in text) == is_said
    for key in ("pred_iou_threshold (0.88)", "stability_threshold (0.95)", "name (sam-vit-h)"):
        assert (f"perceiver.segmenter.{key}" in text) == is_said
    # Where nobody looks for objects, nobody misses them.
    (_, last) = lines(counts, failures, use_objects=False)
    assert last.endswith("objects are switched off (perceiver.use_objects=false)")


def test_what_could_not_be_read_is_said_with_its_file(failures, tmp_path):
    for number, cause in enumerate(("missing", "truncated", "missing")):
        failures.record(1, [VideoFailure(f"id {number}", f"{number}.mp4", cause)])
    said = lines(counted(unreadable=3), failures)
    assert said == [
        "perceived 0 videos, found 0 in the store, could not read 3",
        f"not read: 2 x missing, 1 x truncated; each is listed in {tmp_path / 'failures.jsonl'}",
        "visual tokens: 0 clips and 0 objects on key frames; 0 of 0 videos have no object",
    ]


def test_what_is_still_to_come_is_not_shown_as_missing_videos():
    shown = Counts(missing=12, unreadable=3).shown()
    assert "missing" not in shown
    assert shown["unreadable"] == 3
