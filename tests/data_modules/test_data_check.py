"""The health report: planted damage and planted copies are found, and nothing else is."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from strange_decoder import strange_decoder
from video_copies import write_copy

from data_modules.contamination import ContaminationCheck
from data_modules.corpora import CorpusConfig, DataConfig
from data_modules.data_check import DataCheckConfig, DataReport, check_data
from data_modules.health import PERCENTILES, VideoSample, percentiles
from experiments.data.report import _notes
from vidreason.example import Example
from vidreason.microworld.renderer import write_video
from vidreason.microworld.scenes import draw_rollouts
from vidreason.near_texts import TextIndex

CASES = Path(__file__).parents[1] / "assets" / "cases"
CAPTION = "a red ball rolls along the floor and hits the large blue box at the wall"


def example(number: int, corpus: str = "webvid", **changes: object) -> Example:
    values = {
        "id": f"{corpus}:train:{number}",
        "corpus": corpus,
        "media": f"/nowhere/{corpus}/{number}.mp4",
        "video_id": str(number),
        "prompt": "Describe the video.",
        "response": f"caption {number}",
    }
    return Example(**(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "similarity"),
    [
        (CAPTION, 1.0),
        (f"  {CAPTION.upper()}!", 1.0),
        (CAPTION + " again", 14 / 15),
        (CAPTION.replace("red", "green"), None),  # 12 of 16 in common: 0.75
        ("a red ball rolls along the floor", None),  # too short
        ("the wall at the box blue large hits and floor along rolls ball red", None),
    ],
)
def test_nearly_equal_texts(text: str, similarity: float | None) -> None:
    index = TextIndex(min_similarity=0.8)
    generator = np.random.default_rng(0)
    for number in range(300):
        words = generator.choice(CAPTION.split(), 15)
        index.add(f"other {number}", " ".join(words))
    index.add("planted", CAPTION)
    match = index.find(text)
    if similarity is None:
        assert match is None
    else:
        assert match is not None
        assert match.name == "planted"
        assert match.similarity == pytest.approx(similarity)


def test_text_recall_near_the_threshold() -> None:
    """One of 32 words changed: 27 of 33 sequences in common, 0.82."""
    generator = np.random.default_rng(1)
    vocabulary = [f"word{number}" for number in range(1000)]
    index = TextIndex(min_similarity=0.8)
    texts = [generator.choice(vocabulary, 32) for _ in range(200)]
    for number, words in enumerate(texts):
        index.add(str(number), " ".join(words))
    num_found = 0
    for number, words in enumerate(texts):
        words[15] = "changed"
        match = index.find(" ".join(words))
        num_found += match is not None and match.name == str(number)
    assert num_found == len(texts)


def test_matches_by_id_and_file_and_what_is_no_match(tmp_path: Path) -> None:
    check = ContaminationCheck(0.8)
    (tmp_path / "a.mp4").write_bytes(b"a")
    (tmp_path / "link.mp4").hardlink_to(tmp_path / "a.mp4")
    for number, changes in enumerate(
        (
            {"video_id": "abcdefghijk"},
            {"video_id": "12345"},
            {"media": str(tmp_path / "a.mp4")},
            {"media": "/s.tar#offset=512&size=9&name=a.mp4"},
        )
    ):
        check.add_evaluation(example(number, "activitynet_qa", **changes))
    check.check(example(10, "hd_vila", video_id="abcdefghijk"))
    check.check(example(11, "llava", video_id="folder/v_abcdefghijk"))
    check.check(example(12, "webvid", video_id="12345"))  # numbers of two corpora: by chance
    check.check(example(13, "activitynet_qa", video_id="12345"))
    check.check(example(14, media=str(tmp_path / "link.mp4")))
    check.check(example(15, media="/s.tar#offset=512&size=9&name=a.mp4"))
    check.check(example(16, media="/s.tar#offset=4096&size=9&name=a.mp4"))
    report = check.report()
    assert report.num_training_examples == {"id": 3, "file": 2, "video": 0, "text": 0}
    assert report.num_evaluation_videos_found == {"id": 2, "file": 2, "video": 0, "text": 0}
    assert report.contaminated_fraction == 1.0
    assert {match.training_id.rpartition(":")[2] for match in report.matches} == set(
        ("10", "11", "13", "14", "15")
    )


def test_the_sample_of_videos_does_not_depend_on_their_order() -> None:
    examples = [example(number // 3) for number in range(300)]  # three questions a video
    one, other = VideoSample(20), VideoSample(20)
    for item in examples:
        one.add(item)
    for item in reversed(examples):
        other.add(item)
    media = [item.media for item in one]
    assert len(set(media)) == len(media) == 20
    assert media == [item.media for item in other]
    none = VideoSample(0)
    none.add(examples[0])
    assert list(none) == []


def test_percentiles_of_counts() -> None:
    values = np.random.default_rng(0).integers(0, 50, 1000)
    expected = np.percentile(values, PERCENTILES, method="inverted_cdf")
    assert percentiles(Counter(values.tolist())) == expected.tolist()
    assert percentiles(Counter()) == []


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("videos")
    paths = []
    for number, rollout in draw_rollouts("train", 10, 5):
        paths.append(folder / f"{number}.mp4")
        write_video(rollout, paths[-1])
    return paths


def write_webvid(root: Path, split: str, videos: dict[str, Path | None], captions: str) -> None:
    rows = [f"{name},{captions} {name},\n" for name in videos]
    root.mkdir(exist_ok=True)
    (root / f"{split}.csv").write_text("videoid,name,page_dir\n" + "".join(rows))
    (root / "videos").mkdir(exist_ok=True)
    for name, path in videos.items():
        if path is not None:
            shutil.copyfile(path, root / "videos" / f"{name}.mp4")


def corpora(root: Path, **changes: object) -> DataConfig:
    return DataConfig(
        train=[CorpusConfig(reader="webvid", root=str(root / "t"))],
        benchmark=[CorpusConfig(reader="webvid", root=str(root / "b"), split="test")],
        **changes,  # type: ignore[arg-type]
    )


def test_planted_copies_under_other_names_are_the_only_contamination(
    videos: list[Path], tmp_path: Path
) -> None:
    planted = {
        "re-encoded": write_copy(videos[5], tmp_path / "0.mp4", crf=35, scale=0.5),
        "mirrored": write_copy(videos[6], tmp_path / "1.mp4", mirrored=True, crf=30),
        "trimmed": write_copy(videos[7], tmp_path / "2.mp4", first=0.1, last=0.8, crf=30),
    }
    training = {f"t{number}": path for number, path in enumerate(videos[:5])}
    write_webvid(tmp_path / "t", "train", training | planted, "clip number")
    evaluation = {f"e{number}": path for number, path in enumerate(videos[5:])}
    write_webvid(tmp_path / "b", "test", evaluation, "clip number")
    report = check_data(corpora(tmp_path), DataCheckConfig(), tmp_path / "scratch")
    contamination = report.contamination
    assert contamination is not None
    pairs = {(m.training_id, m.evaluation_id) for m in contamination.matches if m.kind == "video"}
    assert pairs == {
        ("webvid:train:re-encoded", "webvid:test:e0"),
        ("webvid:train:mirrored", "webvid:test:e1"),
        ("webvid:train:trimmed", "webvid:test:e2"),
    }
    assert (contamination.num_evaluation_hashes, contamination.num_training_hashes) == (5, 8)
    assert contamination.num_training_examples == {"id": 0, "file": 0, "video": 3, "text": 0}
    assert contamination.contaminated_fraction == pytest.approx(0.6)
    (problem,) = report.problems
    assert problem.startswith("60.0% of the 5 evaluation videos are in the training data")
    tolerant = DataCheckConfig(max_contaminated_fraction=0.6, hash_videos=0)
    assert check_data(corpora(tmp_path), tolerant, tmp_path / "scratch").problems == []


def test_ids_that_are_numbers_are_compared_under_all_names_of_a_format(
    videos: list[Path], tmp_path: Path
) -> None:
    write_webvid(tmp_path / "t", "train", {"17": videos[0], "18": videos[1]}, "clip number")
    write_webvid(tmp_path / "b", "test", {"17": videos[2]}, "clip number")
    data = corpora(tmp_path)
    data.train[0].name = "mine"
    settings = DataCheckConfig(hash_videos=0, probe_videos=0)
    report = check_data(data, settings, tmp_path / "scratch")
    assert report.contamination is not None
    (match,) = (match for match in report.contamination.matches if match.kind == "id")
    assert (match.training_id, match.evaluation_id) == ("mine:train:17", "webvid:test:17")


def test_what_is_wrong_with_a_corpus(videos: list[Path], tmp_path: Path) -> None:
    media = {"good": videos[0], "gone": None, "torn": videos[1], "empty": None}
    write_webvid(tmp_path / "t", "train", media, "some words")
    torn = tmp_path / "t/videos/torn.mp4"
    torn.write_bytes(torn.read_bytes()[:2000])
    (tmp_path / "t/videos/empty.mp4").touch()
    csv = tmp_path / "t/train.csv"
    csv.write_text(csv.read_text() + "silent,None,\ngood,the same id,\n")
    write_webvid(tmp_path / "b", "test", {"x": videos[2]}, "a")
    (tmp_path / "b/test.csv").write_text("videoid,name,page_dir\nx,fine,\ny,cut o")
    report = check_data(
        corpora(tmp_path), DataCheckConfig(max_skipped_fraction=0.1), tmp_path / "scratch"
    )
    bench, train = report.corpora
    assert (train.num_examples, train.num_videos, train.num_duplicate_ids) == (5, 4, 1)
    assert train.media == {"there": 3, "missing": 1, "empty": 1}
    assert train.skipped == {"no caption (column 'name')": 1}
    assert (train.num_probed, train.unreadable) == (2, {"truncated": 1})
    assert train.resolutions == {"128x128": 1}
    assert train.duration_seconds == [6.0] * len(PERCENTILES)
    assert train.answer_words == [3.0] * len(PERCENTILES)
    assert "webvid:train:torn: cannot read video" in train.unreadable_examples[0]
    assert (bench.num_examples, bench.num_probed) == (1, 1)
    assert "test.csv:3: the last row has no line end" in bench.error
    shown = "\n".join(report.problems)
    for part in (
        r"benchmark webvid:test: ",
        "train webvid:train: 1 rows have an id that another one has, such as 'webvid:train:good': "
        "each row needs an id of its own",
        "40.0% of the examples have no video ({'missing': 1, 'empty': 1})",
        "1 of 2 probed videos cannot be read ({'truncated': 1})",
        "1 rows were left out, of 5 examples",
    ):
        assert part in shown
    assert len(report.problems) == 5
    (row,) = (tmp_path / "scratch/skipped-train-webvid-train.jsonl").read_text().splitlines()
    assert json.loads(row)["place"] == f"{csv}:6"
    assert sorted(path.suffix for path in (tmp_path / "scratch").iterdir()) == [".jsonl"] * 2
    json.dumps(report, default=vars)


def test_decoding_finds_what_an_index_does_not(videos: list[Path], tmp_path: Path) -> None:
    write_webvid(tmp_path / "t", "train", {"rotten": videos[0]}, "some words")
    path = tmp_path / "t/videos/rotten.mp4"
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 1500] = bytes(1500)
    path.write_bytes(data)

    def report(num_decoded: int) -> DataReport:
        data = DataConfig(train=[CorpusConfig(reader="webvid", root=str(tmp_path / "t"))])
        config = DataCheckConfig(decode_videos=num_decoded, hash_videos=0)
        return check_data(data, config, tmp_path / "scratch")

    (indexed,) = report(0).corpora
    assert (indexed.num_probed, indexed.num_decoded, indexed.unreadable) == (1, 0, {})
    (decoded,) = report(1).corpora
    assert (decoded.num_decoded, decoded.unreadable) == (1, {"decode-error": 1})
    assert report(1).contamination is None


def test_videos_whose_times_are_not_their_own_are_counted(tmp_path: Path) -> None:
    media = {"odd": CASES / "one_repeated_timestamp.mkv", "sound": CASES / "pixels_square.mp4"}
    write_webvid(tmp_path / "t", "train", media, "some words")
    data = DataConfig(train=[CorpusConfig(reader="webvid", root=str(tmp_path / "t"))])
    report = check_data(data, DataCheckConfig(hash_videos=0), tmp_path / "scratch")
    (corpus,) = report.corpora
    assert (corpus.num_probed, corpus.unreadable) == (2, {})
    assert corpus.remarks == {"times-filled-in": 1}
    assert "probed videos whose times are not all their own: 1 x times-filled-in" in _notes(corpus)


def test_a_video_that_hangs_is_given_up(
    videos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {"hanging": videos[0], "good": videos[1]}
    write_webvid(tmp_path / "t", "train", names, "some words")
    write_webvid(tmp_path / "v", "validation", {"hanging too": videos[2]}, "other words")
    corpora = {
        name: [CorpusConfig(reader="webvid", root=str(tmp_path / name[0]), split=name)]
        for name in ("train", "validation")
    }
    data = DataConfig(**corpora, decode_timeout_seconds=0.3)  # type: ignore[arg-type]
    with strange_decoder(tmp_path, monkeypatch):
        report = check_data(data, DataCheckConfig(decode_videos=1), tmp_path / "scratch")
    held_out, trained = report.corpora
    assert held_out.unreadable == trained.unreadable == {"timed-out": 1}
    assert (trained.num_probed, len(trained.resolutions)) == (2, 1)
    assert report.num_not_hashed == 2


def test_the_configuration_is_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data_check.probe_videos is -1"):
        DataCheckConfig(probe_videos=-1)
    with pytest.raises(ValueError, match=r"data_check.max_skipped_fraction is 2"):
        DataCheckConfig(max_skipped_fraction=2)
    with pytest.raises(ValueError, match=r"data_check.min_text_similarity is 0"):
        DataCheckConfig(min_text_similarity=0)
    with pytest.raises(ValueError, match="are empty; name a corpus"):
        check_data(DataConfig(), DataCheckConfig(), tmp_path)
