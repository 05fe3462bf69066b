"""Subtitles by the WebVTT specification, SubRip as it is found, json3; what rolls is taken once."""

import json
from pathlib import Path

import pytest

from data_modules.files import Files
from data_modules.subtitles import Cue, read_subtitles

CASES = Path(__file__).parents[1] / "assets" / "subtitles"


def texts(path: Path, content: str | bytes, name: str = "a.vtt") -> list[str]:
    file = path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return [cue.text for cue in read_subtitles(Files(""), file)]


def cue(text: str, start: int = 0, end: int = 1) -> str:
    return f"00:{start:02d}.000 --> 00:{end:02d}.000\n{text}\n\n"


def test_the_files_of_the_cases() -> None:
    assert read_subtitles(Files(""), CASES / "character_references.vtt") == [
        Cue(0.0, 2.0, ">> Tom & Jerry run"),
        Cue(2.0, 4.0, "it's 3 < 5"),
    ]
    assert read_subtitles(Files(""), CASES / "rolling_with_classes.vtt") == [
        Cue(0.0, 1.5, "hello my friend"),
        Cue(1.51, 3.0, "how are you"),
    ]


@pytest.mark.parametrize(
    ("marked", "plain"),
    [
        (
            "&lt;b&gt; &amp;amp; &quot;x&quot; &#x2019; &#233; &eacute;&nbsp;&hellip;",
            '<b> &amp; "x" \u2019 \u00e9 \u00e9 \u2026',
        ),
        ("<v.loud Roger Bingham>We <i.foreign><lang en>are</lang></i> here</v>", "We are here"),
        ("<00:00:00.500><c>one</c> <00:01.000>two", "one two"),
        ("<ruby>base<rt>above</rt></ruby> <u>x</u>", "baseabove x"),
        ("I <3 you, 3 < 5 and 6 > 4 <- so", "I <3 you, 3 < 5 and 6 > 4 <- so"),
        ("AT&T &unknown; &", "AT&T &unknown; &"),
        ("a <v Roger\nBingham>tag over lines", "a tag over lines"),
        ("- one\n\n", "- one"),
    ],
)
def test_markup_is_no_text(tmp_path: Path, marked: str, plain: str) -> None:
    assert texts(tmp_path, f"WEBVTT\n\n{cue(marked)}") == [plain]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_what_is_passed_over(tmp_path: Path, end: str, mark: bytes) -> None:
    content = (
        "WEBVTT - a title\nKind: captions\nLanguage: en\n\nNOTE\nof two\nlines\n\n"
        "STYLE\n::cue { color: red }\n\nREGION\nid:fred\nwidth:40%\n\n"
        "intro\n00:01.000 --> 00:02.000 align:start position:0% region:fred\nFirst\nline\n\n"
        "NOTE not a cue\n\n01:00:02.000 --> 01:00:03.000\nLater\n"
    )
    assert texts(tmp_path, mark + content.replace("\n", end).encode()) == ["First line", "Later"]


def test_an_arrow_always_begins_a_cue(tmp_path: Path) -> None:
    close = "WEBVTT\n\n00:01.000 --> 00:02.000\none\n00:02.000 --> 00:03.000\ntwo\n"
    assert texts(tmp_path, close) == ["one", "two"]
    in_note = "WEBVTT\n\nNOTE\n00:01.000 --> 00:02.000\nstill a cue\n"
    assert texts(tmp_path, in_note) == ["still a cue"]
    # By the specification a cue with wrong times is dropped with its text, and nothing else.
    arrow = f"WEBVTT\n\n{cue('one')}a --> b\nlost\n\n{cue('two', 2, 3)}"
    assert texts(tmp_path, arrow) == ["one", "two"]
    header = "WEBVTT\n00:01.000 --> 00:02.000\nat once\n"
    assert texts(tmp_path, header) == ["at once"]


SRT = "1\n00:00:01,000 --> 00:00:02,500\n{\\an8}<i>One</i> &amp; <font color=#fff>more</font>\n\n"
SRT += "2\n00:00:03,000 --> 00:00:04,000 X1:1 X2:2\n1984\n\n"


def test_subrip(tmp_path: Path) -> None:
    assert texts(tmp_path, SRT, "a.srt") == ["One & more", "1984"]
    # Without the empty line the number of the next cue stands below a text.
    close = SRT.replace("\n\n", "\n") + "3\n0:00:05.5 --> 0:00:06\n12\n4\n00:07,1 --> 00:08,25\nend"
    assert texts(tmp_path, close, "a.srt") == ["One & more", "1984", "12", "end"]
    assert [cue.end_seconds for cue in read_subtitles(Files(""), tmp_path / "a.srt")] == [
        2.5,
        4,
        6,
        8.25,
    ]
    assert texts(tmp_path, b"\xef\xbb\xbf" + SRT.replace("\n", "\r\n").encode(), "b.srt") == [
        "One & more",
        "1984",
    ]


def test_captions_that_roll_are_taken_once(tmp_path: Path) -> None:
    plain = (  # as downloaders convert them, without tags
        f"{cue('hello all', 0, 2)}00:02.000 --> 00:02.010\nhello all\n\n"
        f"00:02.010 --> 00:04.000\nhello all\nnow we\n\n00:04.000 --> 00:04.010\nnow we\n\n"
        "00:04.010 --> 00:06.000\nnow we\nbegin\n"
    )
    assert texts(tmp_path, f"WEBVTT\n\n{plain}") == ["hello all", "now we", "begin"]
    two_lines = cue("a b\nc d", 0, 2) + cue("c d\ne f", 2, 4) + cue("e f\ng h", 4, 6)
    assert texts(tmp_path, f"WEBVTT\n\n{two_lines}") == ["a b c d", "e f", "g h"]
    grows = cue("hello", 0, 1) + cue("hello my", 1, 2) + cue("hello my friend", 2, 3)
    assert texts(tmp_path, f"WEBVTT\n\n{grows}") == ["hello", "my", "friend"]


def test_what_is_said_twice_is_two_cues(tmp_path: Path) -> None:
    said = cue("No.", 0, 1) + cue("No.", 1, 2) + cue("No.", 5, 6)
    assert texts(tmp_path, f"WEBVTT\n\n{said}") == ["No.", "No.", "No."]
    later = cue("a\nb", 0, 1) + cue("b\nc", 3, 4)
    assert texts(tmp_path, f"WEBVTT\n\n{later}") == ["a b", "b c"]
    timed = "WEBVTT\n\n" + cue("<00:00.100><c>no</c>", 0, 1) + cue("no\n<00:01.100><c>no</c>", 1, 2)
    assert texts(tmp_path, timed) == ["no", "no"]
    assert texts(tmp_path, f"WEBVTT\n\n{cue('same', 0, 2) * 2}") == ["same"]


def test_files_that_are_no_subtitles(tmp_path: Path) -> None:
    for content in ("<html>429 Too Many Requests</html>\n", "", "1\nno times\n"):
        with pytest.raises(ValueError, match=r"a\.srt:1: no subtitle file"):
            texts(tmp_path, content, "a.srt")
    with pytest.raises(ValueError, match=r"a\.vtt:3: expected 'HH:MM:SS.mmm --> "):
        texts(tmp_path, "WEBVTT\n\n1:2:3:4 --> 5\nx\n")
    assert texts(tmp_path, "WEBVTT\n") == []
    with pytest.raises(ValueError, match="not UTF-8"):
        texts(tmp_path, SRT.encode("utf-16"), "a.srt")


def test_json3(tmp_path: Path) -> None:
    events = [
        {"tStartMs": 0, "dDurationMs": 5000, "id": 1},  # sets a window up
        {"tStartMs": 80, "dDurationMs": 2000, "segs": [{"utf8": "hello"}, {"utf8": " my &"}]},
        {"tStartMs": 2070, "aAppend": 1, "segs": [{"utf8": "\n"}]},
        {"tStartMs": 2080, "dDurationMs": 1000, "segs": [{"utf8": "hello"}]},
    ]
    (tmp_path / "a.json3").write_text(json.dumps({"events": events}))
    assert read_subtitles(Files(""), tmp_path / "a.json3") == [
        Cue(0.08, 2.08, "hello my &"),
        Cue(2.08, 3.08, "hello"),
    ]
    for damaged in (
        "[]",
        '{"events": [{"segs": [{"utf8": "x"}]}]}',
        '{"events": [7, {"segs": 5}]}',
    ):
        (tmp_path / "a.json3").write_text(damaged)
        with pytest.raises(ValueError, match=r"a\.json3:1: "):
            read_subtitles(Files(""), tmp_path / "a.json3")
