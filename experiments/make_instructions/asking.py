"""Asking the configured teacher, one request at a time or in batches, and the price beforehand."""

from collections.abc import Callable
from pathlib import Path

from experiments.make_instructions.config import MakeInstructionsConfig
from experiments.make_instructions.stopping import Stop
from experiments.program import FAILURES_FILE
from vidreason.baselines.frames import FrameReader
from vidreason.teacher.batch_asking import ask_in_batches
from vidreason.teacher.endpoint_teacher import EndpointTeacher
from vidreason.teacher.journal import Journal
from vidreason.teacher.prices import Usage, estimate_job, estimated_usage
from vidreason.teacher.protocol import Teacher, TeacherRequest
from vidreason.teacher.running import Asking, ask
from vidreason.teacher.spending import Spending
from vidreason.video.failures import FailureLog, VideoReadError
from vidreason.video.reader import VideoReader

_NUM_PRICED = 8
"""Clips whose requests are made for the estimate."""


def estimate_of(config: MakeInstructionsConfig, journal: Journal, teacher: Teacher) -> list[str]:
    """Price what is still to be asked by some of its clips, in words; sends nothing."""
    num_pending = journal.counts().pending
    samples: list[Usage] = []
    reader = frame_reader(config)
    for clip in journal.spread_pending(_NUM_PRICED):
        try:
            frames = reader(clip.media, clip.start_seconds, clip.end_seconds, teacher.frame_rule())
        except VideoReadError:
            continue  # it is counted when it is to be asked about
        request = teacher.request(frames)
        prices = config.running.prices
        samples.append(estimated_usage(prices, request, config.teacher.max_new_tokens))
    if not samples:
        if not num_pending:
            return ["nothing: all clips have been asked about"]
        return [f"unknown: none of {_NUM_PRICED} clips of the sample can be read"]
    return estimate_job(config.running, samples, num_pending, is_batch=config.teacher.batch).lines()


def frame_reader(config: MakeInstructionsConfig) -> FrameReader:
    """Return what reads the frames of clips."""
    return FrameReader(VideoReader(config.running.decode_timeout_seconds or None))  # 0 is no limit


def ask_all(
    config: MakeInstructionsConfig,
    journal: Journal,
    teacher: Teacher,
    spending: Spending,
    observe: Callable[[], None],
    stop: Stop,
) -> None:
    """Ask about all pending clips; raises as :func:`vidreason.teacher.running.ask`."""
    limits = config.running
    num_pending = journal.counts().pending
    failures = FailureLog(
        Path(config.run_dir) / FAILURES_FILE,
        limits.max_unreadable_fraction,
        num_pending,
        setting="running.max_unreadable_fraction",
    )
    asking = Asking(
        teacher, frame_reader(config), limits, spending, config.teacher.max_new_tokens, failures
    )
    if config.teacher.batch:
        # TeacherConfig refuses batches of other kinds.
        assert isinstance(teacher, EndpointTeacher)
        _ask_in_batches(config, journal, asking, teacher, stop)
    else:
        ask(journal, asking, observe, stop.is_set)


def _ask_in_batches(
    config: MakeInstructionsConfig,
    journal: Journal,
    asking: Asking,
    teacher: EndpointTeacher,
    stop: Stop,
) -> None:
    from vidreason.teacher.batch_run import BatchRun  # needs a package of an extra

    def admit(request: TeacherRequest) -> None:
        stop.exit_if_set()
        prices = config.running.prices
        asking.spending.admit(estimated_usage(prices, request, asking.max_new_tokens))

    batches = BatchRun(
        config.teacher, teacher, journal.cache, asking.spending, admit=admit, sleep=stop.sleep
    )
    try:
        ask_in_batches(journal, asking, batches)
    finally:
        batches.close()
