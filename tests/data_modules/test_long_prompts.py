"""Prompts without room for a response: found before training, left out or cut, always counted."""

import copy
import pickle
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from data_modules import example_files, prompt_lengths
from data_modules.corpora import CorpusConfig, DataConfig
from data_modules.corpus_index import open_corpora, open_trainable
from data_modules.data_check import DataCheckConfig, check_data
from data_modules.example_files import CorpusIndex, write_index
from data_modules.prompt_lengths import CUT, TOO_LONG, PromptLimit, shortened
from data_modules.trainable_examples import HIDDEN, TrainableExamples
from data_modules.training_data import InstructionDataModule
from vidreason.example import Example, Turn
from vidreason.perception.visual_tokens import VisualTokens
from vidreason.reasoning.tokenization import IGNORE_INDEX, encode_example, encode_prompt

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


def num_tokens(tokenizer: PreTrainedTokenizerFast, example: Example) -> int:
    return len(encode_prompt(tokenizer, example.prompt, None, example.earlier_turns))


def test_long_conversations_are_left_out_and_counted(
    llava: CorpusConfig, tiny_tokenizer: PreTrainedTokenizerFast, caplog: pytest.LogCaptureFixture
) -> None:
    everything = open_corpora([llava])
    kept = open_trainable([llava], limit(tiny_tokenizer))
    fitting = [
        example for example in everything if num_tokens(tiny_tokenizer, example) < MAX_TOKENS
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
        assert num_tokens(tiny_tokenizer, example) < MAX_TOKENS
        assert example.prompt == whole.meta["question"]
        if example != whole:
            num_cut += 1
            # As few turns are cut as have to be.
            cut = list(shortened(whole))
            longer = cut[cut.index(example) - 1]
            assert num_tokens(tiny_tokenizer, longer) >= MAX_TOKENS
    (corpus,) = kept.corpora
    assert isinstance(corpus, TrainableExamples)
    assert corpus.left_out.remarks[CUT] == num_cut > 0
    copy = pickle.loads(pickle.dumps(kept))
    assert list(copy) == list(kept)


def test_what_is_cut_is_the_earliest() -> None:
    system, *turns = conversation("Be brief.", "1", "2", "3", "4")
    whole = Example(
        id="a",
        corpus="a",
        media="a",
        video_id="a",
        response="a",
        prompt="q",
        earlier_turns=(system, *turns),
    )
    kept = [example.earlier_turns for example in shortened(whole)]
    assert kept == [(system, *turns), (system, *turns[2:]), (system,)]
    without = replace(whole, earlier_turns=tuple(turns))
    assert [len(example.earlier_turns) for example in shortened(without)] == [4, 2, 0]
    alone = replace(whole, earlier_turns=(system,))
    assert list(shortened(alone)) == [alone]


def conversation(system: str, *texts: str) -> tuple[Turn, ...]:
    turns = (Turn("assistant" if number % 2 else "user", text) for number, text in enumerate(texts))
    return (Turn("system", system), *turns) if system else tuple(turns)


def test_with_the_loss_on_all_answers_a_conversation_is_one_example(
    llava: CorpusConfig, tiny_tokenizer: PreTrainedTokenizerFast, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    everything = list(open_corpora([llava]))
    separate = open_trainable([llava], limit(tiny_tokenizer), loss_on="last")
    joined = open_trainable([llava], limit(tiny_tokenizer), loss_on="all")
    # What fits is the same; of each conversation, the last one that does is the example.
    rows = {example.id.rpartition(":")[0] for example in separate}
    assert [example.id.rpartition(":")[0] for example in joined] == sorted(rows)
    fitting = {example.id for example in separate}
    long = max(joined, key=lambda example: len(example.earlier_turns))
    followed = f"{long.id.rpartition(':')[0]}:{len(long.earlier_turns) // 2 + 1}"
    assert long.id in fitting
    assert followed in {example.id for example in everything} - fitting
    assert [turn.is_target for turn in long.earlier_turns] == [False, True] * (
        len(long.earlier_turns) // 2
    )
    shown = f"{len(joined)} examples teach {len(separate)} answers"
    assert shown in caplog.text
    assert joined.corpora[0].ids_digest != separate.corpora[0].ids_digest
    assert list(pickle.loads(pickle.dumps(joined))) == list(joined)
    # Each answer is a target once, in the one form or the other.
    assert targets(tiny_tokenizer, joined) == targets(tiny_tokenizer, separate)


def test_conversations_that_are_cut_teach_no_answer_twice(
    llava: CorpusConfig, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    cutting = limit(tiny_tokenizer, "cut_earlier_turns")
    separate = open_trainable([llava], cutting)
    joined = open_trainable([llava], cutting, loss_on="all")
    assert len(joined) < len(separate)
    cut = [example for example in joined if example not in list(open_corpora([llava]))]
    assert any(turn.is_target for example in cut for turn in example.earlier_turns)
    assert targets(tiny_tokenizer, joined) == targets(tiny_tokenizer, separate)


def targets(tokenizer: PreTrainedTokenizerFast, examples: Iterable[Example]) -> list[str]:
    """All answers that are learnt, each with its end of turn."""
    taught: list[str] = []
    for one in examples:
        encoded = encode_example(
            tokenizer, one.prompt, one.response, 100_000, None, one.earlier_turns
        )
        spoken = [label for label in encoded.labels if label != IGNORE_INDEX]
        taught += str(tokenizer.decode(spoken)).split(tokenizer.eos_token)[:-1]
    return sorted(taught)


def test_rows_of_other_conversations_are_not_joined(
    tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    one, two = conversation("", "q", "a"), conversation("", "q", "a", "r", "b")
    rows = [(), one, two, one, (), (), two, (Turn("system", "s"),), conversation("s", "q", "a")]
    prompts = ["q", "r", "s", "r", "q", "q", "s", "q", "r"]
    examples = [
        replace(example, prompt=prompt, response=response, earlier_turns=turns, media="a.mp4")
        for example, prompt, response, turns in zip(
            captions(len(rows)), prompts, "abcbaacab", rows, strict=True
        )
    ]
    # The same words about another video.
    examples += [replace(examples[0], id="webvid:train:10"), replace(examples[1], id="other")]
    examples[-1] = replace(examples[-1], media="b.mp4")
    write_index(tmp_path / "index", examples)
    index = CorpusIndex(tmp_path / "index")
    assert list(index) == examples
    assert index.continued_rows().tolist() == [0, 1, 7]
    kept = TrainableExamples(index, limit(tiny_tokenizer), "all")
    names = [example.id.rpartition(":")[2] for example in kept]
    assert names == ["2", "3", "4", "5", "6", "8", "10", "other"]
    # A reader may give whole conversations alone: all their answers are taught.
    assert [turn.is_target for turn in kept[4].earlier_turns] == [False, True, False, True]
    plain = TrainableExamples(index, limit(tiny_tokenizer))
    assert list(plain) == examples
    counts = [len(turns) for turns in [*rows, (), one]]
    assert index.turn_counts()[1].tolist() == [count for count in counts if count]
    assert index.long_prompts(0, 0).tolist() == list(range(len(examples)))
    sizes = [
        example.prompt_length
        + sum(len(turn.role) for turn in example.earlier_turns)
        + 100 * len(example.earlier_turns)
        for example in examples
    ]
    for size in set(sizes):
        longer = [row for row, one in enumerate(sizes) if one > size]
        assert index.long_prompts(size, 100).tolist() == longer


def test_conversations_are_joined_over_batches_of_the_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(example_files, "ROWS_A_BATCH", 2)
    turns: tuple[Turn, ...] = ()
    examples = []
    for example in captions(5):
        examples.append(replace(example, media="a.mp4", earlier_turns=turns))
        turns += conversation("", example.prompt, example.response)
    write_index(tmp_path / "index", examples)
    index = CorpusIndex(tmp_path / "index")
    assert list(index) == examples
    assert index.continued_rows().tolist() == [0, 1, 2, 3]


def test_a_template_without_several_turns_is_refused_where_there_are_any(
    llava: CorpusConfig, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.chat_template = (
        "{% if messages | length > 2 %}{{ raise_exception('one question only') }}{% endif %}"
        "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    alone = CorpusConfig(reader="llava", root=llava.root, name="alone")
    with pytest.raises(ValueError, match=r"fails on a conversation of 4 turns .*one question only"):
        open_trainable([alone], limit(tokenizer))


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

    def counted(
        tokenizer: PreTrainedTokenizerFast,
        prompt: str,
        system: str | None,
        turns: Sequence[Turn] = (),
    ) -> list[int]:
        tokenized.append(prompt)
        return encode(tokenizer, prompt, system, turns)

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
