"""Log-likelihoods from trees of tokens are those of each text as a separate row."""

import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    Qwen2Config,
)

from tests.reasoning.tiny_models import SIZES, random_reasoner
from vidreason.perception.visual_tokens import collate_visual_tokens
from vidreason.reasoning import decoding, prefix_tree
from vidreason.reasoning.language_model import causal_lm
from vidreason.reasoning.output_layer import decoder_of
from vidreason.reasoning.reasoner_config import DecodingConfig
from vidreason.reasoning.shared_prefixes import longest_shared
from vidreason.reasoning.text_batch import collate_texts

QUERIES = 24
SHARING = {
    "llama": (LlamaConfig, SIZES),
    "qwen2": (Qwen2Config, SIZES),
    "gpt2": (GPT2Config, {"n_embd": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.2}),
    # Two kinds of layers; the window reaches over all of the texts below.
    "gemma3": (Gemma3TextConfig, SIZES | {"head_dim": 8, "sliding_window": 120}),
}
NOT_SHARING = {
    "a window that is too short": (
        Gemma3TextConfig,
        SIZES | {"head_dim": 8, "sliding_window": 20},
    ),
    "capped attention": (
        Gemma2Config,
        SIZES | {"head_dim": 8, "final_logit_softcapping": 5.0},
    ),
}
QUESTIONS = [
    (0, "Why does it fall? (A) no reason (B) it was pushed", ["no reason", "it was pushed"]),
    (0, "What is red?", ["the ball", "the ball", "the balloon", "it"]),
    (1, "What is red?", ["nothing, at least not for a long time", "x"]),
    (2, "", ["yes", "no"]),
]


@pytest.fixture
def make(tmp_path, tiny_tokenizer):
    def make(kind, **options):
        kinds = SHARING | NOT_SHARING
        return random_reasoner(
            tmp_path, tiny_tokenizer, kinds[kind], num_queries=QUERIES, **options
        ).eval()

    return make


@pytest.fixture
def videos(make_visual_tokens):
    return [make_visual_tokens(4, 3), make_visual_tokens(2, 0, 1), make_visual_tokens(0, 0, 2)]


def texts_of(reasoner, questions=QUESTIONS, max_tokens=90):
    """Each option with its question; and of each, the index of its video."""
    texts = [
        (video, reasoner.encode_example(prompt, option, max_tokens))
        for video, prompt, options in questions
        for option in options
    ]
    return [text for _, text in texts], [video for video, _ in texts]


def row_by_row(reasoner, videos, texts, of_texts):
    sums, counts = [], []
    for video, text in zip(of_texts, texts, strict=True):
        row = reasoner(collate_visual_tokens([videos[video]]), collate_texts([text]))
        sums.append(row.double().sum())
        counts.append(len(row))
    return torch.stack(sums), torch.tensor(counts)


class Watch:
    """Numbers of positions that the decoder is given, and of videos that are fused."""

    def __init__(self, reasoner):
        self.positions, self.videos = [], []
        decoder = decoder_of(causal_lm(reasoner.language_model))
        decoder.register_forward_pre_hook(self._note, with_kwargs=True)
        reasoner.fusion.register_forward_pre_hook(
            lambda module, args: self.videos.append(len(args[0]["mask"]))
        )

    def _note(self, module, arguments, given):
        given = {**given, **dict(zip(["input_ids"], arguments, strict=False))}
        embeddings = given.get("inputs_embeds")
        inputs = given["input_ids"] if embeddings is None else embeddings
        self.positions.append(inputs.shape[:2])


@torch.no_grad()
@pytest.mark.parametrize(
    ("kind", "lora"), [*((kind, False) for kind in SHARING), ("llama", True), ("qwen2", True)]
)
def test_shared_beginnings_change_no_likelihood(make, videos, kind, lora):
    reasoner = make(kind, lora=lora)
    texts, of_texts = texts_of(reasoner)
    expected, expected_counts = row_by_row(reasoner, videos, texts, of_texts)
    watch = Watch(reasoner)
    sums, counts = reasoner.response_log_likelihoods(collate_visual_tokens(videos), of_texts, texts)
    assert torch.equal(counts, expected_counts)
    torch.testing.assert_close(sums / counts, expected / counts, atol=1e-5, rtol=1e-5)
    assert sums.dtype == torch.float64
    # The videos at once, and fewer positions than there are in the rows, padding included.
    assert watch.videos == [3]
    of_rows = sum(QUERIES + len(text.input_ids) - 1 for text in texts)
    assert sum(rows * length for rows, length in watch.positions) < 0.7 * of_rows


@torch.no_grad()
@pytest.mark.parametrize("kind", NOT_SHARING)
def test_models_that_cannot_be_told_get_a_row_for_each_text(make, videos, kind):
    reasoner = make(kind)
    texts, of_texts = texts_of(reasoner)
    expected, expected_counts = row_by_row(reasoner, videos, texts, of_texts)
    watch = Watch(reasoner)
    sums, counts = reasoner.response_log_likelihoods(collate_visual_tokens(videos), of_texts, texts)
    assert torch.equal(counts, expected_counts)
    torch.testing.assert_close(sums / counts, expected / counts, atol=1e-5, rtol=1e-5)
    of_rows = sum(QUERIES + len(text.input_ids) - 1 for text in texts)
    assert sum(rows * length for rows, length in watch.positions) >= of_rows


@torch.no_grad()
def test_long_and_short_texts_are_scored_together(make, videos, monkeypatch):
    monkeypatch.setattr("vidreason.reasoning.shared_prefixes.MAX_POSITIONS", 70)
    monkeypatch.setattr(prefix_tree, "MAX_POSITIONS", 70)
    reasoner = make("qwen2")
    assert longest_shared(causal_lm(reasoner.language_model)) == 70
    texts, of_texts = texts_of(reasoner)
    assert {len(text.input_ids) + QUERIES - 1 > 70 for text in texts} == {False, True}
    expected, _ = row_by_row(reasoner, videos, texts, of_texts)
    sums, counts = reasoner.response_log_likelihoods(collate_visual_tokens(videos), of_texts, texts)
    torch.testing.assert_close(sums / counts, expected / counts, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_question_has_the_same_score_whoever_is_beside_it(make, videos):
    reasoner = make("llama")
    texts, of_texts = texts_of(reasoner)
    watch = Watch(reasoner)
    together, _ = reasoner.response_log_likelihoods(collate_visual_tokens(videos), of_texts, texts)
    # Both questions about the first video are in one sequence.
    assert sum(rows for rows, _ in watch.positions) == 3
    start = 0
    for question in QUESTIONS:
        options, of_options = texts_of(reasoner, [question])
        visual = collate_visual_tokens([videos[question[0]]])
        alone, _ = reasoner.response_log_likelihoods(visual, [0] * len(of_options), options)
        part = together[start : start + len(options)]
        torch.testing.assert_close(part, alone, atol=1e-4, rtol=1e-6)
        assert part.argmax() == alone.argmax()
        start += len(options)


@torch.no_grad()
def test_responses_that_are_cut_keep_their_labels(make, videos):
    reasoner = make("llama")
    questions = [(0, "What is red?", ["the ball", "the balloon", "it"])]
    texts, of_texts = texts_of(reasoner, questions, max_tokens=26)
    assert max(len(text.input_ids) for text in texts) == 26
    expected, expected_counts = row_by_row(reasoner, videos, texts, of_texts)
    sums, counts = reasoner.response_log_likelihoods(
        collate_visual_tokens(videos[:1]), of_texts, texts
    )
    assert torch.equal(counts, expected_counts)
    torch.testing.assert_close(sums, expected, atol=1e-4, rtol=1e-6)


PROMPTS = [(0, "Why does it fall?"), (0, "What is red?"), (1, "What is red?"), (0, "x"), (2, "")]
DECODINGS = {
    "greedy": DecodingConfig(max_new_tokens=10),
    "beam": DecodingConfig(strategy="beam", num_beams=3, max_new_tokens=10),
    "nucleus": DecodingConfig(strategy="nucleus", max_new_tokens=10, top_p=0.95),
}


def answers(reasoner, videos, name, questions=PROMPTS):
    prompts = [prompt for _, prompt in questions]
    of_prompts = [video for video, _ in questions]
    return reasoner.generate_ids(
        collate_visual_tokens(videos), prompts, DECODINGS[name], videos=of_prompts
    )


@pytest.mark.parametrize(
    ("kind", "lora"), [*((kind, False) for kind in SHARING), ("llama", True), ("qwen2", True)]
)
def test_prompts_with_a_common_beginning_are_answered_as_each_alone(
    make, videos, kind, lora, monkeypatch
):
    reasoner = make(kind, lora=lora)
    shared = {name: answers(reasoner, videos, name) for name in DECODINGS}
    watch = Watch(reasoner)
    answers(reasoner, videos, "greedy")
    # The last tokens are read by a call of their own.
    read = sum(rows * length for rows, length in watch.positions if length > 1)
    monkeypatch.setattr(decoding, "read_prompts", lambda *_: None)
    watch.positions.clear()
    assert {name: answers(reasoner, videos, name) for name in DECODINGS} == shared
    rows, length = watch.positions[0]
    assert read < 0.8 * rows * length
    assert len(set(map(tuple, shared["nucleus"]))) == len(PROMPTS)


def test_beams_of_one_prompt_read_it_once(make, videos, monkeypatch):
    reasoner = make("llama")
    watch = Watch(reasoner)
    shared = answers(reasoner, videos[:1], "beam", PROMPTS[:1])
    assert [rows for rows, length in watch.positions if length > 1] == [1]
    monkeypatch.setattr(decoding, "read_prompts", lambda *_: None)
    assert answers(reasoner, videos[:1], "beam", PROMPTS[:1]) == shared


@pytest.mark.parametrize("kind", NOT_SHARING)
def test_models_that_share_nothing_answer_all_the_same(make, videos, kind):
    reasoner = make(kind)
    for name in ("greedy", "beam"):
        alone = [answers(reasoner, [videos[v]], name, [(0, prompt)])[0] for v, prompt in PROMPTS]
        assert answers(reasoner, videos, name) == alone


def test_prompts_and_videos_are_counted(make, videos):
    reasoner = make("llama")
    with pytest.raises(ValueError, match="2 prompts for 3 videos"):
        reasoner.generate_ids(collate_visual_tokens(videos), ["x", "y"], videos=[0, 1, 1])
