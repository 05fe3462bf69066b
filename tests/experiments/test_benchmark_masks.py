import json
from pathlib import Path

from experiments.benchmark import main

VIDEO = Path(__file__).parents[1] / "assets" / "videos" / "av1_video.mkv"


def test_masks_are_measured_by_stage_and_compared(capsys):
    arguments = ["masks", str(VIDEO), "--segmenter", "microworld", "--frames", "2"]
    assert main([*arguments, "--points-per-side", "3", "--rounds", "1"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["points"] == 9
    assert measured["frames"] == [2, 3, 360, 640]
    assert measured["masks"]["ours"] == measured["masks"]["package"]
    assert sum(measured["masks"]["ours"]) > 0
    assert measured["pixels_that_differ_in_one"] <= 1
    for stages in measured["cpu_seconds_a_frame"].values():
        assert all(seconds > 0 for seconds in stages.values())
        parts = stages["encoder"] + stages["decoder"] + stages["filters"]
        assert abs(parts - stages["all"]) < 1e-6
    assert set(measured["times_faster"]) == {"encoder", "decoder", "filters", "all"}
