import json

from experiments.benchmark.__main__ import main
from vidreason.microworld.corpora import WorldConfig, write_world


def test_masks_are_measured_by_stage_and_compared(tmp_path, capsys):
    write_world(tmp_path, WorldConfig(num_videos={"train": 1, "val": 1, "test": 1}))
    video = next((tmp_path / "webvid" / "videos").rglob("*.mp4"))
    arguments = ["masks", str(video), "--segmenter", "microworld", "--frames", "2"]
    report = tmp_path / "report"
    sizes = ["--points-per-side", "5", "--rounds", "1", "--output-dir", str(report)]
    assert main([*arguments, *sizes]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert json.loads((report / "masks.json").read_text()) == measured
    assert measured["machine"]["versions"]["torch"]
    page = (report / "masks.md").read_text()
    assert "--points-per-side 5" in page
    assert f"| all | {measured['cpu_seconds_a_frame']['ours']['all']:.3f} |" in page
    assert measured["points"] == 25
    assert measured["frames"][:2] == [2, 3]
    assert measured["masks"]["ours"] == measured["masks"]["package"]
    assert sum(measured["masks"]["ours"]) > 0
    assert measured["pixels_that_differ_in_one"] <= 1
    for stages in measured["cpu_seconds_a_frame"].values():
        assert all(seconds > 0 for seconds in stages.values())
        parts = stages["encoder"] + stages["decoder"] + stages["filters"]
        assert abs(parts - stages["all"]) < 1e-6
    assert set(measured["times_faster"]) == {"encoder", "decoder", "filters", "all"}
