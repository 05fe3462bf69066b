"""An instruction set through a proxy that harms requests, in a program that is killed.

The scripted teacher answers from the microworld's event log, with planted errors; an oracle looks
again. What comes of it must not depend on when the program was killed, and nothing may be paid for
twice but what was in flight then.
"""

import base64
import json
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import pytest
import yaml
from fault_proxy import FAULTS, NOT_FORWARDED
from planted_answers import ENDINGS, LEAKED, REJECTED, plan, scripted_answers
from scripted_teacher import USAGE
from tiny_videos_of_worlds import videos_of_a_world

from data_modules.clip_sampling import sample_clips
from data_modules.clip_source_config import ClipSourceConfig
from experiments.make_instructions import run as program
from experiments.make_instructions.__main__ import main
from vidreason.baselines.encoded_frames import jpegs
from vidreason.baselines.frames import FrameReader, middle_frames
from vidreason.endpoints import client
from vidreason.microworld.oracle_verifier import OracleVerifier, rollouts_by_path
from vidreason.teacher.journal import Journal
from vidreason.video.reader import DIRECT

KEY = "sk-planted-9f3Kq7Zr2LmX8vTb"
NUM_FRAMES, MAX_PIXELS, NUM_PARALLEL = 2, 64 * 64, 4
LONGEST_SECONDS = 300
HERE = Path(__file__).parent


@dataclass
class World:
    """Videos, their clips in the order of the journal, and what the teacher says about each."""

    folder: Path
    clips: list
    endings: list[str]
    answers: Path
    by_pictures: dict[str, int] = field(default_factory=dict)


def make_world(folder, number, share):
    rollouts = videos_of_a_world(folder / "videos", number)
    (folder / "evaluation").mkdir()
    row = {
        "id": "e0",
        "video_id": "kitchen",
        "media": "kitchen.mp4",
        "causal_explanation": [LEAKED],
        "prediction": "the shelf breaks under the weight of all these bowls",
    }
    (folder / "evaluation" / "val.jsonl").write_text(json.dumps(row) + "\n")
    source = ClipSourceConfig(**source_of(folder))
    clips = sample_clips([source], number, validation_fraction=0.2).clips
    endings = plan(number, share, seed=1)
    world = World(folder, clips, endings, folder / "answers.json")
    answers = {}
    by_clip = [rollouts[Path(clip.media).stem] for clip in clips]
    for index, (clip, answer) in enumerate(
        zip(clips, scripted_answers(by_clip, endings), strict=True)
    ):
        frames = FrameReader(DIRECT)(clip.media, None, None, middle_frames(NUM_FRAMES))
        pictures = sha256(b"".join(jpegs(frames, MAX_PIXELS))).hexdigest()
        world.by_pictures[pictures] = index
        answers[pictures] = answer
    assert len(answers) == number, "two clips look the same"
    world.answers.write_text(json.dumps(answers))
    return world


def source_of(folder):
    return {
        "kind": "folder",
        "root": str(folder / "videos"),
        "name": "world",
        "cut": "whole",
        "licence": "CC0-1.0",
    }


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("small"), 22, 0.5)


@contextmanager
def server(script, *arguments):
    command = [sys.executable, str(HERE / script), *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


class Run:
    """One run folder, the servers before it, and the program that is killed now and then."""

    def __init__(self, world, folder, url, log):
        self.world, self.folder, self.log = world, folder, log
        self.output = folder / "output"
        config = {
            "run_dir": str(folder / "run"),
            "sources": [source_of(world.folder)],
            "num_clips": len(world.clips),
            "exclude_pictures": False,
            "validation_fraction": 0.2,
            "exclude": [
                {
                    "reader": "causal_vid_instruct",
                    "root": str(world.folder / "evaluation"),
                    "split": "val",
                }
            ],
            "teacher": {
                "model": "scripted",
                "num_frames": NUM_FRAMES,
                "max_pixels": MAX_PIXELS,
                "endpoint": {
                    "base_url": url,
                    "api_key_variable": "PLANTED_API_KEY",
                    "timeout_seconds": 20.0,
                    "max_attempts": 12,
                },
            },
            "running": {
                "num_parallel": NUM_PARALLEL,
                "decode_timeout_seconds": 0.0,
                "prices": {"per_million_prompt_tokens": 1.0, "per_million_generated_tokens": 2.0},
            },
            "gate": {"unsupported": "reject", "near_duplicate_similarity": 1.0},
        }
        self.config = folder / "config.yaml"
        self.config.write_text(yaml.safe_dump(config))

    def start(self):
        """Start the program in a process of its own: torch's threads survive no fork."""
        process = multiprocessing.get_context("spawn").Process(target=self._work)
        process.start()
        return process

    def _work(self):
        sys.stdout = sys.stderr = self.output.open("a", buffering=1)
        os.environ["PLANTED_API_KEY"] = KEY
        program.build_verifier = lambda *_: OracleVerifier(rollouts_by_path())
        client._FIRST_WAIT_SECONDS = 0.01
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os._exit(main(["--config", str(self.config)]))

    def kill_after(self, number, delay):
        """Kill the program some time after ``number`` more requests."""
        before = len(self.rows())
        process = self.start()
        deadline = time.monotonic() + LONGEST_SECONDS
        while len(self.rows()) < before + number and process.is_alive():
            assert time.monotonic() < deadline, self.output.read_text()
            time.sleep(0.002)
        time.sleep(delay)
        process.kill()
        process.join()

    def finish(self):
        process = self.start()
        process.join(LONGEST_SECONDS)
        assert process.exitcode == 0, self.output.read_text()

    def rows(self):
        if not self.log.exists():
            return []
        return [json.loads(line) for line in self.log.read_bytes().split(b"\n")[:-1]]

    def set_rows(self):
        """Rows of the set without the times at which the replies came."""
        rows = []
        for name in ("train", "val", "rejected"):
            for line in (self.folder / "run" / "set" / f"{name}.jsonl").read_text().splitlines():
                row = json.loads(line)
                row.pop("created", None)
                rows.append((name, json.dumps(row, sort_keys=True)))
        return rows


@contextmanager
def a_run(world, folder, seed, rate=0.25):
    folder.mkdir()
    log = folder / "proxy.jsonl"
    with (
        server("scripted_teacher.py", world.answers) as teacher,
        server("fault_proxy.py", teacher, log, seed, rate) as port,
    ):
        # The port is no part of what is compared.
        yield Run(world, folder, f"http://127.0.0.1:{port}/v1", log)


def check_ends(run):
    """Every clip has the end that was planted for it, and one only."""
    expected = {
        clip.id: ending or "accepted"
        for clip, ending in zip(run.world.clips, run.world.endings, strict=True)
    }
    with Journal(run.folder / "run" / "journal.sqlite") as journal:
        ended = list(journal.ended())
        counts = journal.counts()
    assert len(ended) == len({one.clip.id for one in ended}) == len(run.world.clips)
    ends = {}
    for one in ended:
        assert (one.verdict is None) != (one.failure is None)
        ends[one.clip.id] = one.failure or one.verdict.rejection or "accepted"
    wrong = {
        clip_id: (ends[clip_id], ending)
        for clip_id, ending in expected.items()
        if ends[clip_id] != ending
    }
    assert not wrong
    assert counts.num_ended == len(ended)
    ids = [json.loads(row)["id"] for name, row in run.set_rows() if name != "rejected"]
    assert len(ids) == len(set(ids)) == counts.accepted


def check_payments(run, num_kills):
    """The journal's tokens are those of the answers that the proxy saw delivered.

    Delivered and not in the journal is only what was in flight at a kill; such a request was sent
    again.
    """
    rows = run.rows()
    delivered = Counter(row["pictures"] for row in rows if row["delivered"] and row["usage"])
    with Journal(run.folder / "run" / "journal.sqlite") as journal:
        answered = list(journal.answered())
        # The probe of the schema is a request without pictures.
        probes = len(delivered.keys() - run.world.by_pictures.keys())
        with journal.cache.connection() as connection:
            tokens = connection.execute("SELECT SUM(prompt), SUM(generated) FROM tokens").fetchone()
            spent = connection.execute("SELECT SUM(requests) FROM spent").fetchone()[0]
    assert len({one.key for one in answered}) == len(answered)
    assert sum(one.reply.num_prompt_tokens > 0 for one in answered) == len(answered)
    assert len(delivered) == len(answered) + probes
    assert tokens == (
        USAGE["prompt_tokens"] * len(delivered),
        USAGE["completion_tokens"] * len(delivered),
    )
    again = delivered.total() - len(delivered)
    assert again <= num_kills * NUM_PARALLEL
    # Every request that may have been worked on was counted, and of the others at most those whose
    # count was not taken back because of a kill, or whose refusal did not arrive whole.
    worked_on = sum(row["forwarded"] and row.get("status") == 200 for row in rows)
    unclear = sum(row["fault"] in ("invalid", "large") for row in rows)
    torn = sum(row.get("status") == 400 and not row["delivered"] for row in rows)
    assert 0 <= spent - worked_on - unclear <= num_kills * NUM_PARALLEL + torn
    return again


def check_secrets(run):
    """The key went to the endpoint, and nowhere else, in no encoding."""
    assert {row["key"] for row in run.rows()} == {"secret"}
    pieces = [KEY.encode()[start : start + 8] for start in range(3, len(KEY) - 7)]
    pieces += [base64.b64encode(KEY.encode())[:20], KEY.encode().hex().encode()]
    pattern = re.compile(b"|".join(map(re.escape, pieces)), re.IGNORECASE)
    files = [path for path in run.folder.rglob("*") if path.is_file() and not path.is_symlink()]
    assert {"journal.sqlite", "output", "train.jsonl"} <= {path.name for path in files}
    assert not [path for path in files if pattern.search(path.read_bytes())]


def check_harmless(run):
    """Texts of a hostile teacher are no escapes of the terminal, and no files elsewhere."""
    assert b"\x1b" not in run.output.read_bytes().replace(b"\x1b[A", b"")  # the bar moves up
    names = {path.name for path in (run.folder / "run").rglob("*")}
    assert not names & {"passwd", "etc"}


def test_a_killed_run_ends_as_one_that_nothing_happens_to(small, tmp_path):
    with a_run(small, tmp_path / "killed", seed=3) as killed:
        killed.kill_after(9, 0.003)
        killed.finish()
        check_ends(killed)
        check_payments(killed, 1)
        check_secrets(killed)
        check_harmless(killed)
        before, text = len(killed.rows()), killed.set_rows()
        killed.finish()
        assert (len(killed.rows()), killed.set_rows()) == (before, text)
    assert set(small.endings) == {"", *ENDINGS}


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_five_hundred_clips_with_five_schedules_of_kills(tmp_path):
    (tmp_path / "world").mkdir()
    world = make_world(tmp_path / "world", 500, 0.2)
    causes = Counter(world.endings)
    assert all(causes[cause] >= 5 for cause in REJECTED)
    sets = []
    faults = Counter()
    for schedule in range(6):
        generator = random.Random(schedule)
        num_kills = 5 if schedule else 0
        with a_run(world, tmp_path / f"run{schedule}", seed=schedule) as run:
            for _ in range(num_kills):
                run.kill_after(generator.randrange(1, 130), generator.random() * 0.3)
            run.finish()
            check_ends(run)
            again = check_payments(run, num_kills)
            assert schedule or not again
            check_secrets(run)
            check_harmless(run)
            faults.update(row["fault"] for row in run.rows())
            sets.append(run.set_rows())
    assert all(faults[fault] >= 20 for fault in FAULTS)
    assert set(NOT_FORWARDED) < set(faults)
    # The teacher's name has the port of the proxy, which is another one each time.
    ports = re.compile(r"127\.0\.0\.1:\d+")
    plain = [[(name, ports.sub("HOST", row)) for name, row in rows] for rows in sets]
    assert all(rows == plain[0] for rows in plain)
