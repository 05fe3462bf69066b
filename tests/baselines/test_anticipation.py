"""Action anticipation: the official outputs, training, and a system that predicts next events."""

import json
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from baseline_weights import golden_array, golden_values
from blind_frames import no_frames
from coded_video import draw
from tiny_perceiver import tiny_encoder
from torch import Tensor, nn

from vidreason.baselines.anticipation.anticipator import (
    Anticipator,
    NextLabels,
    build_network,
    observed_and_true,
)
from vidreason.baselines.anticipation.cnn import AnticipationCNN, smooth_rows
from vidreason.baselines.anticipation.config import AnticipationConfig, RecogniserConfig
from vidreason.baselines.anticipation.folder import NetworkFolder, load_anticipator, save_network
from vidreason.baselines.anticipation.recognise import FrameLabeller, seconds_covered
from vidreason.baselines.anticipation.rnn import AnticipationRNN, RollOut
from vidreason.baselines.anticipation.samples import MAX_LENGTH, cnn_samples, rnn_samples
from vidreason.baselines.anticipation.segments import (
    Recording,
    Segment,
    cut_at,
    label_matrix,
    labels_of,
    mean_over_classes,
    segments_of,
)
from vidreason.baselines.anticipation.system import Anticipation
from vidreason.baselines.anticipation.verbalise import next_futures, prediction_text
from vidreason.baselines.build import baseline_provenance, system_class
from vidreason.baselines.config import BaselineConfig
from vidreason.baselines.epoch_losses import still_falls
from vidreason.baselines.frames import FrameReader
from vidreason.baselines.system import SystemAnswerer
from vidreason.evaluation.benchmark import evaluate_examples
from vidreason.evaluation.config import EvaluationConfig
from vidreason.example import Example
from vidreason.reasoning.predictions import parse_predictions
from vidreason.reasoning.prompts import FUTURE_PREDICTION_PROMPT
from vidreason.reasoning.reasoner_config import DecodingConfig, FuturesConfig

TOLERANCE = 2e-6
LABELS = ("crack_egg", "fry_egg", "pour_milk")


# The networks against the official code.


@torch.no_grad()
def test_rnn_has_the_official_output_and_roll_out() -> None:
    golden = golden_values("anticipation")
    variables = [golden_array(f"v{n}", tuple(s), 0.5) for n, s in enumerate(golden["shapes"])]
    # The golden values are float32, whose last bits depend on the processor's order of sums; the
    # exact result is as near to them as their own rounding.
    for dtype, tolerance, length_tolerance in (
        (torch.float64, TOLERANCE, 2.5e-5),
        (torch.float32, 2 * TOLERANCE, 4e-4),
    ):
        network = AnticipationRNN(7, 32).to(dtype)
        network.load_official(variables)
        output = torch.cat(network(golden_array("x", (3, 25, 8)).abs().to(dtype)), 1)
        expected = torch.tensor(golden["y"]).to(dtype)
        torch.testing.assert_close(output, expected, rtol=0, atol=tolerance)
        # The official roll-out; its lengths are about 60 times the network's.
        official = RollOut(num_slots=25, kept="first")
        labels, frames = official.run(
            lambda slots, network=network, dtype=dtype: network(slots.to(dtype)),
            *(7, [1, 3, 2], [40, 30, 20], 200, 60.0),
        )
        assert [f"a{label}" for label in labels] == golden["lab"]
        assert frames == pytest.approx(golden["ln"], abs=length_tolerance)
    with pytest.raises(
        ValueError, match=r"variables: those of layer 3 .* \(7, 128\), expected \(6, 128\)"
    ):
        AnticipationRNN(6, 32).load_official([torch.zeros(7, 128), *variables[1:]])
    with pytest.raises(ValueError, match="expected 16, found 15"):
        network.load_official(variables[1:])


@torch.no_grad()
def test_cell_resets_before_the_product() -> None:
    """Against the published formula, for sizes that the golden values do not have."""
    network = AnticipationRNN(3, width=5, num_layers=3, head_width=4)
    slots = golden_array("slots", (2, 6, 4)).abs()
    inputs = torch.relu(slots @ network.fc_in.weight.T + network.fc_in.bias)
    states = [torch.zeros(2, 5) for _ in range(3)]
    for slot in range(6):
        below = inputs[:, slot]
        for number, cell in enumerate(network.cells):
            gates: Any = cell.gates
            candidate: Any = cell.candidate
            state = states[number]
            both = torch.sigmoid(torch.cat([below, state], 1) @ gates.weight.T + gates.bias)
            reset, update = both[:, :5], both[:, 5:]
            joined = torch.cat([below, reset * state], 1)
            new = torch.tanh(joined @ candidate.weight.T + candidate.bias)
            states[number] = below = update * state + (1 - update) * new
    head = torch.relu(network.fc_out(states[-1]))
    logits, lengths = network(slots)
    torch.testing.assert_close(logits, network.action(head), rtol=0, atol=TOLERANCE)
    torch.testing.assert_close(lengths, torch.relu(network.length(head)), rtol=0, atol=TOLERANCE)


def test_roll_out_rules() -> None:
    """A network that says what it sees: quirks of the official roll-out, and ours."""
    seen: list[Tensor] = []

    def network(slots: Tensor) -> Any:
        seen.append(slots[0])
        return torch.tensor([[0.0, 9.0]]), torch.tensor([[0.25, 0.05]])

    labels, frames = RollOut(num_slots=3, kept="first").run(network, 2, [0], [8.0], 20, 20.0)
    # 1 + 5 frames each time; the predicted segment is the next one's last.
    assert labels == [0, 1, 1, 1, 1]
    assert frames == pytest.approx([9.0, 6.0, 6.0, 6.0, 5.0])
    assert seen[-1][:, -1].tolist() == pytest.approx([9 / 20, 6 / 20, 6 / 20])
    seen.clear()
    RollOut(num_slots=3, kept="last").run(network, 2, [0], [8.0], 20, 20.0)
    assert seen[-1][:, -1].tolist() == pytest.approx([6 / 20, 6 / 20, 5 / 20])
    # Both lengths below a frame: the last segment fills the horizon.
    still = RollOut().run(lambda _: (torch.zeros(1, 2), torch.zeros(1, 2)), 2, [1], [4], 7, 1.0)
    assert still == ([1], [11.0])


@torch.no_grad()
def test_cnn_is_the_official_graph() -> None:
    """Against the graph's own formula, in its layout: batch, rows, columns, channels."""
    rows, labels, width = 12, 3, 5
    shapes = [(5, 1, 1, 8), (8,), (5, 1, 8, 16), (16,), (4 * rows * labels, width), (width,)]
    shapes += [(width, rows * labels), (rows * labels,)]
    variables = [golden_array(f"c{n}", shape, 0.5) for n, shape in enumerate(shapes)]
    network = AnticipationCNN(labels, rows, width)
    network.load_official(variables)
    observed = golden_array("m", (2, rows, labels)).abs()
    hidden = observed[..., None]  # (B, R, L, C)
    for kernel, bias in (variables[:2], variables[2:4]):
        padded = torch.cat([torch.zeros_like(hidden[:, :2]), hidden, 0 * hidden[:, :2]], 1)
        windows = torch.stack([padded[:, i : i + hidden.shape[1]] for i in range(5)], -2)
        hidden = torch.relu(torch.einsum("brlki,kio->brlo", windows, kernel[:, 0]) + bias)
        hidden = hidden.unflatten(1, (-1, 2)).amax(2)
    flat = torch.relu(hidden.flatten(1) @ variables[4] + variables[5]) @ variables[6] + variables[7]
    expected = nn.functional.normalize(flat.view(2, rows, labels), dim=2)
    torch.testing.assert_close(network(observed), expected, rtol=0, atol=TOLERANCE)
    with pytest.raises(ValueError, match=r"layer 3 .* check the number of labels"):
        AnticipationCNN(labels + 1, rows, width).load_official(variables)


def test_smoothing_is_that_of_scipy() -> None:
    """Its rule: the Gaussian ends after 4 deviations, the end rows are mirrored and count twice."""
    for rows, sigma, radius in ((128, 3.0, 12), (5, 3.0, 12), (9, 0.7, 3), (1, 2.0, 8)):
        values = golden_array("s", (rows, 4))
        weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
        mirrored = np.pad(values.double().numpy(), ((radius, radius), (0, 0)), mode="symmetric")
        columns = [np.convolve(row, weights / weights.sum(), mode="valid") for row in mirrored.T]
        expected = torch.from_numpy(np.stack(columns, 1))
        torch.testing.assert_close(
            smooth_rows(values, sigma).double(), expected, rtol=0, atol=TOLERANCE
        )
    assert smooth_rows(values, 0) is values


# Segments and the metric.


def test_segments_slots_and_matrices() -> None:
    parts = segments_of("aabbbc")
    assert parts == (Segment("a", 2), Segment("b", 3), Segment("c", 1))
    assert labels_of(parts) == list("aabbbc")
    assert cut_at(parts, 3) == (
        (Segment("a", 2), Segment("b", 1)),
        (Segment("b", 2), Segment("c", 1)),
    )
    assert cut_at(parts, 0) == ((), parts)
    assert cut_at(parts, 9) == (parts, ())
    # Boundaries at 8 * 2 / 6 and 8 * 5 / 6, rounded down; an unknown label has empty rows.
    matrix = label_matrix(parts, {"a": 0, "c": 1}, 8)
    assert matrix.argmax(1).tolist() == [0, 0, 0, 0, 0, 0, 1, 1]
    assert matrix.sum(1).tolist() == [1, 1, 0, 0, 0, 0, 1, 1]
    assert not label_matrix((), {"a": 0}, 4).any()
    slots = RollOut(num_slots=2).inputs([0, None, 1], [2, 3, 1], 4.0, 2)
    assert slots.tolist() == [[0, 0, 0.75], [0, 1, 0.25]]


def test_mean_over_classes() -> None:
    # a: 2 of 4; b: 1 of 1; c never occurs; the frame that is not predicted does not count.
    pairs = [("aab", "acb"), ("aab", "ac")]
    assert mean_over_classes(pairs) == pytest.approx((2 / 4 + 1 / 1) / 2)
    assert np.isnan(mean_over_classes([]))
    observed, truth = observed_and_true(segments_of("a" * 7 + "b" * 6), 0.3, 0.5)
    assert (observed, truth) == ((Segment("a", 3),), list("aaaabb"))


def test_samples_are_cut_as_the_official_ones() -> None:
    recording = Recording(video_id="v", segments=segments_of("a" * 10 + "b" * 5 + "c" * 3))
    index = {"a": 0, "b": 1, "c": 2}
    config = AnticipationConfig(length_reference="total", num_slots=3)
    slots, labels, lengths = rnn_samples([recording], index, config, 2)
    scale = 18 / 6
    # First cuts at a quarter: 2 of a, 1 of b; second ones at three quarters: 7 and 3.
    assert labels.tolist() == [1, 2, 1, 2]
    assert (lengths * scale).tolist() == [[1, 8], [3, 4], [3, 3], [3, 2]]
    assert (slots[1] * scale)[:, -1].tolist() == [10, 1, 0]
    # Relative to what is observed: 2 frames of a make every length large, up to the limit.
    seen = rnn_samples([recording], index, AnticipationConfig(num_slots=3), 2)
    assert seen.lengths[0].tolist() == pytest.approx([1 / (2 / 1.5), MAX_LENGTH])
    observed, future = cnn_samples([recording], index, AnticipationConfig(length_reference="total"))
    assert observed.shape == future.shape == (4, 128, 3)
    # At 50 % (frame 9), what follows is 1 of a, 5 of b, 3 of c.
    assert future[3].sum(0).tolist() == [14, 71, 43]
    with pytest.raises(ValueError, match="nothing to anticipate"):
        rnn_samples([Recording(video_id="v", segments=segments_of("aa"))], index, config, 2)


def test_events_teach_what_is_known_of_them() -> None:
    """After the end of the video only the next event is known, and of nothing not even its time."""
    parts = (Segment("a", 300), Segment("b", 350), Segment("c", 1))
    index = {"a": 0, "b": 1, "c": 2}
    for is_timed, rest in ((True, 50 / (600 / 1.5)), (False, float("nan"))):
        recording = Recording(video_id="v", segments=parts, observed=600, is_timed=is_timed)
        _, labels, lengths = rnn_samples([recording], index, AnticipationConfig(), 1)
        assert labels.tolist() == [1, 2, 2]
        assert lengths[:, 0].isnan().tolist() == [False, True, True]
        assert lengths[2, 1].item() == pytest.approx(rest, nan_ok=True)
        _, future = cnn_samples([recording], index, AnticipationConfig())
        # 50 of b, then c for as long as the network looks ahead, 600.
        assert future[0].sum(0).tolist() == [0, 10, 118]
    with pytest.raises(ValueError, match="length_reference=observed"):
        rnn_samples([recording], index, AnticipationConfig(length_reference="total"), 1)


# Training.

GRAMMAR = {"a": ("b", 20), "b": ("c", 30), "c": ("d", 10), "d": ("a", 40)}


def grammar_recordings(number: int) -> list[Recording]:
    """Recordings in which the label says what comes next."""
    recordings = []
    for video in range(number):
        label = "abcd"[video % 4]
        parts = []
        for position in range(4 + video % 3):
            following, length = GRAMMAR[label]
            parts.append(Segment(label, length + (3 * video + position) % 5))
            label = following
        recordings.append(Recording(video_id=str(video), segments=tuple(parts)))
    return recordings


def trained(config: AnticipationConfig, recordings: list[Recording], steps: int) -> Anticipator:
    """A network after some steps of its module's loss, without a Trainer."""
    from vidreason.baselines.anticipation.module import CnnModule, RnnModule

    index = {label: number for number, label in enumerate("abcd")}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_network(config, 4)
    module: Any
    if config.network == "cnn":
        batch: Any = cnn_samples(recordings, index, config)
        module = CnnModule(network, 1e-3)
    else:
        batch = rnn_samples(recordings, index, config, 4)
        module = RnnModule(network, 1e-2)
    optimizer = module.configure_optimizers()
    for _ in range(steps):
        optimizer.zero_grad()
        loss = module.loss(batch)
        loss.backward()
        optimizer.step()
    network.last_loss = loss.item()
    return Anticipator(network.eval(), config, tuple("abcd"))


@pytest.mark.parametrize("reference", ["total", "observed"])
def test_rnn_learns_a_grammar(reference: Any) -> None:
    config = AnticipationConfig(
        length_reference=reference, num_slots=4, rnn_width=16, rnn_layers=1, head_width=16
    )
    recordings = grammar_recordings(12)
    anticipator = trained(config, recordings, 150)
    right = total = 0
    for recording in recordings:
        for cut in range(1, len(recording.segments)):
            observed = list(recording.segments[:cut])
            observed[-1] = observed[-1]._replace(length=int(observed[-1].length * 0.6))
            following = anticipator.next_labels(observed, recording.length)
            best = anticipator.labels[int(following.log_probabilities.argmax())]
            right, total = right + (best == recording.segments[cut].label), total + 1
    assert right / total >= 0.95
    # Half of the frames seen, the rest is predicted in the right order.
    observed_half, truth = observed_and_true(recordings[0].segments, 0.5, 0.5)
    future = anticipator.future(observed_half, len(truth), recordings[0].length)
    assert len(future) >= 0.9 * len(truth)
    order = [part.label for part in segments_of(future)]
    assert all(GRAMMAR[label][0] == after for label, after in pairwise(order))
    if reference == "total":
        assert mean_over_classes([(truth, future)]) > 0.5


def varied_recordings(number: int) -> list[Recording]:
    """Recordings with many segments, whose lengths tell one observed part from another."""
    recordings = []
    for video in range(number):
        lengths = [3 + (7 * video + 5 * position) % 11 for position in range(32)]
        parts = [Segment("abcd"[(video + n) % 4], length) for n, length in enumerate(lengths)]
        recordings.append(Recording(video_id=str(video), segments=tuple(parts)))
    return recordings


@pytest.mark.slow
def test_cnn_fits_a_grammar() -> None:
    config = AnticipationConfig(network="cnn", length_reference="total", sigma=0, cnn_width=256)
    recordings = varied_recordings(8)
    anticipator = trained(config, recordings, 300)
    assert anticipator.network.last_loss < 2e-3
    observed_rows, future_rows = cnn_samples(recordings, anticipator.index, config)
    with torch.no_grad():
        predicted = anticipator.network(observed_rows).argmax(2)
    assert (predicted == future_rows.argmax(2)).float().mean() > 0.99
    pairs = []
    for recording in recordings:
        observed, truth = observed_and_true(recording.segments, 0.3, 0.5)
        pairs.append((truth, anticipator.future(observed, len(truth), recording.length)))
    # Each of the 16 segments is cut to whole frames, so that the later ones come early.
    assert mean_over_classes(pairs) > 0.6


def test_cnn_loss_falls_and_its_rows_are_a_distribution() -> None:
    config = AnticipationConfig(network="cnn", num_rows=16, cnn_width=32, sigma=1.0)
    recordings = grammar_recordings(4)
    anticipator = trained(config, recordings, 100)
    # A row without any knowledge has ((1 - 1/2)^2 + 3/4) / 4.
    assert anticipator.network.last_loss < 0.125
    following = anticipator.next_labels(recordings[0].segments[:1])
    assert following.log_probabilities.exp().sum().item() == pytest.approx(1)
    assert anticipator.labels[int(following.log_probabilities.argmax())] == "b"
    # The last observed label is not its own successor.
    assert following.log_probabilities.argmin() == 0
    assert len(anticipator.future(recordings[0].segments[:2], 33)) == 33
    # Blind: an empty matrix.
    assert anticipator.next_labels(()).log_probabilities.exp().sum().item() == pytest.approx(1)


def test_a_loss_that_still_falls_is_told() -> None:
    falling = [10 - 0.1 * epoch for epoch in range(20)]
    assert still_falls(falling)
    assert still_falls([1.0])
    assert not still_falls([2.0**-epoch for epoch in range(20)])
    assert not still_falls([*falling, *[8.0, 8.01] * 10])


# Words.


def test_next_labels_in_words() -> None:
    following = NextLabels(
        torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64).log(), {1: 120.0}, 250.0
    )
    observed = (Segment("crack_egg", 70.0),)
    futures = next_futures(following, LABELS, observed, FuturesConfig())
    assert [(item.event, round(item.probability, 6), item.seconds) for item in futures] == [
        ("fry egg", 0.5, 1.2),
        ("pour milk", 0.3, None),
        ("crack egg", 0.2, None),
    ]
    text = prediction_text(futures)
    assert text.startswith("1. fry egg\nJustification: after crack egg, in about 1.2 s, for about")
    parsed = parse_predictions(text)
    assert not parsed.unparsed
    assert [(item.event, item.confidence) for item in parsed.items] == [
        ("fry egg", 0.5),
        ("pour milk", 0.3),
        ("crack egg", 0.2),
    ]
    two = next_futures(following, LABELS, (), FuturesConfig(num_candidates=2))
    assert [round(item.probability, 4) for item in two] == [0.625, 0.375]


# The system on a real video.


def example(media: str = "", **changes: Any) -> Example:
    fields: dict[str, Any] = {"id": "x:test:1", "corpus": "x", "media": media, "video_id": "v"}
    fields |= {"prompt": FUTURE_PREDICTION_PROMPT, "response": "", **changes}
    return Example(**fields)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network and a recogniser of random weights, as training writes them, and a video."""
    folder = tmp_path_factory.mktemp("anticipation")
    with torch.random.fork_rng():
        torch.manual_seed(3)
        config = AnticipationConfig(num_slots=4, rnn_width=8, head_width=8)
        description = NetworkFolder(config=config, labels=(*LABELS, "SIL"), silent=("SIL",))
        save_network(folder / "model", description, build_network(config, 4))
        recogniser = RecogniserConfig(video_encoder=tiny_encoder(), num_frames=4, width=8)
        head = FrameLabeller(16, 2, 8, 4)
        save_network(
            folder / "recogniser", NetworkFolder(config=recogniser, labels=LABELS[:2]), head
        )
    (folder / "groundTruth").mkdir()
    (folder / "groundTruth" / "v.txt").write_text("crack_egg\n" * 10 + "pour_milk\n" * 10)
    with av.open(str(folder / "v.mp4"), "w") as container:
        stream: Any = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(20):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(draw(number), "rgb24")))
        container.mux(stream.encode())
    return folder


def baseline_config(
    folders: Path, recogniser: str = "recogniser", **changes: Any
) -> BaselineConfig:
    weights = {"model": str(folders / "model"), "recogniser": str(folders / recogniser)}
    return BaselineConfig(kind="anticipation", weights=weights | changes)


def answerer(config: BaselineConfig, frames: Any = None) -> SystemAnswerer:
    return SystemAnswerer(
        system_class(config),
        lambda: Anticipation.load(config, DecodingConfig(), torch.device("cpu")),
        Anticipation.frame_rule(config),
        frames or FrameReader(),
        baseline_provenance(config),
    )


def test_system_predicts_and_chooses_on_a_video(folders: Path) -> None:
    media = str(folders / "v.mp4")
    questions = [
        example(media, id="x:test:1"),
        example(
            media,
            id="x:test:2",
            prompt="What comes next?",
            options=("Pour milk.", "fry egg"),
            question_type="Prediction_T1",
            answer_index=0,
        ),
        # A question about the past, and one whose options are no labels.
        example(media, id="x:test:3", prompt="q", options=("fry egg", "pour milk")),
        example(
            media, id="x:test:4", prompt="q", options=("yes", "no"), question_type="predictive"
        ),
        example(media, id="x:test:5", prompt="Why?"),
    ]
    for recogniser in ("recogniser", "groundTruth"):
        system = answerer(baseline_config(folders, recogniser))
        assert system.capabilities == {"predict", "choose"}
        rows = evaluate_examples(system, questions, EvaluationConfig(batch_size=8))
        futures = rows[0].futures
        assert {item.event for item in futures} == {"crack egg", "fry egg", "pour milk"}
        assert sum(item.probability for item in futures) == pytest.approx(1)
        assert parse_predictions(rows[0].output).items[0].event == futures[0].event
        first = next(item.event for item in futures if item.event != "crack egg")
        assert rows[1].output == {"pour milk": "Pour milk.", "fry egg": "fry egg"}[first]
        missing = [row.missing_capability for row in rows]
        assert missing == ["", "", "choose", "choose", "answer"]
    # Blind, it knows nothing of the video.
    reader = FrameReader()
    blind = answerer(baseline_config(folders), lambda *span: no_frames(reader(*span)))
    reply = blind.predict(questions[:1])[0]
    assert reply.futures
    assert all(not item.justification.startswith("after") for item in reply.futures)


def test_recognised_segments(folders: Path) -> None:
    config = baseline_config(folders, "groundTruth")
    annotated = Anticipation.load(config, DecodingConfig(), torch.device("cpu"))._recogniser
    frames = FrameReader()(str(folders / "v.mp4"), None, None, Anticipation.frame_rule(config))
    assert annotated(frames, example()) == (Segment("crack_egg", 100), Segment("pour_milk", 100))
    span = FrameReader()(str(folders / "v.mp4"), 0.5, 1.5, Anticipation.frame_rule(config))
    parts = annotated(span, example(start_seconds=0.5, end_seconds=1.5))
    assert [(part.label, round(part.length)) for part in parts] == [
        ("crack_egg", 50),
        ("pour_milk", 50),
    ]
    assert annotated(no_frames(frames), example()) == ()
    with pytest.raises(ValueError, match="no file of labels of video 'other'"):
        annotated(frames, example(video_id="other"))
    # The trained one covers what it sees, also where a control shows the first half alone.
    config = baseline_config(folders)
    rule = Anticipation.frame_rule(config)
    trained_one = Anticipation.load(config, DecodingConfig(), torch.device("cpu"))._recogniser
    for shown, seconds in ((rule, 2.0), (lambda available: rule(available // 2), 1.0)):
        frames = FrameReader()(str(folders / "v.mp4"), None, None, shown)
        assert seconds_covered(frames) == pytest.approx(seconds, abs=0.1)
        length = sum(part.length for part in trained_one(frames, example()))
        assert length == pytest.approx(100 * seconds_covered(frames))
    one = FrameReader()(str(folders / "v.mp4"), None, None, lambda available: [available // 2])
    assert len(trained_one(one, example())) == 1


def test_damaged_folders_are_refused(folders: Path, tmp_path: Path) -> None:
    device = torch.device("cpu")
    wrong: list[str] = []

    def check(change: Any, message: str) -> None:
        folder = tmp_path / "model"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(folders / "model", folder)
        change(folder)
        try:
            load_anticipator(folder, device)
        except ValueError as error:
            if message not in str(error):
                wrong.append(f"{message}: {error}")
        else:
            wrong.append(f"{message}: loaded")

    def edit(**changes: Any) -> Any:
        def change(folder: Path) -> None:
            path = folder / "config.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | changes))

        return change

    def cut(folder: Path) -> None:
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-9])

    def other_weights(folder: Path) -> None:
        shutil.copy(folder / "model.safetensors", tmp_path / "same")
        content = bytearray((folder / "model.safetensors").read_bytes())
        content[-1] ^= 1
        (folder / "model.safetensors").write_bytes(content)

    check(lambda folder: (folder / "config.json").unlink(), "there is no config.json")
    check(lambda folder: (folder / "model.safetensors").unlink(), "there is no file")
    check(cut, "truncated or damaged")
    check(other_weights, "is not the file that config.json beside it was written with")
    check(edit(labels=["a", "b"]), "do not fit AnticipationRNN")
    check(edit(labels=["a", "a"]), "one is there twice")
    check(edit(labels="abcd"), "'labels' is no list of texts")
    check(edit(kind="recogniser"), "kind is 'recogniser', expected 'anticipator'")
    check(edit(config={"rnn_width": "wide"}), "rnn_width")
    check(edit(config=3), "'config' is no object")
    assert not wrong


def test_unfit_weights_of_the_system(folders: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"weights.recogniser is '', which is no folder"):
        Anticipation.facts(
            BaselineConfig(kind="anticipation", weights={"model": str(folders / "model")})
        )
    total = AnticipationConfig(length_reference="total", rnn_width=4, head_width=4)
    save_network(
        tmp_path / "model", NetworkFolder(config=total, labels=("a",)), build_network(total, 1)
    )
    with pytest.raises(ValueError, match="length_reference=total"):
        Anticipation.facts(baseline_config(folders, model=str(tmp_path / "model")))
    facts = Anticipation.facts(baseline_config(folders, "groundTruth"))
    assert facts.fidelity == "re-trained"
    assert "an oracle" in facts.deviations[0]
    # The files of labels are part of the identity.
    shutil.copytree(folders / "groundTruth", tmp_path / "labels")
    config = baseline_config(tmp_path, "labels")
    before = Anticipation.identity(config)
    (tmp_path / "labels" / "w.txt").write_text("pour_milk\n")
    after = Anticipation.identity(config)
    assert before["model"] == after["model"]
    assert before["recogniser"] != after["recogniser"]
