"""The progress bar is told of few steps, and of the last one."""

from types import SimpleNamespace

import pytest
from lightning.pytorch.callbacks import RichProgressBar, TQDMProgressBar

from experiments.fit import progress_bar


@pytest.mark.parametrize(("has_rich", "kind"), [(True, RichProgressBar), (False, TQDMProgressBar)])
@pytest.mark.parametrize(("is_terminal", "steps"), [(True, [0, 3, 5]), (False, [0, 5])])
def test_few_steps_are_drawn_and_always_the_last(monkeypatch, has_rich, kind, is_terminal, steps):
    seconds = iter([0.0, 0.1, 0.2, 0.26, 0.3, 0.4])
    monkeypatch.setattr(progress_bar, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    stream = SimpleNamespace(isatty=lambda: is_terminal)
    monkeypatch.setattr(progress_bar, "sys", SimpleNamespace(stdout=stream))
    monkeypatch.setattr(
        progress_bar.importlib.util, "find_spec", lambda name: "rich" if has_rich else None
    )
    drawn = []
    monkeypatch.setattr(kind, "on_train_batch_end", lambda self, *given: drawn.append(given[-1]))
    bar = progress_bar.progress_bar()
    assert isinstance(bar, kind)
    monkeypatch.setattr(type(bar), "total_train_batches", 6)
    for index in range(6):
        bar.on_train_batch_end(None, None, None, None, index)
    assert drawn == steps
