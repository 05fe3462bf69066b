from types import SimpleNamespace

import pytest
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from callbacks.sample_generations import SampleGenerations
from vidreason.example import Example
from vidreason.model import DecodingConfig
from vidreason.video.reader import VideoReadError


def example(name, media="a.mp4"):
    return Example(
        id=name,
        corpus="made_up",
        media=media,
        video_id=media,
        prompt=f"prompt of {name}",
        response=f"response of {name}",
    )


@pytest.fixture
def source(make_visual_tokens):
    def read(media, start_seconds, end_seconds):
        if media == "broken.mp4":
            raise VideoReadError(media, "empty", "it is empty")
        return make_visual_tokens(2, 1)

    return read


def written_texts(folder):
    events = EventAccumulator(str(folder)).Reload()
    return {
        tag: [
            (event.step, event.tensor_proto.string_val[0].decode()) for event in events.Tensors(tag)
        ]
        for tag in events.Tags()["tensors"]
    }


def run_steps(callback, reasoner, logger, steps, rank=0):
    trainer = SimpleNamespace(global_step=0, is_global_zero=rank == 0, loggers=[logger])
    module = SimpleNamespace(reasoner=reasoner)
    callback.on_train_start(trainer, module)
    for step in steps:
        trainer.global_step = step
        callback.on_train_batch_end(trainer, module, None, None, 0)


def test_answers_are_written_every_n_steps_and_training_goes_on_as_before(
    tiny_reasoner, source, tmp_path
):
    tiny_reasoner.train()
    modes = [module.training for module in tiny_reasoner.modules()]
    callback = SampleGenerations(
        [example("one"), example("two")], source, DecodingConfig(max_new_tokens=3), every_n_steps=2
    )
    logger = TensorBoardLogger(tmp_path, "", "")
    run_steps(callback, tiny_reasoner, logger, [1, 1, 2, 2, 3, 4])
    logger.experiment.close()
    texts = written_texts(tmp_path)
    assert sorted(texts) == ["samples/one/text_summary", "samples/two/text_summary"]
    assert [step for step, _ in texts["samples/one/text_summary"]] == [2, 4]
    text = texts["samples/two/text_summary"][0][1]
    assert "prompt of two" in text
    assert "response of two" in text
    assert [module.training for module in tiny_reasoner.modules()] == modes


def test_an_unreadable_video_is_left_out_with_a_warning(tiny_reasoner, source, tmp_path):
    callback = SampleGenerations(
        [example("bad", "broken.mp4"), example("good")],
        source,
        DecodingConfig(max_new_tokens=3),
        every_n_steps=1,
    )
    logger = TensorBoardLogger(tmp_path, "", "")
    with pytest.warns(UserWarning, match=r"leave out bad: cannot read video 'broken\.mp4'"):
        run_steps(callback, tiny_reasoner, logger, [1])
    logger.experiment.close()
    assert list(written_texts(tmp_path)) == ["samples/good/text_summary"]


def test_only_rank_0_answers(tiny_reasoner, source, tmp_path):
    def unused(media, start_seconds, end_seconds):
        raise AssertionError("another rank than 0 read a video")

    callback = SampleGenerations([example("one")], unused, DecodingConfig(), every_n_steps=1)
    run_steps(callback, tiny_reasoner, TensorBoardLogger(tmp_path, "", ""), [1, 2], rank=1)
