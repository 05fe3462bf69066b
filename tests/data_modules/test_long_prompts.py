"""Prompts without room for a response: found before training, left out or cut, always counted."""

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from data_modules import prompt_lengths
from data_modules.corpora import CorpusConfig, DataConfig
from data_modules.corpus_index import open_corpora, open_trainable
from data_modules.data_check import DataCheckConfig, check_data
from data_modules.example_files import CorpusIndex, write_index
from data_modules.prompt_lengths import CUT, TOO_LONG, PromptLimit, shortened_prompts
from data_modules.trainable_examples import HIDDEN, TrainableExamples
from data_modules.training_data import InstructionDataModule
from vidreason.example import Example
from vidreason.perception.visual_tokens import VisualTokens
from vidreason.reasoning.tokenization import encode_example, encode_prompt

CASE = Path(__file__).parents[1] / "assets/annotations/one_long_conversation.json"
NUM_SHORT, NUM_TURNS = 5, 5
MAX_TOKENS = 384  # of the tiny tokenizer, a byte each


@pytest.fixture
def llava(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CorpusConfig:
    monkeypatch.setenv("VIDREASON_CACHE", str(tmp_path / "cache"))
    (tmp_path / "llava").mkdir()
    shutil.copy(CASE, tmp_path / "llava/train.json")
    return CorpusConfig(reader="llava", root=str(tmp_path / "llava"))


def limit(tokenizer: PreTrainedTokenizerFast, policy: str = "leave_out") -> PromptLimit:
    return PromptLimit(tokenizer, MAX_TOKENS, policy)  # type: ignore[arg-type]


def test_long_conversations_are_left_out_and_counted(
    llava: CorpusConfig, tiny_tokenizer: PreTrainedTokenizerFast, caplog: pytest.LogCaptureFixture
) -> None:
    everything = open_corpora([llava])
    kept = open_trainable([llava], limit(tiny_tokenizer))
    fitting = [
        example
        for example in everything
        if len(encode_prompt(tiny_tokenizer, example.prompt)) < MAX_TOKENS
    ]
    assert 0 < len(fitting) < len(everything)
    assert list(kept) == fitting
    (corpus,) = kept.corpora
    assert isinstance(corpus, TrainableExamples)
    assert corpus.left_out.causes[TOO_LONG] == len(everything) - len(fitting)
    message = caplog.records[-1].getMessage()
    first = next(example.id for example in everything if example not in fitting)
    assert f"in {llava.root!r}, with data.max_text_tokens={MAX_TOKENS}: " in message
    assert first in message
    assert corpus.ids_digest != everything.corpora[0].ids_digest


def test_earlier_turns_are_cut_until_the_prompt_fits(
    llava: CorpusConfig, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    everything = open_corpora([llava])
    kept = open_trainable([llava], limit(tiny_tokenizer, "cut_earlier_turns"))
    assert [example.id for example in kept] == [example.id for example in everything]
    num_cut = 0
    for example, whole in zip(kept, everything, strict=True):
        encode_example(tiny_tokenizer, example.prompt, example.response, MAX_TOKENS)
        assert example.prompt.endswith(whole.meta["question"])
        if example.prompt != whole.prompt:
            num_cut += 1
            assert example.prompt in shortened_prompts(whole)
            # As few turns are cut as have to be.
            cut = [whole.prompt, *shortened_prompts(whole)]
            longer = cut[cut.index(example.prompt) - 1]
            assert len(encode_prompt(tiny_tokenizer, longer)) >= MAX_TOKENS
    (corpus,) = kept.corpora
    assert isinstance(corpus, TrainableExamples)
    assert corpus.left_out.remarks[CUT] == num_cut > 0
    copy = pickle.loads(pickle.dumps(kept))
    assert list(copy) == list(kept)


def test_what_is_cut_is_the_earliest(llava: CorpusConfig) -> None:
    second = next(e for e in open_corpora([llava]) if len(e.earlier_turns) == 4)
    heading = "Earlier about this video:\n"
    assert second.prompt.startswith(heading)
    one, none = shortened_prompts(second)
    assert one.startswith(f"{heading}Question: Question 1:")
    assert one.endswith(none)
    assert none == second.meta["question"]
    system = Example(
        id="a",
        corpus="a",
        media="a",
        video_id="a",
        response="a",
        prompt="Be brief.\n\nEarlier about this video:\nQuestion: 1\nAnswer: 2\n\nq",
        earlier_turns=(11, 37, 60),
    )
    assert shortened_prompts(system) == ["Be brief.\n\nq"]


def test_data_check_counts_what_fit_leaves_out(
    llava: CorpusConfig, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    data = DataConfig(train=[llava])
    config = DataCheckConfig(probe_videos=0, hash_videos=0)
    for policy, skipped, remarks in (
        ("leave_out", {TOO_LONG}, set()),
        ("cut_earlier_turns", set(), {CUT}),
    ):
        fit = open_trainable([llava], limit(tiny_tokenizer, policy))
        report = check_data(data, config, tmp_path / "check", limit(tiny_tokenizer, policy))
        (health,) = report.corpora
        assert health.num_examples == len(fit)
        assert health.skipped.keys() == skipped
        assert health.row_remarks.keys() == remarks
    rows = (tmp_path / "check/skipped-train-llava-train.jsonl").read_text()
    assert rows == ""  # nothing is left out in the second report
    check_data(data, config, tmp_path / "check", limit(tiny_tokenizer))
    assert "llava:train:5:" in (tmp_path / "check/skipped-train-llava-train.jsonl").read_text()


def test_a_run_goes_through_all_that_fits(
    llava: CorpusConfig,
    tiny_tokenizer: PreTrainedTokenizerFast,
    make_visual_tokens: Callable[..., VisualTokens],
) -> None:
    tokens = make_visual_tokens(1, 1)
    config = DataConfig(
        train=[llava],
        validation=[llava],
        batch_size=1,
        global_batch_size=1,
        max_text_tokens=MAX_TOKENS,
    )
    data = InstructionDataModule(
        config, lambda *_: tokens, tiny_tokenizer, visual_dim=tokens.features.shape[1]
    )
    ids = [batch["ids"][0] for batch in data.train_dataloader()]
    expected = [example.id for example in open_trainable([llava], limit(tiny_tokenizer))]
    assert sorted(ids) == sorted(expected)
    assert len(list(data.val_dataloader())) == len(expected)


def captions(count: int, **changes: dict[int, str]) -> list[Example]:
    prompts, responses = changes.get("prompts", {}), changes.get("responses", {})
    return [
        Example(
            id=f"webvid:train:{number}",
            corpus="webvid",
            media=f"/v/{number}.mp4",
            video_id=str(number),
            prompt=prompts.get(number, "Describe the video."),
            response=responses.get(number, f"caption {number}"),
        )
        for number in range(count)
    ]


def test_tokens_are_counted_of_candidates_only(
    tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = {7: "a" * 500, 4099: "\u00e9" * 200, 9000: "b" * 380}
    examples = captions(9001, prompts=long, responses={8: "", 4100: ""})
    write_index(tmp_path / "index", examples)
    tokenized = []
    encode = prompt_lengths.encode_prompt

    def counted(tokenizer: PreTrainedTokenizerFast, prompt: str, system: str | None) -> list[int]:
        tokenized.append(prompt)
        return encode(tokenizer, prompt, system)

    monkeypatch.setattr(prompt_lengths, "encode_prompt", counted)
    index = CorpusIndex(tmp_path / "index")
    kept = TrainableExamples(index, limit(tiny_tokenizer))
    assert tokenized == ["a", *long.values()]
    left_out = {7, 8, 4099, 4100, 9000}
    assert len(encode(tiny_tokenizer, long[9000])) >= MAX_TOKENS
    assert [example.id for example in kept] == [
        example.id for number, example in enumerate(examples) if number not in left_out
    ]
    rows = np.array([0, 6, 7, 8995, 4094, 4095])
    assert kept.lengths(rows).tolist() == [
        len(kept[int(row)].prompt) + len(kept[int(row)].response) for row in rows
    ]
    assert kept.left_out.causes == {HIDDEN: 2, TOO_LONG: 3}
    assert kept.left_out.first_locations == {
        HIDDEN: ["webvid:train:8"],
        TOO_LONG: [f"webvid:train:{number}" for number in long],
    }
    assert kept[-1].id == "webvid:train:8999"
    with pytest.raises(IndexError):
        kept[len(kept)]


def test_a_corpus_that_is_whole_stays_as_it_is(
    tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    write_index(tmp_path / "index", captions(5))
    index = CorpusIndex(tmp_path / "index")
    kept = TrainableExamples(index, limit(tiny_tokenizer))
    assert (list(kept), kept.ids_digest) == (list(index), index.ids_digest)


def test_a_corpus_of_which_nothing_is_left_is_refused_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    monkeypatch.setenv("VIDREASON_CACHE", str(tmp_path / "cache"))
    for name, text in (("test", '[{"id": "5"}, {"id": "6"}]'), ("labels", "{}")):
        (tmp_path / f"{name}.json").write_text(text)
    hidden = CorpusConfig(reader="something_something", root=str(tmp_path), split="test")
    with pytest.raises(ValueError, match=r"nothing to train .*2 x its reference is hidden"):
        open_trainable([hidden], limit(tiny_tokenizer))
    report = check_data(
        DataConfig(train=[hidden]),
        DataCheckConfig(probe_videos=0, hash_videos=0, max_skipped_fraction=1.0),
        tmp_path / "check",
    )
    assert any("no example has a response to learn from" in line for line in report.problems)


def test_the_message_of_last_resort_has_the_id(
    tiny_tokenizer: PreTrainedTokenizerFast, make_visual_tokens: Callable[..., VisualTokens]
) -> None:
    from data_modules.video_text import VideoTextDataset

    examples = captions(1, prompts={0: "a" * 500})
    data = VideoTextDataset(examples, lambda *_: make_visual_tokens(1, 1), tiny_tokenizer, 100)
    with pytest.raises(ValueError, match=r"example 'webvid:train:0' of '/v/0.mp4': max_tokens is"):
        data[0]
