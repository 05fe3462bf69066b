"""SeViLA's self-refinement, re-composed: the answerer labels frames, the localizer learns them."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from data_modules.corpora import CorpusConfig
from data_modules.corpus_index import open_corpora
from data_modules.epoch_loader import NumpyOrder
from data_modules.key_frame_samples import KeyFrameSamples, LabelledFrame, collate_key_frames
from experiments.train_baseline.config import TrainBaselineConfig
from experiments.train_baseline.run_folder import (
    check_settings,
    failure_log,
    save_scores,
    save_settings,
)
from experiments.train_baseline.sample_training import fit_samples, held_out_metrics, sample_loader
from experiments.writer_lock import sole_writer
from vidreason.atomic_file import write_atomically
from vidreason.baselines.sevila_decoder.key_frames import check_sevila_part, key_frames
from vidreason.baselines.sevila_decoder.localizer_training import LocalizerTraining
from vidreason.baselines.sevila_decoder.pseudo_labels import (
    has_right_answer,
    pseudo_labels,
)
from vidreason.devices import torch_device
from vidreason.evaluation.config import EvaluationConfig
from vidreason.example import Example, MediaSpan
from vidreason.json_object import read_json_object
from vidreason.model import Provenance, VideoReasoner
from vidreason.perception.visual_tokens import TokenSource
from vidreason.pretrained.folder_config import read_config
from vidreason.pretrained.hub import local_reasoner_folder
from vidreason.pretrained.identity import reasoner_identity
from vidreason.reasoning.reasoner_config import DecodingConfig
from vidreason.store.visual_token_source import VisualTokenSource
from vidreason.video.failures import FailureLog, VideoReadError

LOCALIZER_FOLDER = "localizer"
_LABELS_FILE = "pseudo_labels-{split}.json"


def train_sevila_localizer(config: TrainBaselineConfig) -> None:
    """Label the frames, train the localizer, and write its reasoner folder and its scores.

    Raises:
        ValueError: The answerer is missing, damaged or of another architecture, the corpora have
            no question with a right answer, another process writes to ``run_dir``, or it holds a
            run of other settings.
        UnreadableVideosError: Too many videos cannot be read.
    """
    folder, settings = Path(config.run_dir), config.sevila_localizer
    with sole_writer(folder, "train_baseline"):
        check_settings(folder, config)
        answerer_folder = local_reasoner_folder(settings.answerer)
        name = f"sevila_localizer.answerer {settings.answerer!r}"
        # By its configuration alone: another architecture is refused before its weights are read.
        check_sevila_part(read_config(answerer_folder).reasoner, name)
        device = torch_device(config.device)
        reasoner = VideoReasoner.from_pretrained(answerer_folder, device)
        assert reasoner.perceiver is not None  # it comes with every folder
        source = VisualTokenSource(reasoner.perceiver, settings.store, device)
        answerer = _Answerer(reasoner, source, reasoner_identity(answerer_folder).model)
        train = _labelled(config, settings.data.train, answerer, "train")
        validation = _labelled(config, settings.data.validation, answerer, "validation")
        save_settings(folder, config)
        # From here on the answerer's weights are the localizer's.
        torch.manual_seed(config.seed)
        # The last batch of an epoch may have fewer samples.
        steps = settings.num_epochs * math.ceil(len(train) / settings.batch_size)
        module = LocalizerTraining(reasoner, settings.optimizer, steps)
        size = sum(p.numel() for p in reasoner.parameters() if p.requires_grad)
        train_samples, validation_samples = (
            KeyFrameSamples(
                frames,
                source,
                reasoner.tokenizer,
                settings.max_text_tokens,
                reasoner.config.system_prompt,
            )
            for frames in (train, validation)
        )
        loader = sample_loader(config, collate_key_frames)
        learnt = fit_samples(
            module,
            loader(train_samples, NumpyOrder(train_samples, config.seed)),
            folder / "checkpoints",
            num_epochs=settings.num_epochs,
            device=str(device),
            seed=config.seed,
        )
        provenance = Provenance(
            stage="self-refinement of SeViLA's localizer", training_data=settings.data.trained_on
        )
        reasoner.eval().save_pretrained(folder / LOCALIZER_FOLDER, provenance=provenance)
        scores: dict[str, Any] = {
            "num_parameters": size,
            "num_samples": len(train),
            "share_helping": _share_helping(train),
            "num_steps": steps,
            **learnt,
            "held_out": {},
        }
        if validation:
            scores["held_out"] = {
                "num_samples": len(validation),
                "share_helping": _share_helping(validation),
                **held_out_metrics(module, loader(validation_samples), device=str(device)),
            }
        save_scores(folder, scores)


class _Answerer(NamedTuple):
    reasoner: VideoReasoner
    source: TokenSource
    identity: str


def _labelled(
    config: TrainBaselineConfig,
    corpora: Sequence[CorpusConfig],
    answerer: _Answerer,
    split: str,
) -> list[LabelledFrame]:
    """Return the labelled frames of corpora; the labels are kept, and not made twice."""
    settings = config.sevila_localizer
    examples = [
        example
        for example in open_corpora(corpora, settings.data.max_malformed_fraction)
        if has_right_answer(example)
    ]
    if corpora and not examples:
        raise ValueError(
            f"sevila_localizer.data.{split}: no question has a right answer; list a corpus with "
            "options or short answers, such as nextqa"
        )
    # Labelling asks the answerer about each frame: it is not done twice.
    path = Path(config.run_dir) / _LABELS_FILE.format(split=split)
    labels: dict[str, list[bool]] | None = _kept_labels(path, answerer.identity)
    if labels is None:
        failures = failure_log(config, len(examples))
        num_frames = _num_frames(examples, answerer.source, failures)
        # Unreadable videos are counted above; their questions get no labels.
        readable = [example for example in examples if example.media_span in num_frames]
        print(
            f"sevila_localizer: {split}: {len(readable):,} questions, "
            f"{sum(num_frames[example.media_span] for example in readable):,} frames to label",
            flush=True,
        )
        labels = pseudo_labels(
            answerer.reasoner,
            answerer.source,
            readable,
            num_frames,
            EvaluationConfig(
                batch_size=settings.batch_size, max_text_tokens=settings.max_text_tokens
            ),
            DecodingConfig(max_new_tokens=settings.max_new_tokens),
        )
        kept = {"answerer": answerer.identity, "labels": labels}
        write_atomically(path, json.dumps(kept) + "\n")
    # A sample for each frame of each question.
    frames = [
        LabelledFrame(example, rank, helps)
        for example in examples
        for rank, helps in enumerate(labels.get(example.id, []))
    ]
    if corpora and not frames:
        raise ValueError(f"sevila_localizer.data.{split}: no video with a question has a key frame")
    return frames


def _num_frames(
    examples: Sequence[Example], source: TokenSource, failures: FailureLog
) -> dict[MediaSpan, int]:
    """Return the number of key frames of each span that can be read.

    Raises:
        UnreadableVideosError: Too many cannot.
    """
    counts: dict[MediaSpan, int] = {}
    for example in examples:
        span = example.media_span
        try:
            # Many questions are about one video, which is read once.
            if span not in counts:
                counts[span] = len(key_frames(source(*span)))
        except VideoReadError as error:
            failures.record(1, [error.failure(example.id)])
        else:
            failures.record(1)
    return counts


def _kept_labels(path: Path, identity: str) -> dict[str, list[bool]] | None:
    """Return the labels that an earlier start has made; None if there are none.

    Raises:
        ValueError: The file is damaged, or another answerer has made them.
    """
    if not path.is_file():
        return None
    kept = read_json_object(path)
    # Labels say what one answerer can tell from a frame: another one's would teach something else.
    if kept.get("answerer") != identity:
        raise ValueError(
            f"{path} was made by another answerer than that of sevila_localizer.answerer: choose "
            "another run_dir, or remove the file to label again"
        )
    labels = kept.get("labels")
    if not isinstance(labels, dict) or not all(
        isinstance(of_question, list) and all(isinstance(one, bool) for one in of_question)
        for of_question in labels.values()
    ):
        raise ValueError(f"{path} is damaged: it holds no labels; remove it to label again")
    return labels


def _share_helping(frames: Sequence[LabelledFrame]) -> float:
    return sum(frame.helps for frame in frames) / len(frames)
