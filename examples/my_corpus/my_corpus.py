"""A corpus of lines ``clip.mp4: question? answer`` in ``<root>/<split>.txt``.

``pip install ./examples/my_corpus`` in the environment of the programs; then
``data.train=[{reader: colon_lines, root: FOLDER, split: train}]``.
"""

from collections.abc import Iterator

from data_modules.example_kinds import prompted_example
from data_modules.files import Files
from data_modules.readers import Reader
from data_modules.rows import Row
from data_modules.skipped_rows import SkippedRows, examples_of
from vidreason.example import Example


def read_colon_lines(files: Files, split: str, skipped: SkippedRows) -> Iterator[Example]:
    """Yield an example a line; a line of another form is malformed: counted, and not read."""

    def rows() -> Iterator[Row]:
        path = files.path(f"{split}.txt")
        with files.open(path) as file:
            for number, line in enumerate(file, start=1):
                fields = {"number": number, "line": line.decode(errors="replace")}
                yield Row(fields, f"{path}:{number}")

    def make(row: Row) -> Iterator[Example]:
        clip, colon, rest = row.text("line").partition(":")
        question, mark, answer = rest.partition("?")
        if not (colon and mark and answer.strip()):
            raise row.malformed("expected 'clip.mp4: question? answer'")
        yield prompted_example(
            f"{question.strip()}?",
            answer.strip(),
            id=f"colon_lines:{split}:{row['number']}",
            media=str(files.path(clip.strip())),
            video_id=clip.strip(),
        )

    yield from examples_of(rows(), make, skipped)


READER = Reader(read_colon_lines, licence="that of your data")
