"""Files of frame-wise labels, and event logs, as recordings of segments."""

from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

from data_modules.event_segments import BEGINNING, event_of_step, event_recordings
from data_modules.files import Files
from data_modules.readers import READERS
from data_modules.segment_labels import read_segment_labels
from data_modules.skipped_rows import SkippedRows
from vidreason.baselines.anticipation.segments import Recording, Segment, vocabulary
from vidreason.example import Example
from vidreason.microworld.corpora import WorldConfig, split_rollouts, write_world
from vidreason.microworld.language import next_sentence, sentence
from vidreason.reasoning.outcomes import Outcome, outcome_meta
from vidreason.reasoning.prompts import CAPTION_PROMPT, EVENT_REASONING_PROMPT
from vidreason.video.reader import VideoReader

SOUND = {"P03_cereals": "SIL\nSIL\npour_milk\n", "P04_eggs": "pour_milk\r\nfry_egg\r\nfry_egg"}


def write(root: Path, bundle: str, files: dict[str, str | bytes]) -> Path:
    """Write the layout of Breakfast."""
    for folder in ("groundTruth", "splits", "videos"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "mapping.txt").write_text("0 SIL\n1 pour_milk\n2 fry_egg\n")
    (root / "splits" / "train.split1.bundle").write_text(bundle)
    for name, content in files.items():
        content = content.encode() if isinstance(content, str) else content
        (root / "groundTruth" / f"{name}.txt").write_bytes(content)
    return root


def read(root: Path, skipped: SkippedRows | None = None) -> list[Recording]:
    return list(read_segment_labels(Files(root), "train.split1", skipped or SkippedRows()))


def test_both_released_forms_of_a_bundle_are_read(tmp_path: Path) -> None:
    for bundle in (
        "#bundle\n./data/groundTruth/P03_cereals.txt\n./data/groundTruth/P04_eggs.txt\n",
        "P03_cereals.txt\r\n\r\nP04_eggs\r\n",
    ):
        root = write(tmp_path, bundle, dict(SOUND))
        (root / "videos" / "P04_eggs.avi").touch()
        first, second = read(root)
        assert (first.video_id, first.media, first.length) == ("P03_cereals", "", 3)
        assert first.segments == (Segment("SIL", 2), Segment("pour_milk", 1))
        assert second.segments == (Segment("pour_milk", 1), Segment("fry_egg", 2))
        assert second.media == str(root / "videos" / "P04_eggs.avi")
        assert vocabulary([first, second]) == ("SIL", "fry_egg", "pour_milk")


def test_damage_of_one_video_is_counted_and_named(tmp_path: Path) -> None:
    damaged: dict[str, str | bytes] = {
        "gap": "SIL\n\nSIL\n",
        "unknown": "SIL\npour_beer\n",
        "not_text": b"SIL\n\xff\xfe\nSIL\n",
        "cut": b"SIL\npour_mil\xc3",
        "null": "SIL\n\0\n",
        "long": "x" * 300 + "\n",
        "empty": "",
    }
    names = [*SOUND, *damaged, "missing", "../../etc/passwd", "P03_cereals"]
    root = write(tmp_path, "".join(f"{name}.txt\n" for name in names), {**SOUND, **damaged})
    skipped = SkippedRows(max_malformed_fraction=1.0, quiet=True)
    assert [one.video_id for one in read(root, skipped)] == list(SOUND)
    assert skipped.num_read == 2
    assert dict(skipped.causes) == {
        "malformed": 7,
        "its file of labels is empty": 1,
        "the video has no file of labels": 2,
    }
    said = "\n".join(skipped.malformed)
    for message in (
        "gap.txt:2: expected the label of a frame, found ''",
        "unknown.txt:2: the label 'pour_beer' is not named in mapping.txt",
        "not_text.txt:2",
        "cut.txt:2",
        "null.txt:2",
        "long.txt:1: expected the label of a frame",
        "train.split1.bundle:12: the video 'P03_cereals' is there twice",
    ):
        assert message in said
    with pytest.raises(ValueError, match="of the corpus"):
        skipped.check_malformed(0.1)


def test_damage_of_a_whole_file_ends_the_reading(tmp_path: Path) -> None:
    root = write(tmp_path, "P03_cereals.txt\n", dict(SOUND))
    for mapping, message in (
        ("0 SIL\n1\n", r"mapping.txt:2: expected 'INDEX LABEL', found '1'"),
        ("0 SIL\n0 pour_milk\n", r"mapping.txt:2: the label or the index is there twice"),
        ("\n", r"mapping.txt names no label"),
    ):
        (root / "mapping.txt").write_text(mapping)
        with pytest.raises(ValueError, match=message):
            read(root)
    (root / "mapping.txt").unlink()
    assert len(read(root)) == 1
    (root / "splits" / "train.split1.bundle").write_text("#bundle\n")
    with pytest.raises(ValueError, match="names no video"):
        read(root)
    (root / "splits" / "train.split1.bundle").unlink()
    with pytest.raises(ValueError, match="there is no file"):
        read(root)


# Event logs.

VIDEO = str(Path(__file__).parents[1] / "assets" / "cases" / "pixels_square.mp4")
STEPS = (
    "1. the red circle hits the blue square, so the blue square starts moving\n"
    "2. the wall blocks the blue square, so it stops\n"
    "3. a green circle enters from the left and moves on"
)


def rows(
    caption: str, steps: str = STEPS, outcome: Outcome | None = None, media: str = VIDEO
) -> list[Example]:
    """Rows of the corpora about one video."""
    shared: dict[str, Any] = {"media": media, "video_id": "7", "corpus": "causal_vid_instruct"}
    outcome = outcome or Outcome("the green circle leaves on the right", "leave", 0.25)
    kinds = {"explanation": (EVENT_REASONING_PROMPT, steps, {}), "prediction": ("p", "r", None)}
    examples = [
        Example(
            id=f"x:train:7:{kind}",
            prompt=prompt,
            response=response,
            question_type=kind,
            meta=outcome_meta(outcome, ()) if meta is None else meta,
            **shared,
        )
        for kind, (prompt, response, meta) in kinds.items()
    ]
    captioned = {**shared, "media": "elsewhere.mp4", "corpus": "webvid"}
    return [*examples, Example(id="w:7", prompt=CAPTION_PROMPT, response=caption, **captioned)]


def test_events_become_segments() -> None:
    duration = VideoReader().index(VIDEO).duration_seconds
    assert duration > 0.5
    caption = (
        "a wall from a1 to b2. a red circle moves fast right at c3. the red circle hits the blue "
        "square after 0.1 seconds. the wall blocks the blue square after 0.3 seconds. a green "
        "circle enters from the left after 0.5 seconds. the green circle is still moving."
    )
    skipped = SkippedRows(quiet=True)
    (recording,) = event_recordings(rows(caption), skipped)
    assert [part.label for part in recording.segments] == [
        BEGINNING,
        "the red circle hits the blue square",
        "the wall blocks the blue square",
        "a green circle enters from the left",
        "the green circle leaves on the right",
    ]
    lengths = [part.length for part in recording.segments]
    assert lengths[:4] == pytest.approx([10, 20, 20, (duration - 0.5 + 0.25) * 100])
    assert recording.observed == pytest.approx(duration * 100)
    assert recording.is_timed
    nothing = Outcome("nothing happens", "nothing", None)
    (recording,) = event_recordings(rows(caption, outcome=nothing), skipped)
    assert not recording.is_timed
    assert skipped.num_read == 2


def test_event_logs_that_do_not_agree_are_counted() -> None:
    skipped = SkippedRows(quiet=True)
    hit = "the red circle hits the blue square after {} seconds. "
    rest = "the wall blocks the blue square after 0.3 seconds. a green circle enters from the left"
    told = [
        hit.format(0.1) + rest + ".",
        hit.format(0.4) + rest + " after 0.5 seconds.",
        "",
    ]
    for caption in told:
        assert not list(event_recordings(rows(caption), skipped))
    sound = hit.format(0.1) + rest + " after 0.5 seconds."
    assert not list(event_recordings(rows(sound, media="/missing/7.mp4"), skipped))
    assert skipped.num_skipped == 4
    assert len(skipped.causes) == 2
    # A row without an outcome says nothing about the future.
    assert not list(event_recordings(rows(sound)[:1], skipped))
    assert skipped.num_skipped == 4


def test_events_of_steps() -> None:
    texts = {
        "a hits b, so b starts moving": "a hits b",
        "a leaves on the left because nothing stops it": "a leaves on the left",
        "a sofa enters and moves on": "a sofa enters",
        "a b.": "a b",
    }
    assert {step: event_of_step(step) for step in texts} == texts


def test_the_rows_of_the_microworld_become_segments(tmp_path: Path) -> None:
    """Its public rows are enough; the simulator gives the truth to compare them with."""
    config = WorldConfig(num_videos={"train": 6})
    write_world(tmp_path, config)
    examples = [
        example
        for reader in ("causal_vid_instruct", "webvid")
        for example in READERS[reader].read(Files(tmp_path / reader), "train", SkippedRows())
    ]
    skipped = SkippedRows(quiet=True)
    recordings = {one.video_id: one for one in event_recordings(examples, skipped)}
    assert not skipped.num_skipped
    for video_id, rollout in split_rollouts("train", config).items():
        recording = recordings[video_id]
        events = [sentence(rollout, event) for event in rollout.happened()]
        labels = [part.label for part in recording.segments if part.label != BEGINNING]
        assert labels == [*events, next_sentence(rollout, rollout.next_event())]
        # A caption tells times to half a second.
        ends = list(accumulate(part.length / 100 for part in recording.segments))
        for event, end in zip(reversed(rollout.happened()), reversed(ends[:-2]), strict=False):
            assert end == pytest.approx(event.time, abs=0.35)
