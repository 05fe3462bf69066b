import os
import signal
import time

import pytest
from lightning.pytorch.callbacks import Callback
from tiny_training import EXPECTED_WARNINGS, tiny_loader, tiny_module, tiny_trainer

from callbacks import preemption
from callbacks.preemption import Preemption, Stopped, StopRequest
from callbacks.step_checkpoint import PendingValidation, StepCheckpoint
from vidreason.training.checkpoint import newest_checkpoint

pytestmark = EXPECTED_WARNINGS


@pytest.fixture
def request_at_work():
    request = StopRequest()
    request.listen()
    request.has_work = True
    yield request
    request.ignore()


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 75), (signal.SIGUSR1, 75), (signal.SIGINT, 130)]
)
def test_a_signal_is_noted(request_at_work, number, status):
    signal.raise_signal(number)
    assert request_at_work.status == status


def test_what_a_launcher_passes_on_is_no_second_request(request_at_work):
    for _ in range(3):
        signal.raise_signal(signal.SIGTERM)
    assert request_at_work.status == 75


def test_slurm_asks_by_one_signal_and_then_by_another(request_at_work, monkeypatch):
    monkeypatch.setattr(preemption, "SAME_REQUEST_SECONDS", 0.0)
    for number in (signal.SIGUSR1, signal.SIGUSR1, signal.SIGTERM):
        signal.raise_signal(number)
        time.sleep(0.001)
    assert request_at_work.status == 75


def test_before_training_signals_do_what_they_did():
    # A shell has its background jobs ignore Ctrl-C, and these tests may be one.
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    request = StopRequest()
    request.listen()
    try:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert request.status == 0
    finally:
        request.ignore()
        signal.signal(signal.SIGINT, former)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def status_of_fork(request: StopRequest, *numbers: int, is_worker: bool) -> int:
    """Exit status of a fork that gets these signals; 7 if it ends by itself."""
    pid = os.fork()
    if pid == 0:
        if not is_worker:
            request._process = os.getpid()
        for number in numbers:
            signal.raise_signal(number)
            time.sleep(0.001)
        os._exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_stops_at_once(request_at_work, monkeypatch, number):
    monkeypatch.setattr(preemption, "SAME_REQUEST_SECONDS", 0.0)
    assert status_of_fork(request_at_work, number, number, is_worker=False) == -number


def test_a_worker_survives_a_signal_to_all_processes(request_at_work, monkeypatch):
    monkeypatch.setattr(preemption, "SAME_REQUEST_SECONDS", 0.0)
    request_at_work.has_work = False  # workers are forked before training starts
    assert status_of_fork(request_at_work, signal.SIGTERM, is_worker=True) == 7
    assert status_of_fork(request_at_work, signal.SIGUSR1, is_worker=True) == 7
    # ... but not a DataLoader that ends a worker which hangs.
    twice = (signal.SIGTERM, signal.SIGTERM)
    assert status_of_fork(request_at_work, *twice, is_worker=True) == -signal.SIGTERM


class Witness(Callback):
    """Sends a signal in the midst of something; counts validation batches and saves."""

    def __init__(self, at_step: int = -1, *, in_validation: bool = False) -> None:
        self.at_step = at_step
        self.in_validation = in_validation
        self.validated: list[tuple[int, int]] = []
        self.saved: list[int] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == self.at_step and not self.in_validation:
            signal.raise_signal(signal.SIGUSR1)

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.validated.append((trainer.global_step, batch_idx))
        if trainer.global_step == self.at_step and self.in_validation:
            signal.raise_signal(signal.SIGUSR1)

    def on_save_checkpoint(self, trainer, pl_module, checkpoint):
        self.saved.append(trainer.global_step)


def train(folder, tmp_path, witness, checkpoint_path=None):
    module = tiny_module(folder, total_steps=6)
    checkpoint = StepCheckpoint(tmp_path, save_every_n_steps=100)
    trainer = tiny_trainer(
        enable_checkpointing=True,
        callbacks=[witness, checkpoint, PendingValidation(), Preemption(checkpoint)],
        max_steps=6,
        val_check_interval=2,
        num_sanity_val_steps=0,
    )
    loaders = (tiny_loader(module.reasoner, size) for size in (2, 4))
    trainer.fit(module, *loaders, ckpt_path=checkpoint_path, weights_only=True)


def stop_and_continue(folder, tmp_path, witness):
    """Stop a run by a witness, continue it, and return the witness of the rest."""
    handlers = {number: signal.getsignal(number) for number in preemption.STATUS_OF_SIGNAL}
    with pytest.raises(Stopped) as stopped:
        train(folder, tmp_path, witness)
    for number, handler in handlers.items():
        signal.signal(number, handler)
    assert stopped.value.code == 75
    newest = newest_checkpoint(tmp_path)
    assert newest is not None
    rest = Witness()
    train(folder, tmp_path, rest, str(newest))
    return rest


@pytest.mark.parametrize("in_validation", [False, True])
def test_it_saves_once_stops_and_validates_when_it_goes_on(
    tiny_language_model_folder, tmp_path, in_validation
):
    witness = Witness(at_step=2, in_validation=in_validation)
    rest = stop_and_continue(tiny_language_model_folder, tmp_path, witness)
    assert witness.saved == [2]
    assert witness.validated == ([(2, 0)] if in_validation else [])
    assert rest.validated == [(step, batch) for step in (2, 4, 6) for batch in range(4)]
    assert rest.saved == [6]


def test_a_validation_that_has_ended_is_not_done_again(tiny_language_model_folder, tmp_path):
    rest = stop_and_continue(tiny_language_model_folder, tmp_path, Witness(at_step=3))
    assert {step for step, _ in rest.validated} == {4, 6}
