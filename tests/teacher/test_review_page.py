"""The review page: rows as data, bounded size, and no text that is more than text."""

import json
import re
from html.parser import HTMLParser

import pytest
from reviewed_set import HOSTILE, accepted_row, rejected_row

from vidreason.evaluation.page.pictures import KeyFrame
from vidreason.teacher.review_items import MAX_ITEM_CHARS, page_item
from vidreason.teacher.review_page import ReviewRow, may_be_shared, write_review_page
from vidreason.teacher.review_sample import draw_rows
from vidreason.teacher.reviews import row_sha
from vidreason.video.failures import VideoReadError

MB = 2**20
PICTURE = "data:image/jpeg;base64," + "A" * 10_000


class Page(HTMLParser):
    """Elements of a page, and its texts by the innermost tag."""

    def __init__(self, path):
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.elements = []
        self.texts = {}
        self.feed(self.source)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.setdefault(self.elements[-1][0] if self.elements else "", []).append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def two_frames():
    return [KeyFrame(seconds=k + 0.5, num_objects=None, data_uri=PICTURE) for k in range(2)]


def unreadable():
    raise VideoReadError("/home/someone/clips/v.mp4", "missing", "no <b>such</b> file")


def page_row(row, verdict="accepted", frames=two_frames):
    return ReviewRow(
        row=row,
        split="train" if verdict == "accepted" else "rejected",
        verdict=verdict,
        frames=frames,
    )


def write(path, rows, **options):
    arguments = {"set_sha": "5e7" * 21 + "0", "facts": {"set": "tiny"}, "max_bytes": 2 * MB}
    return write_review_page(path, "Review", rows, **arguments | options)


def data_of(path):
    (text,) = re.findall(
        r'<script type="application/json" id="review-data">(.*?)</script>', path.read_text()
    )
    return json.loads(text)


def hostile(value):
    """A row whose texts, and names of fields, are all hostile."""
    match value:
        case str():
            return HOSTILE
        case list():
            return list(map(hostile, value))
        case dict():
            return {name: hostile(item) for name, item in value.items()}
    return value


def test_every_text_of_every_row_is_there_as_data(tmp_path):
    rows = [accepted_row(k) for k in range(3)]
    summary = write(
        tmp_path / "p.html", [*map(page_row, rows), page_row(rejected_row(9), "temporal")]
    )
    data = data_of(tmp_path / "p.html")
    assert (summary.num_rows, summary.num_with_frames, summary.restricted) == (4, 4, ("ego4d",))
    for row, item in zip([*rows, rejected_row(9)], data["items"], strict=True):
        assert item["id"] == row["id"]
        assert item["row_sha"] == row_sha(row)
        assert [step["text"] for step in item["steps"]] == row["causal_explanation"]
        assert [(step["start"], step["end"]) for step in item["steps"]] == [(0, 1.5), (1.5, None)]
        assert item["predictions"] == row["predictions"]
        assert item["licence"] == row["license_tag"]
        assert [frame["seconds"] for frame in item["frames"]] == [0.5, 1.5]
    accepted, rejected = data["items"][0], data["items"][3]
    assert dict(accepted["facts"])["teacher"] == "scripted"
    assert (accepted["prompt"], accepted["flags"]) == (
        "Explain step by step.",
        ["unsupported step 2"],
    )
    assert (rejected["verdict"], rejected["detail"]) == ("temporal", "step 2 is late")
    assert data["reasons"]["wrong_cause"] == "wrong cause"


def test_hostile_texts_stay_data(tmp_path):
    row = hostile(accepted_row(1)) | {HOSTILE: HOSTILE, "id": HOSTILE, "row": [{"deep": HOSTILE}]}
    path = tmp_path / "p.html"
    write(
        path,
        [page_row(row), page_row(rejected_row(1) | {"id": "2"}, "schema", unreadable)],
        facts={"set": HOSTILE},
    )
    parsed = Page(path)
    # Those of the page itself: its data, its script; no picture, no comment, no bold text.
    assert [attributes.get("type") for attributes in parsed.all("script")] == [
        "application/json",
        None,
    ]
    assert not parsed.all("img") + parsed.all("b")
    assert "<!--" not in parsed.source
    item, other = data_of(path)["items"]
    assert item["steps"][0]["text"] == HOSTILE
    assert item["id"] == HOSTILE.strip()
    assert other["missing"] == "no ?b?such?/b? file"
    (policy,) = [
        one["content"] for one in parsed.all("meta") if "Security" in one.get("http-equiv", "")
    ]
    assert "default-src 'none'" in policy
    assert "unsafe-inline'; script-src 'sha256-" in policy


def test_fields_of_any_form_give_an_item():
    values = (None, 17, True, "", "text", [], ["x"], {"a": 1}, [{"a": 1}], -0.5, 10**400, 1e400)
    fields = accepted_row(1)
    for name in fields:
        for value in values:
            item = page_item(fields | {name: value}, "train", "accepted")
            json.dumps(item, allow_nan=False)
    for name, value in (("step_times", [1, {}]), ("predictions", [1]), ("prediction", "Alone.")):
        json.dumps(page_item({"id": 1, name: value}, "val", "accepted"), allow_nan=False)
    alone = page_item({"prediction": "It stops."}, "train", "accepted")
    assert alone["predictions"] == [{"text": "It stops.", "confidence": None, "justification": ""}]


def test_a_long_row_is_cut_and_cannot_be_edited():
    assert not page_item(accepted_row(1), "train", "accepted")["is_cut"]
    row = accepted_row(1, causal_explanation=["x" * 10**7, "y"], teacher="t" * 10**7)
    item = page_item(row, "train", "accepted")
    assert item["is_cut"]
    assert len(json.dumps(item)) < MAX_ITEM_CHARS + 3000
    assert not page_item(accepted_row(1, teacher="t" * 10**6), "train", "accepted")["is_cut"]


def test_the_page_keeps_to_its_size(tmp_path):
    path = tmp_path / "p.html"
    rows = [page_row(accepted_row(k, causal_explanation=["<" * 100])) for k in range(80)]
    summary = write(path, rows, max_bytes=MB)
    assert path.stat().st_size == summary.num_bytes <= MB
    assert summary.num_bytes > 0.9 * MB
    items = data_of(path)["items"]
    assert 0 < summary.num_with_frames < len(rows)
    assert [bool(item["frames"]) for item in items] == (
        [True] * summary.num_with_frames + [False] * (80 - summary.num_with_frames)
    )
    assert items[-1]["missing"] == "the page has 1 MB (max_page_mb)"
    large = [page_row(accepted_row(k, causal_explanation=["<" * 6000])) for k in range(80)]
    with pytest.raises(ValueError, match=r"texts of 80 rows take more than 1 MB: .* \(num_rows\)"):
        write(path, large, max_bytes=MB)


def test_frames_that_may_not_be_passed_on(tmp_path):
    rows = [page_row(accepted_row(k)) for k in range(4)]
    path = tmp_path / "p.html"
    write(path, rows)
    (notice,) = [one for one in Page(path).texts["p"] if one.startswith("Keep this page on this")]
    assert "it shows frames of ego4d, whose licences do not allow" in notice
    summary = write(path, rows, frames="shareable")
    assert summary.restricted == ()
    assert "Keep this page on this" not in path.read_text()
    shown = {item["source"]: len(item["frames"]) for item in data_of(path)["items"]}
    assert shown == {"ego4d": 0, "world": 2}
    assert write(path, rows, frames="none").num_with_frames == 0
    free = ["CC0-1.0", "CC-BY-4.0", "cc-by-sa-3.0", "PDM-1.0"]
    closed = ["", "ego4d", "CC-BY-NC-4.0", "CC-BY-ND-4.0", "something_something", "CC-BY", "MIT"]
    assert list(map(may_be_shared, [*free, *closed])) == [True] * 4 + [False] * 7


def drawn(rows, **options):
    return draw_rows(rows, **{"num_rows": 12, "rejected_fraction": 0.5, "seed": 0} | options)


def set_of(**sizes):
    """Rows by source and verdict, such as ``a_accepted=3``."""
    return [
        (f"{key}{number}", "sha", *key.split("_", 1))
        for key, size in sizes.items()
        for number in range(size)
    ]


def test_the_sample_is_even_over_sources_and_causes():
    rows = set_of(a_accepted=500, b_accepted=500, c_accepted=1, a_temporal=400, b_length=30)
    sample = drawn(rows)
    kinds = [name.rstrip("0123456789") for name in sample.ids]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        **{"c_accepted": 1, "a_temporal": 3, "b_length": 3},
        **{"a_accepted": kinds.count("a_accepted"), "b_accepted": 5 - kinds.count("a_accepted")},
    }
    assert kinds.count("a_accepted") in (2, 3)
    assert sample.sizes["a", "accepted"] == 500
    # The order of the files does not matter for who is drawn; the seed does.
    assert drawn(rows[::-1]).ids == sample.ids
    assert drawn(rows, seed=1).ids != sample.ids
    assert drawn(rows).set_sha == sample.set_sha != drawn(rows[1:]).set_sha


def test_what_one_kind_cannot_fill_goes_to_the_other():
    sizes = {
        "few rejected": (9, 2, 10, 2),
        "few accepted": (3, 50, 3, 9),
        "few of all": (2, 3, 2, 3),
    }
    for what, (accepted, rejected, num_accepted, num_rejected) in sizes.items():
        ids = drawn(set_of(a_accepted=accepted, a_length=rejected)).ids
        kinds = [name.rstrip("0123456789") for name in ids]
        expected = (min(num_accepted, accepted), num_rejected)
        assert (kinds.count("a_accepted"), kinds.count("a_length")) == expected, what
    assert not {
        name
        for name in drawn(set_of(a_accepted=50, a_length=50), rejected_fraction=0).ids
        if "length" in name
    }
    with pytest.raises(ValueError, match="no rows to review"):
        drawn([])
    with pytest.raises(ValueError, match="the id 'a_accepted0' is there twice"):
        drawn(set_of(a_accepted=2) * 2)
