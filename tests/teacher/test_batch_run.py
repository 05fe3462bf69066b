"""Batches of a teacher's requests, against a service that fails, lies, or loses its answers."""

import base64
import io
import json
import logging

import pytest
import torch
from batch_service import BatchService, answered, expired
from loopback import KEY, http
from PIL import Image

from vidreason.baselines.frames import Frames
from vidreason.endpoints import transport
from vidreason.endpoints.budget import RequestBudget
from vidreason.endpoints.cache import ReplyCache
from vidreason.endpoints.config import EndpointConfig
from vidreason.endpoints.errors import (
    BudgetSpentError,
    EndpointRefusedError,
    EndpointUnavailableError,
)
from vidreason.teacher.batch_config import BatchLimits
from vidreason.teacher.batch_journal import BatchJournal
from vidreason.teacher.batch_run import BatchRun
from vidreason.teacher.config import TeacherConfig
from vidreason.teacher.endpoint_teacher import EndpointTeacher


class KilledError(BaseException):
    """Stands for a kill: nothing catches it."""


@pytest.fixture
def service(server):
    return BatchService(server)


class Setup:
    """One job's files; ``start`` is a new process as far as it can see."""

    def __init__(self, service, folder):
        self.service = service
        self.path = folder / "replies.sqlite"
        self.now = 1_000_000.0
        self.waits = []
        self.limit = None
        self.prices = lambda _: None
        self.fields = {"answer_form": "text", "max_attempts": 3, "limits": {}}

    def config(self):
        fields = dict(self.fields)
        attempts, limits = fields.pop("max_attempts"), fields.pop("limits")
        return TeacherConfig(
            model="m",
            batch=True,
            batch_limits=BatchLimits(**{"poll_seconds": 60, **limits}),
            endpoint=EndpointConfig(
                base_url=self.service.url, api_key_variable="TEST_KEY", max_attempts=attempts
            ),
            **fields,
        )

    def sleep(self, seconds):
        self.waits.append(seconds)
        self.now += seconds

    def start(self, numbers, on_journal=None):
        """Run the clips of ``numbers``; returns the report and the replies."""
        config, cache = self.config(), ReplyCache(self.path)
        self.budget = RequestBudget(cache, "m", self.limit, "max_requests")
        self.teacher = EndpointTeacher(config, cache, self.budget)
        run = BatchRun(
            config,
            self.teacher,
            cache,
            self.budget,
            admit=self.prices,
            sleep=self.sleep,
            clock=lambda: self.now,
        )
        if on_journal is not None:
            on_journal(run)
        self.requests = {number: self.teacher.request(clip(number)) for number in numbers}
        try:
            return run.run(lambda: self.requests.values())
        finally:
            run.close()
            self.teacher.close()

    def replies(self):
        cache = ReplyCache(self.path)
        return {number: cache.stored(one.key) for number, one in self.requests.items()}

    def texts(self):
        return {n: None if one is None else one.text for n, one in self.replies().items()}

    def open(self):
        return BatchJournal(ReplyCache(self.path), self.teacher.teacher_id).open()


@pytest.fixture
def job(service, tmp_path):
    return Setup(service, tmp_path)


def clip(number) -> Frames:
    pixels = torch.full((1, 3, 8, 8), number, dtype=torch.uint8)
    return Frames(pixels, (0.5,), (5,), 10, 1.0)


def brightness(body) -> int:
    """The clip of a request, by its picture."""
    part = body["messages"][0]["content"][1]
    data = base64.b64decode(part["image_url"]["url"].split(",", 1)[1])
    return Image.open(io.BytesIO(data)).getpixel((0, 0))[0]


def numbered(body):
    return answered(f"clip {brightness(body)}")


def test_each_clip_gets_the_reply_to_its_request_and_the_run_after_finds_it(service, job):
    service.reply = numbered
    report = job.start([10, 60, 200])
    assert job.texts() == {10: "clip 10", 60: "clip 60", 200: "clip 200"}
    assert (report.num_batches, report.num_replies, report.num_left) == (1, 3, 0)
    assert job.replies()[10].num_prompt_tokens == 100
    assert job.budget.num_spent == 3
    assert job.waits == [60]
    (line, *_) = service.files["file-in0"].splitlines()
    sent = json.loads(line)
    assert (sent["method"], sent["url"]) == ("POST", "/v1/chat/completions")
    assert {"model": "m", "max_tokens": 512, "temperature": 0.0}.items() <= sent["body"].items()
    assert len(sent["custom_id"]) == 64
    assert service.deleted == ["file-in0"]
    # The ordinary run: no request is sent.
    teacher = EndpointTeacher(job.config(), ReplyCache(job.path))
    assert teacher.complete(teacher.request(clip(60))).text == "clip 60"
    assert service.num_worked_on == 3
    # Again, with a clip more, and one twice.
    job.start([10, 60, 200, 90])
    assert service.num_worked_on == 4
    assert job.budget.num_spent == 4


@pytest.mark.parametrize("limit", ["max_requests", "max_megabytes"])
def test_batches_keep_to_the_limits_of_the_service(service, job, limit):
    job.start([0])
    line = len(service.files.pop("file-in0"))  # pictures of one colour differ by a few bytes
    service.batches.clear()
    limits = {"max_requests": 2} if limit == "max_requests" else {limit: 2.5e-6 * line}
    job.fields["limits"] = {"max_open": 2, **limits}
    service.num_looks = 2
    most = 0

    def count_open(method, path, answer):
        nonlocal most
        is_open = [one["status"] == "validating" for one in service.batches.values()]
        most = max(most, sum(is_open))

    service.faults = count_open
    report = job.start([10, 50, 90, 130, 170, 210, 250])
    assert report.num_batches == 4
    sizes = [len(one.splitlines()) for name, one in service.files.items() if "in" in name]
    assert sizes == [2, 2, 2, 1]
    assert most == 2
    assert set(job.texts().values()) == {"fine"}


def test_results_of_a_hostile_service_are_counted_and_named(service, job):
    """Lines that are none, of others, twice, too long, and with errors inside."""

    def make_lines(lines):
        good, cut, bad, refused, busy, lost, failed = lines
        results = [
            b"\xff\xfe{not json",
            b"[1, 2]",
            b"[" * 200_000,
            b'"' + b"x" * 5_000_000 + b'"',
            {"custom_id": "../../etc/passwd", "response": {}},
            {"custom_id": ["a"], "response": {}},
            service.result(good),
            {**service.result(good), "custom_id": good["custom_id"]},
            service.result(cut, body=answered("half", finish_reason="length")),
            service.result(bad, body={"choices": "none"}),
        ]
        errors = [
            service.result(
                refused, 400, {"error": {"code": "context_length_exceeded", "message": "long"}}
            ),
            service.result(busy, 429, {"error": {"message": "\ud800 busy", "code": float("nan")}}),
            {**service.result(failed, 500), "response": {"status_code": "500"}},
        ]
        service.make_lines = service._make_lines
        assert lost
        return results, errors

    service.make_lines = make_lines
    report = job.start([10, 40, 70, 100, 130, 160, 190])
    replies = job.replies()
    assert replies[10].text == "fine"
    assert replies[40].problem == "the output was cut at the limit of tokens"
    assert "refuses the texts" in replies[100].problem
    # What had no reply was sent again, and everything has one now.
    assert {replies[n].text for n in (70, 130, 160, 190)} == {"fine"}
    assert report.num_batches == 2
    assert report.num_left == 0
    assert report.problems == {
        "invalid line": 3,
        "too long line": 1,
        "unknown custom_id": 2,
        "duplicate": 1,
        "no reply of the form": 1,
        "status 429": 1,
        "no status": 1,
        "missing": 1,
    }
    # Paid: good, cut, bad and what was lost; then four again.
    assert job.budget.num_spent == 4 + 4
    assert all(one.isprintable() for one in report.examples)


def test_a_file_of_results_that_is_too_large_ends_the_run_and_stays_open(service, job, monkeypatch):
    service.make_lines = lambda lines: ([b"x" * 200_000], [])
    with monkeypatch.context() as patch:
        patch.setattr(transport, "MAX_FILE_BYTES", 100_000)
        with pytest.raises(EndpointUnavailableError, match="more than 100000 bytes"):
            job.start([10])
    service.make_lines = service._make_lines
    job.start([10])  # within the limit now, it is a line that is none, and the request goes again
    assert job.texts() == {10: "fine"}


@pytest.mark.parametrize("end", ["expired", "cancelled"])
def test_what_a_batch_left_is_pending_again_and_not_paid_for(service, job, caplog, end):
    def make_lines(lines):
        service.make_lines, service.end = service._make_lines, "completed"
        return [service.result(lines[0])], [expired(lines[1])]

    service.end, service.make_lines = end, make_lines
    report = job.start([10, 60, 200])
    assert set(job.texts().values()) == {"fine"}
    assert service.num_worked_on == job.budget.num_spent == 3
    assert report.problems == {f"{end} batch": 1, "error batch_expired": 1, "missing": 1}
    assert "2 requests have no reply and are sent again" in caplog.text


def test_a_batch_that_fails_as_a_whole_is_tried_again_until_nothing_helps(service, job):
    service.end = "failed"
    with pytest.raises(EndpointUnavailableError, match=r"token_limit_exceeded: too many tokens"):
        job.start([10, 60])
    assert len(service.batches) == 1
    assert job.budget.num_spent == 0
    assert job.open() == []
    service.end = "completed"
    job.start([10, 60])
    assert job.budget.num_spent == 2


def test_the_budget_is_a_hard_limit_and_what_was_sent_is_waited_for(service, job):
    job.limit = 3
    with pytest.raises(BudgetSpentError, match="max_requests=3 requests are spent"):
        job.start([10, 60, 110, 160, 210])
    assert service.num_worked_on == 3
    assert sum(one is not None for one in job.texts().values()) == 3
    with pytest.raises(BudgetSpentError):
        job.start([10, 60, 110, 160, 210])
    assert service.num_worked_on == 3
    # A budget of money is the caller's.
    job.limit, left = None, [1]

    def admit(request):
        if not left:
            raise BudgetSpentError("no money")
        left.pop()

    job.prices = admit
    with pytest.raises(BudgetSpentError, match="no money"):
        job.start([10, 60, 110, 160, 210])
    assert service.num_worked_on == 4


KILLS = ["begin", "uploaded", "created", "end"]


@pytest.mark.parametrize("where", KILLS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_any_moment_nothing_is_paid_twice(service, job, where, when):
    def kill(run):
        journal, method = run._journal, getattr(run._journal, where)

        def killed(*args, **kwargs):
            if when == "after":
                method(*args, **kwargs)
            raise KilledError

        setattr(journal, where, killed)

    service.reply = numbered
    # Other batches of the account, of which the list has several pages.
    for number in range(3):
        service._create(
            {
                "endpoint": "/v1/chat/completions",
                "completion_window": "24h",
                "input_file_id": f"file-other{number}",
                "metadata": {"vidreason_tag": f"other{number}"},
            }
        )
    with pytest.raises(KilledError):
        job.start([10, 60, 200], kill)
    job.start([10, 60, 200])
    # An orphan would be worked on too, whoever looks at it.
    assert len(service.batches) == 3 + 1
    assert service.num_worked_on == 3
    assert job.texts() == {10: "clip 10", 60: "clip 60", 200: "clip 200"}
    assert job.open() == []
    # A kill between counting and writing down counts too many, never too few.
    late = (where, when) == ("begin", "before")
    assert job.budget.num_spent == (6 if late else 3)


@pytest.mark.parametrize("metadata_is_kept", [True, False])
def test_a_batch_whose_creation_was_not_confirmed_is_found_and_not_made_twice(
    service, job, metadata_is_kept
):
    lost = [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", http(502, b"bad gateway")]

    def faults(method, path, answer):
        if (method, path) == ("POST", "/batches"):
            for batch in service.batches.values():
                if not metadata_is_kept:
                    batch["metadata"] = None
            return lost.pop() if lost else None
        return None

    service.faults = faults
    report = job.start([10, 60])
    assert len(service.batches) == 1
    assert service.num_worked_on == 2
    assert report.num_batches == 1


def test_an_outage_while_waiting_ends_the_run_and_it_goes_on_later(service, job):
    service.faults = lambda method, path, answer: (
        http(500, b"down") if path.startswith("/batches/") else None
    )
    with pytest.raises(EndpointUnavailableError, match="status 500"):
        job.start([10])
    assert len(job.open()) == 1
    service.faults = lambda *_: None
    report = job.start([10])
    assert (report.num_resumed, report.num_batches, report.num_replies) == (1, 0, 1)
    assert len(service.batches) == 1


def test_a_batch_that_the_account_does_not_know_is_not_sent_again(service, job):
    service.faults = lambda method, path, answer: (
        http(500, b"down") if path.startswith("/batches/") else None
    )
    with pytest.raises(EndpointUnavailableError):
        job.start([10])
    service.faults = lambda *_: None
    hidden = dict(service.batches)
    service.batches.clear()
    with pytest.raises(EndpointUnavailableError, match="use the key of the same account"):
        job.start([10])
    assert service.batches == {}
    service.batches.update(hidden)
    job.start([10])
    assert service.num_worked_on == 1


def test_a_batch_that_never_ends_is_an_error(service, job):
    service.num_looks = 10**9
    job.fields["limits"] = {"poll_seconds": 3600}
    with pytest.raises(EndpointUnavailableError, match="is 'validating' after 48 hours"):
        job.start([10])
    assert len(job.waits) == 49
    service.num_looks = 0
    job.start([10])
    assert len(service.batches) == 1


def test_results_that_are_gone_are_named_and_their_requests_sent_again(service, job):
    def faults(method, path, answer):
        if path.endswith("/content") and "batch_0" in path:
            return http(404, {"error": {"message": "expired"}})
        return None

    service.faults = faults
    report = job.start([10])
    # The first round brought nothing: no third one is tried for money.
    assert report.problems["file of results is gone"] == 1
    assert report.num_left == 1
    assert job.texts() == {10: None}
    report = job.start([10])
    assert job.texts() == {10: "fine"}


def test_an_endpoint_without_a_batch_api_says_so(service, job):
    service.faults = lambda method, path, answer: (
        http(404, {"detail": "Not Found"}) if path == "/files" else None
    )
    with pytest.raises(EndpointRefusedError, match=r"set teacher\.batch=false"):
        job.start([10])
    assert job.budget.num_spent == 0
    assert job.open() == []


@pytest.mark.parametrize(
    "batch_id", ["../files/x", "a/b", "", None, 7, "x" * 300, "a b", KEY[:12], [["a"]]]
)
def test_ids_that_are_none_never_become_urls(service, job, batch_id):
    def faults(method, path, answer):
        assert ".." not in path
        if (method, path) == ("POST", "/batches"):
            return http(200, {"id": batch_id, "status": "validating", "input_file_id": "file-x"})
        if (method, path) == ("GET", "/batches"):
            return http(200, {"data": [], "has_more": False})
        return None

    service.faults = faults
    with pytest.raises(EndpointUnavailableError, match="the id of a batch"):
        job.start([10])


def test_the_key_is_in_nothing_that_is_written(service, job, tmp_path, caplog, capsys):
    def make_lines(lines):
        service.make_lines = service._make_lines
        error = {**expired(lines[1]), "error": {"code": KEY, "message": f"bad {KEY}"}}
        return [service.result(lines[0])], [error, f"{KEY} is no line".encode()]

    service.reply = lambda body: answered(f"you sent {KEY}")
    service.make_lines = make_lines

    def faults(method, path, answer):
        batch = service.batches.get("batch_0")
        if path == "/batches/batch_0" and batch is not None and "output_file_id" in batch:
            return http(200, {**batch, "status": "completed", "errors": {"data": [{"code": KEY}]}})
        return None

    service.faults = faults
    with caplog.at_level(logging.DEBUG):
        report = job.start([10, 60])
        service.faults = lambda *_: http(500, {"error": {"message": f"echo {KEY}"}})
        with pytest.raises(EndpointUnavailableError) as caught:
            job.start([10, 60, 200])
    assert job.service.files["file-in0"].count(b"custom_id") == 2
    said = [repr(report), repr(caught.value), repr(caught.value.__cause__)]
    said += [caplog.text, *capsys.readouterr(), repr(job.replies())]
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    written += " ".join(said).encode() + b"".join(
        content for name, content in service.files.items() if name.startswith("file-in")
    )
    for part in (KEY, KEY[:8], KEY[-8:], base64.b64encode(KEY.encode()).decode()[:20]):
        assert part.encode() not in written
    assert b"[secret]" in written
