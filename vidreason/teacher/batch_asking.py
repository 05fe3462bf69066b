"""Asking about all clips of a journal through an endpoint's batch API.

The batches' replies come into the cache; the journal then takes them from there by the keys of the
requests, without decoding a video twice.
"""

from collections.abc import Iterator

from vidreason.endpoints.replies import REFUSED
from vidreason.teacher.batch_run import BatchRun
from vidreason.teacher.journal import Journal
from vidreason.teacher.protocol import TeacherRequest
from vidreason.teacher.running import Asking
from vidreason.video.failures import VideoReadError

UNANSWERED = "no batch has a reply to its request"


def ask_in_batches(journal: Journal, asking: Asking, batches: BatchRun) -> None:
    """Send the requests of all pending clips in batches, and record what comes of them.

    Args:
        journal: Its clips.
        asking: Teacher, frames and limits.
        batches: Sends the requests.

    Raises:
        BudgetSpentError: Some were not sent; all replies are recorded.
        EndpointUnavailableError: The endpoint cannot be had; batches go on meanwhile.
        EndpointRefusedError: It has no batch API, or refuses the key.
        UnreadableVideosError: More videos are unreadable than ``max_unreadable_fraction``.
    """
    # Keys of requests by clip, filled while the requests are made.
    keys: dict[str, str] = {}
    is_done = False
    try:
        batches.run(lambda: _requests(journal, asking, keys))
        is_done = True
    finally:
        # Also of a run that was stopped: what has come in is recorded. Only one that ended by
        # itself knows that nothing more will come.
        for clip_id, key in keys.items():
            reply = journal.cache.stored(key)
            if reply is not None and reply.problem.startswith(REFUSED):
                journal.record_failure(clip_id, "refused_request", reply.problem)
            elif reply is not None:
                journal.record_reply(clip_id, key, reply)
            elif is_done:
                journal.record_failure(clip_id, "endpoint", UNANSWERED)


def _requests(journal: Journal, asking: Asking, keys: dict[str, str]) -> Iterator[TeacherRequest]:
    # Called once a round: what has failed in an earlier one is no longer pending.
    for clip in journal.pending():
        try:
            frames = asking.read_frames(
                clip.media, clip.start_seconds, clip.end_seconds, asking.teacher.frame_rule()
            )
        except VideoReadError as error:
            journal.record_failure(clip.id, "unreadable_video", str(error))
            asking.failures.record(1, [error.failure(clip.id)])
            continue
        asking.failures.record(1)
        request = asking.teacher.request(frames)
        keys[clip.id] = request.key
        yield request
