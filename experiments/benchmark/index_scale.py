"""Cost of a corpus of any size: ``python -m experiments.benchmark index 110000000 --folder DIR``.

Makes an index of that many invented WebVid rows, opens it, and goes through the order of a run over
it: its first step, a resume in the middle of the third epoch, and then some hundred steps with
every sample's row read. Each part runs in a process of its own, whose memory is told in four
figures: its peak, what it was before (PyTorch, mostly), what it holds itself beyond that at the
end, and how much more of files it has mapped (which the system takes back when it needs it).

``--synthesis batches`` composes the rows by Arrow's own functions, which leaves out what a reader
costs (some 9 microseconds a row), and makes the full size feasible.
"""

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data_modules.corpus_index import Corpora
from data_modules.example_files import ROWS_A_BATCH, SCHEMA, CorpusIndex, index_writer, write_index
from data_modules.global_order import GlobalOrder
from vidreason.example import Example
from vidreason.markdown import table
from vidreason.reasoning.prompts import CAPTION_PROMPT

CAPTION = "Aerial view of a small harbour at sunset, boats are moored to the pier, clip "
NUM_STEPS = 200  # whose time is averaged
GLOBAL_BATCH_SIZE = 256  # samples a step

Figures = dict[str, float]
Part = Callable[[Path, int], tuple[Figures, object]]
"""Gives what it measured, and what has to be alive while its memory is measured."""


def run(arguments: argparse.Namespace) -> dict[str, Figures]:
    """Run the parts and print what each cost; returns its figures by part.

    Raises:
        ValueError: There are too few rows for an epoch of three steps.
    """
    if arguments.num_rows < 3 * GLOBAL_BATCH_SIZE:
        raise ValueError(
            f"num_rows is {arguments.num_rows}; it must be at least {3 * GLOBAL_BATCH_SIZE}, three "
            f"steps of {GLOBAL_BATCH_SIZE}"
        )
    folder = Path(arguments.folder) / f"index-{arguments.num_rows}"
    build = build_from_examples if arguments.synthesis == "examples" else build_from_batches
    figures = {}
    try:
        for name, part in (("build", build), ("open", open_index), ("order", go_through)):
            figures[name] = measured(part, folder, arguments.num_rows)
            shown = ", ".join(f"{key} {value:,.4g}" for key, value in figures[name].items())
            print(f"{name:>6}: {shown}", file=sys.stderr, flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return figures


def tables(measured: Mapping[str, Any]) -> Iterator[str]:
    """The figures of :func:`run` as Markdown."""
    for name in ("build", "open", "order"):
        figures = measured[name]
        yield table([name, *figures], [["", *(f"{value:,.4g}" for value in figures.values())]])


def measured(part: Part, folder: Path, num_rows: int) -> Figures:
    """Return the figures of ``part``, run in a new process."""
    # A new interpreter: a forked process would begin with the memory of this one.
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(_with_memory, (part, folder, num_rows))


def build_from_examples(folder: Path, num_rows: int) -> tuple[Figures, object]:
    """Write an index from a reader's examples."""
    start, began = time.process_time(), time.perf_counter()
    write_index(folder, (_example(row) for row in range(num_rows)))
    return _build_figures(folder, num_rows, start, began), None


def build_from_batches(folder: Path, num_rows: int) -> tuple[Figures, object]:
    """Write an index of the same rows without making an :class:`Example` of each."""
    start, began = time.process_time(), time.perf_counter()
    # What all rows share stands in the manifest once, as write_index finds it in the first row.
    usual = {name: "" for name in ("question_type", "group_id", "meta")}
    usual |= {"corpus": "webvid", "prompt": CAPTION_PROMPT}
    # Hashes of ids are as good as random: to write and sort them costs the same.
    random = np.random.default_rng(0)
    with index_writer(folder, usual) as write:
        for first in range(0, num_rows, ROWS_A_BATCH):
            rows = np.arange(first, min(first + ROWS_A_BATCH, num_rows))
            batch = _batch(rows)
            # 9 digits follow the caption.
            lengths = np.full(len(rows), len(CAPTION_PROMPT) + len(CAPTION) + 9, np.int32)
            write(batch, lengths, random.integers(0, 2**64, len(rows), np.uint64))
    return _build_figures(folder, num_rows, start, began), None


def open_index(folder: Path, num_rows: int) -> tuple[Figures, object]:
    """Open the index, and read its last row."""
    start = time.perf_counter()
    corpus = CorpusIndex(folder)
    opened = time.perf_counter()
    # The last row: a format that had to be read from its start would show here.
    assert corpus[num_rows - 1] == _example(num_rows - 1)
    read = time.perf_counter()
    return {"open ms": (opened - start) * 1e3, "first row ms": (read - opened) * 1e3}, corpus


def go_through(folder: Path, num_rows: int) -> tuple[Figures, object]:
    """The first step, a resume in the third epoch, and further steps with their rows."""
    corpora = Corpora([CorpusIndex(folder)])
    figures: Figures = {}
    for name, epoch in (("first step ms", 0), ("resume ms", 2)):
        start = time.process_time()
        # A new order for each, which has no pass of an earlier step in its memory.
        order = GlobalOrder(
            corpora.sizes,
            [1.0],
            global_batch_size=GLOBAL_BATCH_SIZE,
            seed=0,
            lengths=corpora.lengths,
        )
        middle = epoch and order.steps_per_epoch // 2  # step 0 of epoch 0
        order.step(epoch, middle)
        figures[name] = (time.process_time() - start) * 1e3
    start = time.process_time()
    steps = [order.step(2, step) for step in _further(middle, order.steps_per_epoch)]
    figures["step ms"] = (time.process_time() - start) * 1e3 / len(steps)
    start = time.process_time()
    # Every sample's row becomes an example, as a training reads it.
    num_rows = sum(bool(corpora[index]) for step in steps for index in step.tolist())
    figures["row us"] = (time.process_time() - start) * 1e6 / num_rows
    return figures, (corpora, order)


def _further(step: int, steps_per_epoch: int) -> range:
    return range(step + 1, min(step + 1 + NUM_STEPS, steps_per_epoch))


def _with_memory(part: Part, folder: Path, num_rows: int) -> Figures:
    before = _memory_megabytes()
    # What the part keeps is alive until its memory is read.
    figures, _alive = part(folder, num_rows)
    after = _memory_megabytes()
    return {
        **figures,
        # As man 5 proc names them: peak, all that is resident, of it its own and mapped files.
        "peak MB": after["VmHWM"],
        "before MB": before["VmRSS"],
        "own MB": after["RssAnon"] - before["RssAnon"],
        "mapped MB": after["RssFile"] - before["RssFile"],
    }


def _memory_megabytes() -> dict[str, float]:
    lines = Path("/proc/self/status").read_text().splitlines()
    return {
        # In kB of 1,024 bytes.
        line.split(":")[0]: int(line.split()[1]) / 1024
        for line in lines
        if line.startswith(("VmHWM", "VmRSS", "RssAnon", "RssFile"))
    }


def _build_figures(folder: Path, num_rows: int, start: float, began: float) -> Figures:
    size = sum(file.stat().st_size for file in os.scandir(folder))
    return {
        "CPU s": time.process_time() - start,
        "wall s": time.perf_counter() - began,
        "disk GB": size / 1e9,
        "bytes a row": size / num_rows,
    }


def _example(row: int) -> Example:
    caption = f"{CAPTION}{row:09d}"
    return Example(
        id=f"webvid:train:{row:09d}",
        corpus="webvid",
        media=f"/data/webvid/videos/{row // 1000:06d}/{row:09d}.mp4",
        video_id=f"{row:09d}",
        prompt=CAPTION_PROMPT,
        response=caption,
        answers=(caption,),
    )


def _batch(rows: NDArray[np.int64]) -> pa.RecordBatch:
    # The texts of _example, f"{row:09d}" and f"{row // 1000:06d}", a column at a time.
    numbers = pc.utf8_lpad(pc.cast(pa.array(rows), pa.string()), 9, "0")
    folders = pc.utf8_lpad(pc.cast(pa.array(rows // 1000), pa.string()), 6, "0")

    def joined(*parts: object) -> pa.Array:
        return pc.binary_join_element_wise(*parts, "")

    columns: dict[str, pa.Array] = {
        "id": joined("webvid:train:", numbers),
        "media": joined("/data/webvid/videos/", folders, "/", numbers, ".mp4"),
        "video_id": numbers,
        "response": joined(CAPTION, numbers),
        # An empty list in each row, which null is not.
        "options": pa.ListArray.from_arrays(
            np.zeros(len(rows) + 1, np.int32), pa.array([], "string")
        ),
    }
    # Null elsewhere: what is usual, or, of answers, the response.
    return pa.record_batch(
        [columns.get(f.name, pa.nulls(len(rows), f.type)) for f in SCHEMA], schema=SCHEMA
    )
