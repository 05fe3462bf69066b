import struct

from experiments.metrics_log import MetricsLog, read_metrics


def test_values_come_back_bit_for_bit_and_later_ones_win(tmp_path):
    (third,) = struct.unpack("f", struct.pack("f", 1 / 3))
    MetricsLog(str(tmp_path)).log_metrics({"train/loss": third}, step=2)
    resumed = MetricsLog(str(tmp_path))
    resumed.log_metrics({"train/loss": 7.0}, step=1)
    resumed.log_metrics({"val/loss": 0.5}, step=2)
    resumed.log_metrics({"train/loss": 0.25}, step=1)
    assert read_metrics(str(tmp_path)) == {
        1: {"train/loss": 0.25},
        2: {"train/loss": third, "val/loss": 0.5},
    }


def test_a_torn_line_is_left_out(tmp_path):
    log = MetricsLog(str(tmp_path))
    log.log_metrics({"train/loss": 1.0}, step=1)
    with log.path.open("a") as file:
        file.write('{"step": 2, "train/l')
    assert read_metrics(str(tmp_path)) == {1: {"train/loss": 1.0}}
