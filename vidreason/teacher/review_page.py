"""The review page: one HTML file on which a person accepts, rejects or edits answers.

It works without a server or a network. Decisions stay in the browser's storage, under the set's
hash and the reviewer's name, until they are saved as a review file
(:mod:`vidreason.teacher.reviews`). All texts of models and data sets go in as data.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Literal

from vidreason.evaluation.page import elements
from vidreason.evaluation.page.elements import data_element, header_element, write_page
from vidreason.evaluation.page.pictures import KeyFrame
from vidreason.reasoning.predictions import MAX_PREDICTIONS
from vidreason.secrets import printable
from vidreason.teacher.review_items import page_item
from vidreason.teacher.reviews import MAX_NAME_CHARS, MAX_STEPS, MAX_TEXT_CHARS, REASONS
from vidreason.video.failures import VideoReadError

FramesShown = Literal["all", "shareable", "none"]

_ASSETS = Path(__file__).with_name("page")
_BROWSER_STYLE = Path(elements.__file__).with_name("browser.css")
_FREE_LICENCE = re.compile(r"(?i)(?:CC0|CC-BY(?:-SA)?|PDM)-\d[\d.]*")
_MAX_MISSING_CHARS = 300
# Of what stands in place of a clip's frames, escaped.
_MISSING_BYTES = 400


@dataclass(frozen=True, kw_only=True)
class ReviewRow:
    """A row of a set, or an answer that the gate rejected, as its file has it."""

    row: Mapping[str, Any]
    split: str
    """Name of its file: a split, or ``rejected``."""
    verdict: str
    """``accepted``, or the cause of the rejection."""
    frames: Callable[[], list[KeyFrame]]
    """Reads the clip's frames, with seconds from the start of the clip; raises
    ``VideoReadError``."""


@dataclass(frozen=True, kw_only=True)
class PageSummary:
    """Content of a page that was written."""

    num_rows: int
    num_bytes: int
    num_with_frames: int
    restricted: tuple[str, ...]
    """Sources whose frames are in it though their licences do not allow to pass them on."""


def may_be_shared(licence: str) -> bool:
    """Return whether frames under this tag may be passed on: CC0, CC BY, CC BY-SA, public domain.

    Every other tag, known or not, counts as one that does not allow it, as the terms of Ego4D and
    Something-Something do not.
    """
    return bool(_FREE_LICENCE.fullmatch(licence.strip()))


def write_review_page(
    path: Path,
    title: str,
    rows: Iterable[ReviewRow],
    *,
    set_sha: str,
    facts: Mapping[str, str],
    frames: FramesShown = "all",
    max_bytes: int,
    hides_verdicts: bool = False,
) -> PageSummary:
    """Write the page; its size is at most ``max_bytes``.

    Where the frames of all clips are too large, the last rows have none and say so.

    Args:
        path: Where to.
        title: In words.
        rows: In the order in which they are shown; ids are unique.
        set_sha: Names the version of the set; decisions are stored under it.
        facts: Shown below the title: what the page is of.
        frames: Of which clips: all, those whose licence allows to pass them on, or none.
        max_bytes: Size of the page.
        hides_verdicts: Show the gate's verdict on a row, and its remarks, after its review only.

    Raises:
        ValueError: The texts alone are larger than ``max_bytes``.
    """
    shown = list(rows)
    items = [page_item(one.row, one.split, one.verdict) for one in shown]
    data = {
        "set": set_sha,
        "hides_verdicts": hides_verdicts,
        "reasons": REASONS,
        "limits": {
            **{"name": MAX_NAME_CHARS, "text": MAX_TEXT_CHARS},
            **{"steps": MAX_STEPS, "predictions": MAX_PREDICTIONS},
        },
        "items": items,
    }
    # Frames take what the texts leave.
    sources = sorted({item["source"] for item in items})
    left = max_bytes - _page_bytes(title, facts, data, sources) - _MISSING_BYTES * len(items)
    if left < 0:
        raise ValueError(
            f"the texts of {len(items)} rows take more than {max_bytes / 2**20:g} MB: review fewer "
            "rows (num_rows), or allow a larger page (max_page_mb)"
        )
    is_full = False
    for one, item in zip(shown, items, strict=True):
        # The items are those in data: what is set here is written with the page.
        item["frames"], item["missing"] = [], f"the page has {max_bytes / 2**20:g} MB (max_page_mb)"
        if is_full:
            continue
        pictures, missing = _pictures(one, frames, item["licence"])
        size = len(data_element("", pictures))
        # Once one has no room, no further frames are read: the last rows have none.
        is_full = size > left
        if not is_full:
            left -= size
            item["frames"], item["missing"] = pictures, missing
    restricted = sorted(
        {item["source"] for item in items if item["frames"] and not may_be_shared(item["licence"])}
    )
    write_page(
        path,
        title,
        _sections(title, facts, data, restricted),
        style=_BROWSER_STYLE.read_text() + (_ASSETS / "review.css").read_text(),
        script=(_ASSETS / "review.js").read_text(),
    )
    return PageSummary(
        num_rows=len(items),
        num_bytes=path.stat().st_size,
        num_with_frames=sum(bool(item["frames"]) for item in items),
        restricted=tuple(restricted),
    )


def _pictures(
    one: ReviewRow, frames: FramesShown, licence: str
) -> tuple[list[dict[str, Any]], str]:
    """A clip's frames for the page, or why there are none."""
    if frames == "none":
        return [], "this page was written without them (frames=none)"
    if frames == "shareable" and not may_be_shared(licence):
        return [], "the clip's licence does not allow to pass them on (frames=shareable)"
    try:
        pictures = one.frames()
    except VideoReadError as error:
        # Without its path, which is of this machine.
        return [], _ascii(printable(error.detail or error.cause, _MAX_MISSING_CHARS))
    return [{"seconds": frame.seconds, "picture": frame.data_uri} for frame in pictures], ""


def _ascii(text: str) -> str:
    """A text of one byte a sign in the page, where others are escaped by six."""
    return re.sub(r"[^ -~]|[<>&\"\\]", "?", text)


def _sections(
    title: str, facts: Mapping[str, str], data: Mapping[str, Any], restricted: list[str]
) -> list[str]:
    notice = (
        '<p class="notice" id="local">Keep this page on this machine: it shows frames of '
        f"{escape(', '.join(restricted))}, whose licences do not allow to pass them on. A page to "
        "be passed on is written with frames=shareable.</p>"
        if restricted
        else ""
    )
    return [
        header_element(title, facts),
        f"<main>{notice}",
        (_ASSETS / "review.html").read_text(),
        "</main>",
        data_element("review-data", data),
    ]


def _page_bytes(
    title: str, facts: Mapping[str, str], data: Mapping[str, Any], sources: list[str]
) -> int:
    """Size of the page without frames, with room for the document around it."""
    sections = _sections(title, facts, data, sources)
    assets = sum(file.stat().st_size for file in (*_ASSETS.iterdir(), _BROWSER_STYLE))
    return sum(len(one.encode(errors="replace")) for one in sections) + assets + 16_000
