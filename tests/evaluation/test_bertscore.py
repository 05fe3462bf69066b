"""BERTScore against bert-score's own values on given embeddings, and a tiny random RoBERTa."""

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaModel

from vidreason.evaluation.text.bertscore import (
    BertScorer,
    greedy_match,
    load_bert_scorer,
)

GOLDEN = json.loads((Path(__file__).parents[1] / "assets/golden/golden_metrics.json").read_text())[
    "bertscore_algorithm"
]
WORDS = ["a", "red", "ball", "hits", "the", "wall", "blue", "falls", "because", "it", "slips"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny random RoBERTa with a tokenizer of whole words, as transformers saves them."""
    path = tmp_path_factory.mktemp("encoders") / "roberta-tiny"
    vocabulary = {word: n for n, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=12,
    ).save_pretrained(path)
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=40,
        pad_token_id=1,
    )
    RobertaModel(config, add_pooling_layer=False).save_pretrained(path)
    return str(path)


@pytest.mark.parametrize("case", GOLDEN["cases"])
def test_matching_as_bert_score_does(case):
    result = greedy_match(
        *(
            torch.tensor(case[name])
            for name in ("hyp_embeddings", "ref_embeddings", "hyp_weights", "ref_weights")
        )
    )
    assert result == pytest.approx((case["P"], case["R"], case["F1"]), abs=1e-5)


def test_scores_do_not_depend_on_the_other_texts(folder):
    scorer = load_bert_scorer(folder, layer=2)
    texts = ["a red ball hits the wall", "it falls", "the blue wall"]
    references = [["the ball hits a wall"], ["it slips because it falls"], ["the blue wall"]]
    together = scorer.score(texts, references)
    for text, one, result in zip(texts, references, together, strict=True):
        assert scorer.score([text], [one])[0] == pytest.approx(result, abs=1e-5)
    assert together[2] == pytest.approx((1, 1, 1), abs=1e-5)
    assert together[0].f1 < 0.9999


def test_precision_and_recall_change_places_with_the_texts(folder):
    scorer = load_bert_scorer(folder, layer=1)
    first, second = "a red ball", "the blue wall falls because it slips"
    forth, back = (scorer.score([a], [[b]])[0] for a, b in ((first, second), (second, first)))
    assert (forth.precision, forth.recall) == pytest.approx((back.recall, back.precision), abs=1e-5)


def test_the_best_reference_counts_and_empty_texts_score_nothing(folder):
    scorer = load_bert_scorer(folder, layer=2)
    best = scorer.score(["it falls"], [["the blue wall", "it falls", "a ball"]])[0]
    assert best == pytest.approx((1, 1, 1), abs=1e-5)
    assert scorer.score(["", "it falls", ""], [["it falls"], [" "], [""]]) == [(0, 0, 0)] * 3


def test_long_texts_are_cut_at_the_model_limit(folder):
    scorer = load_bert_scorer(folder, layer=2)
    long = " ".join(["ball"] * 50)
    assert scorer.score([long], [["ball " * 10]])[0] == pytest.approx((1, 1, 1), abs=1e-5)


def test_a_tokenizer_without_a_limit_takes_the_model_positions(folder):
    scorer = load_bert_scorer(folder, layer=2)
    scorer._tokenizer.model_max_length = int(1e30)
    long = " ".join(["ball"] * 50)
    assert scorer.score([long], [[long + " red"]])[0] == pytest.approx((1, 1, 1), abs=1e-5)


def test_errors(folder, tmp_path):
    with pytest.raises(ValueError, match="there is no folder 'roberta-large'"):
        load_bert_scorer("roberta-large")
    with pytest.raises(ValueError, match="no layer is known for 'roberta-tiny'"):
        load_bert_scorer(folder)
    with pytest.raises(ValueError, match="the model has layers 0 to 3"):
        load_bert_scorer(folder, layer=4)
    scorer: BertScorer = load_bert_scorer(folder, layer=2)
    with pytest.raises(ValueError, match="found 1 lists, 1 of them empty"):
        scorer.score(["a"], [[]])
