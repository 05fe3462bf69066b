"""Decoding sampled frames: our reader against PyAV in order, PyAV by seeking, and torchcodec.

Everything runs on one thread, in turns (A B, then B A), and CPU time is counted, that of our
decoder process too. A ratio above 1 says how many times as much CPU time as our reader a way needs;
it is the median over the rounds. Each frame is compared with that of decoding in order. The videos
are written by this program: texture, camera movement, moving patches and noise, coded by x264.
torchcodec is measured where it can be imported (it needs the shared libraries of FFmpeg).
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from experiments.benchmark.arguments import SIZES
from experiments.benchmark.paired import cpu_seconds, ratios, seconds_in_turns
from experiments.benchmark.videos import VideoPlan, write_benchmark_video, write_repeated
from vidreason.markdown import table
from vidreason.video import watchdog
from vidreason.video.reader import DIRECT, VideoReader

Pictures = NDArray[np.uint8]
Way = Callable[[str, list[int]], Pictures]


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure; returns CPU milliseconds, ratios and equal frames by video and way."""
    ways = _ways()
    measured: dict[str, Any] = {"versions": _versions(), "videos": {}}
    with tempfile.TemporaryDirectory() as folder:
        for size in arguments.sizes:
            width, height, rate = SIZES[size]
            # A seek lands on the first frame of a group: frames far into a long one cost the most.
            # With B-frames, frames are shown in another order than they are stored in.
            for group, b_frames in ((48, 3), (48, 0), (250, 3), (250, 0)):
                name = f"{size}-gop{group}-b{b_frames}"
                plan = VideoPlan(
                    width=width, height=height, rate=rate, group=group, b_frames=b_frames
                )
                path = Path(folder, f"{name}.mp4")
                print(f"writing and measuring {name}", file=sys.stderr)
                write_benchmark_video(path, plan, arguments.seconds * rate)
                measured["videos"][name] = _measure(ways, str(path), arguments)
        measured["long"] = {
            suffix: _measure_long(ways, Path(folder), suffix, arguments)
            for suffix in ("mp4", "mkv")
        }
    return measured


def tables(measured: dict[str, Any]) -> Iterator[str]:
    """The numbers of :func:`run` as Markdown."""
    videos = dict(measured["videos"])
    for suffix, rows in measured["long"].items():
        videos |= {f"{name} {suffix}": rows[name] for name in ("minute", "long")}
    yield table(
        ["Video", "Way", "CPU ms", "times ours", "equal frames"],
        (
            [video, way, str(row["cpu_ms"]), str(row["times_ours"]), row["equal_frames"]]
            for video, rows in videos.items()
            for way, row in rows.items()
        ),
        num_left=2,
    )


def _measure(ways: dict[str, Way], path: str, arguments: argparse.Namespace) -> dict[str, Any]:
    # PyAV in order, not our reader, says what the frames are: ours is checked by it, too.
    wanted = _sampled(DIRECT.index(path).num_frames, arguments.frames)
    truth = decode_in_order(path, wanted)
    return _in_turns(ways, path, wanted, truth, arguments.rounds)


def _measure_long(
    ways: dict[str, Way], folder: Path, suffix: str, arguments: argparse.Namespace
) -> dict[str, Any]:
    """A video and one of its first minute: what the same number of frames costs of each."""
    print(f"writing and measuring long {suffix} files", file=sys.stderr)
    width, height, rate = SIZES["360p"]
    plan = VideoPlan(width=width, height=height, rate=rate, group=48, b_frames=3)
    # Whole groups, so that each repetition begins with a key frame.
    once = folder / "once.mp4"
    num_once = 10 * plan.group
    write_benchmark_video(once, plan, num_once)
    pictures = decode_in_order(str(once), list(range(num_once)))
    rows: dict[str, Any] = {}
    for name, seconds in (("minute", 60), ("long", arguments.long_seconds)):
        path = folder / f"{name}.{suffix}"
        write_repeated(once, path, round(seconds * rate / num_once))
        wanted = _sampled(DIRECT.index(str(path)).num_frames, arguments.frames)
        # Frame n of a repeated video is frame n modulo num_once of the short one.
        truth = pictures[[number % num_once for number in wanted]]
        # In order, an hour would have to be decoded whole.
        chosen = {way: ways[way] for way in ways if way != "pyav in order"}
        rows[name] = _in_turns(chosen, str(path), wanted, truth, arguments.rounds)
    rows["long / minute"] = {
        way: round(row["cpu_ms"] / rows["minute"][way]["cpu_ms"], 2)
        for way, row in rows["long"].items()
    }
    return rows


def _in_turns(
    ways: dict[str, Way], path: str, wanted: list[int], truth: Pictures, rounds: int
) -> dict[str, Any]:
    equal = {}
    for name, way in ways.items():  # warm, and checked
        pictures = way(path, wanted)
        # (frames, H, W, 3), compared bit by bit
        equal[name] = sum(
            bool((one == other).all()) for one, other in zip(pictures, truth, strict=True)
        )
    calls = {name: partial(way, path, wanted) for name, way in ways.items()}
    seconds = seconds_in_turns(calls, rounds, _cpu_seconds)
    # Ratios of each round, then their median: a round is slow or quick for all ways alike.
    times_ours = ratios(seconds, to="ours")
    return {
        name: {
            "cpu_ms": round(1000 * statistics.median(seconds[name]), 1),
            "times_ours": round(times_ours[name]["median"], 3),
            "equal_frames": f"{equal[name]}/{len(wanted)}",
        }
        for name in ways
    }


def _cpu_seconds() -> float:
    """CPU time of this process and of its decoder process."""
    seconds = cpu_seconds()
    decoder = watchdog.decoder_process_id()
    # The clock of another process' CPU time (clock_getcpuclockid of the C library).
    return seconds if decoder is None else seconds + time.clock_gettime((~decoder << 3) | 2)


def _ways() -> dict[str, Way]:
    ways: dict[str, Way] = {
        "ours": _way_of(DIRECT),
        # In the decoder process, with a limit that no load of the machine reaches.
        "ours, watched": _way_of(VideoReader(timeout_seconds=600)),
        "pyav in order": decode_in_order,
        "pyav by seeking": _decode_by_seeking,
    }
    try:
        from torchcodec.decoders import VideoDecoder  # type: ignore[import-not-found]
    except (ImportError, RuntimeError, OSError) as error:
        # It raises a RuntimeError of many lines where it finds no FFmpeg.
        print(f"torchcodec is left out: {str(error).splitlines()[0]}", file=sys.stderr)
        return ways

    def torchcodec_way(seek_mode: str) -> Way:
        def decode(path: str, wanted: list[int]) -> Pictures:
            # One thread, as the other ways have: threads that wait for each other burn CPU time.
            decoder = VideoDecoder(
                path, num_ffmpeg_threads=1, seek_mode=seek_mode, dimension_order="NHWC"
            )
            pictures: Pictures = decoder.get_frames_at(wanted).data.numpy()
            return pictures

        return decode

    # The first scans the file for its frames; the second computes their times from the header.
    ways["torchcodec exact"] = torchcodec_way("exact")
    ways["torchcodec approximate"] = torchcodec_way("approximate")
    return ways


def _way_of(reader: VideoReader) -> Way:
    def decode(path: str, wanted: list[int]) -> Pictures:
        # Indexed anew, as the other ways open the file anew: (n, 3, H, W) -> (n, H, W, 3)
        return reader.read_frames(reader.index(path), wanted).permute(0, 2, 3, 1).numpy()

    return decode


def decode_in_order(path: str, wanted: list[int]) -> Pictures:
    """Decode from the start to the last wanted frame, and turn the wanted ones into RGB."""
    chosen = set(wanted)
    pictures = {}
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for number, frame in enumerate(container.decode(stream)):
            if number in chosen:
                pictures[number] = frame.to_ndarray(format="rgb24")
            if number == wanted[-1]:
                break
    return np.stack([pictures[number] for number in wanted])


def _decode_by_seeking(path: str, wanted: list[int]) -> Pictures:
    """Seek to the key frame before each wanted frame, and decode up to it.

    Timestamps come from the frame rate, as in code that is often seen.
    """
    pictures = []
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        rate, tick = stream.average_rate, stream.time_base
        assert rate is not None
        assert tick is not None
        for number in wanted:
            pts = (stream.start_time or 0) + round(number / rate / tick)
            container.seek(pts, stream=stream)
            for frame in container.decode(stream):
                if frame.pts is not None and frame.pts >= pts:
                    pictures.append(frame.to_ndarray(format="rgb24"))
                    break
    return np.stack(pictures)


def _sampled(num_frames: int, num_sampled: int) -> list[int]:
    """The middles of equal parts, as the sampling takes them."""
    # (num_sampled,), in frames
    middles = (np.arange(num_sampled) + 0.5) / num_sampled * num_frames
    return [int(number) for number in middles]


def _versions() -> dict[str, str]:
    return {
        "pyav": av.__version__,
        "libavcodec": ".".join(map(str, av.library_versions["libavcodec"])),
    }
