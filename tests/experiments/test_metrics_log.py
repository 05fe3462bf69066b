import csv
import struct

from experiments.fit.metrics_log import MetricsLog, read_metrics


def test_values_come_back_bit_for_bit(tmp_path):
    (third,) = struct.unpack("f", struct.pack("f", 1 / 3))
    log = MetricsLog(str(tmp_path))
    log.log_metrics({"train/loss": third}, step=2)
    log.log_metrics({"val/loss": float("nan"), "val/share": 1e-45}, step=2)
    (metrics,) = read_metrics(str(tmp_path)).values()
    assert metrics["train/loss"] == third
    assert metrics["val/loss"] != metrics["val/loss"]
    assert metrics["val/share"] == 1e-45


def test_it_is_a_table_whose_columns_grow(tmp_path):
    log = MetricsLog(str(tmp_path))
    log.log_metrics({"a": 1.0}, step=0)
    log.log_metrics({"b, quoted": 2.0}, step=0)
    log.log_metrics({"a": 3.0}, step=1)
    with log.path.open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["step", "a", "b, quoted"],
        ["0", "1.0", ""],
        ["0", "", "2.0"],
        ["1", "3.0", ""],
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


def test_a_resume_replaces_the_steps_that_it_does_again(tmp_path):
    killed = MetricsLog(str(tmp_path))
    for step in range(4):
        killed.log_metrics({"train/loss": float(step)}, step=step)
        killed.log_metrics({"val/loss": 10.0 + step}, step=step)
    resumed = MetricsLog(str(tmp_path))
    resumed.log_metrics({"train/loss": 7.0}, step=2)
    with resumed.path.open() as file:
        assert [line.split(",")[0] for line in file] == ["step", "0", "0", "1", "1", "2"]
    assert read_metrics(str(tmp_path)) == {
        0: {"train/loss": 0.0, "val/loss": 10.0},
        1: {"train/loss": 1.0, "val/loss": 11.0},
        2: {"train/loss": 7.0},
    }


def test_a_validation_that_was_not_reached_completes_its_step(tmp_path):
    MetricsLog(str(tmp_path)).log_metrics({"train/loss": 1.0}, step=3)
    MetricsLog(str(tmp_path)).log_metrics({"val/loss": 2.0}, step=3)
    assert read_metrics(str(tmp_path)) == {3: {"train/loss": 1.0, "val/loss": 2.0}}


def test_a_torn_row_is_left_out(tmp_path):
    log = MetricsLog(str(tmp_path))
    log.log_metrics({"train/loss": 1.0}, step=1)
    with log.path.open("a") as file:
        file.write("2,0.12")
    assert read_metrics(str(tmp_path)) == {1: {"train/loss": 1.0}}
    MetricsLog(str(tmp_path)).log_metrics({"train/loss": 0.125}, step=2)
    assert read_metrics(str(tmp_path)) == {1: {"train/loss": 1.0}, 2: {"train/loss": 0.125}}
