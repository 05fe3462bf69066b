"""Telling the H.264 pictures that no other refers to, and never taking damage for one of them."""

import random
from pathlib import Path

import av
import pytest
from coded_video import decode_in_order, write_video

from vidreason.video.h264 import is_unreferenced
from vidreason.video.reader import DIRECT


@pytest.mark.parametrize("name", ["v.mp4", "v.ts"])
def test_leaving_out_unreferenced_pictures_changes_no_other(name: str, tmp_path: Path) -> None:
    """The plain decoder, not given those packets, shows exactly the other frames, unchanged."""
    options = {"g": "20", "bf": "3", "x264-params": "b-pyramid=normal:scenecut=0:b-adapt=0"}
    path = write_video(tmp_path / name, options=options)
    truth = decode_in_order(path)
    kept, num_left_out = [], 0
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        pts = sorted(p.pts for p in container.demux(stream) if p.size)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        extradata = stream.codec_context.extradata
        for packet in container.demux(stream):
            if packet.size and is_unreferenced(bytes(packet), extradata):
                num_left_out += 1
                continue
            kept.extend(packet.decode())
    assert num_left_out >= 15
    assert len(kept) == 40 - num_left_out
    for frame in kept:
        assert (frame.to_ndarray(format="rgb24") == truth[pts.index(frame.pts)]).all()


def test_what_cannot_be_understood_is_left_to_the_decoder() -> None:
    avc = b"\x01\x64\x00\x1e\xff\xe1"
    whole = b"\0\0\0\3\x01\x9a\x55"  # one slice of a picture, nal_ref_idc 0
    assert is_unreferenced(whole, avc)
    assert is_unreferenced(b"\0\0\0\2\x06\x05" + whole, avc)  # with a message before it
    assert is_unreferenced(b"\0\0\0\1\x01\x9a\x55", None)
    assert not is_unreferenced(b"\0\0\0\3\x41\x9a\x55", avc)  # nal_ref_idc 2
    assert not is_unreferenced(whole[:-1], avc)  # cut off
    assert not is_unreferenced(bytes(7), avc)
    assert not is_unreferenced(b"", avc)
    assert not is_unreferenced(b"\0\0\0\2\x06\x05", avc)  # no picture at all
    assert not is_unreferenced(b"\0\0\0\3\x81\x9a\x55", avc)  # the forbidden bit


def test_sparse_reading_with_pyramids_is_exact(tmp_path: Path) -> None:
    options = {"g": "40", "bf": "5", "x264-params": "b-pyramid=normal:b-adapt=0:scenecut=0"}
    path = write_video(tmp_path / "v.mp4", options=options)
    truth = decode_in_order(path)
    index = DIRECT.index(str(path))
    generator = random.Random(0)
    for _ in range(30):
        wanted = generator.sample(range(40), generator.randint(1, 5))
        frames = DIRECT.read_frames(index, wanted).permute(0, 2, 3, 1).numpy()
        assert (frames == truth[wanted]).all()
