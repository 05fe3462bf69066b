"""BLEU, ROUGE-L and CIDEr-D against what the official scorers gave (tests/assets/golden)."""

import json
from pathlib import Path
from typing import Any

import pytest

from vidreason.evaluation.text.bleu import bleu_counts, bleu_of_counts
from vidreason.evaluation.text.cider import cider_d
from vidreason.evaluation.text.ptb_tokenizer import ptb_tokens
from vidreason.evaluation.text.rouge import rouge_l

GOLDEN = json.loads((Path(__file__).parents[1] / "assets/golden/golden_metrics.json").read_text())
SETS: dict[str, Any] = GOLDEN["sets"]


def official_scores(
    hypotheses: list[list[str]], references: list[list[list[str]]]
) -> tuple[dict[str, float], list[dict[str, float]]]:
    counts, rouge, cider = (
        metric(hypotheses, references) for metric in (bleu_counts, rouge_l, cider_d)
    )

    def named(bleus: tuple[float, ...], own_rouge: float, own_cider: float) -> dict[str, float]:
        names = {f"BLEU_{order}": value for order, value in enumerate(bleus, start=1)}
        return names | {"ROUGE_L": own_rouge, "CIDEr": own_cider}

    corpus = named(bleu_of_counts(counts), sum(rouge) / len(rouge), sum(cider) / len(cider))
    texts = [bleu_of_counts([one]) for one in counts]
    return corpus, [named(*row) for row in zip(texts, rouge, cider, strict=True)]


def without_meteor(scores: dict[str, float]) -> Any:
    return pytest.approx(
        {key: value for key, value in scores.items() if key != "METEOR"}, abs=1e-9, rel=1e-9
    )


@pytest.mark.parametrize("name", SETS)
def test_scores_of_official_tokens(name: str) -> None:
    items = SETS[name]["items"]
    corpus, texts = official_scores(
        [item["tokens_hyp"] for item in items], [item["tokens_refs"] for item in items]
    )
    expected = SETS[name]["official_ptb"]
    assert corpus == without_meteor(expected["corpus"])
    for item, scores in zip(items, texts, strict=True):
        assert scores == without_meteor(expected["per_item"][item["id"]])


@pytest.mark.parametrize("name", SETS)
def test_scores_of_raw_texts(name: str) -> None:
    items = SETS[name]["items"]
    corpus, _ = official_scores(
        [ptb_tokens(item["hyp"]) for item in items],
        [list(map(ptb_tokens, item["refs"])) for item in items],
    )
    assert corpus == without_meteor(SETS[name]["official_ptb"]["corpus"])


@pytest.mark.parametrize("name", SETS)
def test_scores_of_lower_case_words(name: str) -> None:
    items = SETS[name]["items"]
    corpus, texts = official_scores(
        [item["hyp"].lower().split() for item in items],
        [[text.lower().split() for text in item["refs"]] for item in items],
    )
    expected = SETS[name]["lowercase_whitespace_only"]
    assert corpus == without_meteor(expected["corpus"])
    for item, scores in zip(items, texts, strict=True):
        assert scores == without_meteor(expected["per_item"][item["id"]])


@pytest.mark.parametrize("case", GOLDEN["ptb_tokenizer_cases"]["cases"], ids=lambda c: c["text"])
def test_words_as_the_official_tokenizer_has_them(case: dict[str, Any]) -> None:
    assert ptb_tokens(case["text"]) == case["tokens"]


@pytest.mark.parametrize("name", SETS)
def test_words_of_all_texts_of_the_sets(name: str) -> None:
    for item in SETS[name]["items"]:
        assert ptb_tokens(item["hyp"]) == item["tokens_hyp"]
        assert list(map(ptb_tokens, item["refs"])) == item["tokens_refs"]


def test_a_corpus_score_is_not_the_mean_of_its_parts() -> None:
    items = SETS["multi_ref_10"]["items"]
    hypotheses = [item["tokens_hyp"] for item in items]
    references = [item["tokens_refs"] for item in items]
    halves = [cider_d(hypotheses[one], references[one]) for one in (slice(0, 5), slice(5, 10))]
    whole = cider_d(hypotheses, references)
    assert abs(sum(map(sum, halves)) / 10 - sum(whole) / 10) > 0.03


def test_order_of_texts_and_of_references_does_not_matter() -> None:
    items = SETS["multi_ref_10"]["items"]
    hypotheses = [item["tokens_hyp"] for item in items]
    references = [item["tokens_refs"] for item in items]
    corpus, texts = official_scores(hypotheses, references)
    turned = [one[::-1] for one in references[::-1]]
    turned_corpus, turned_texts = official_scores(hypotheses[::-1], turned)
    assert turned_corpus == pytest.approx(corpus, abs=1e-12)
    for one, other in zip(texts, turned_texts[::-1], strict=True):
        assert one == pytest.approx(other, abs=1e-12)


@pytest.mark.parametrize("metric", [bleu_counts, rouge_l, cider_d])
def test_arguments_that_would_give_a_wrong_number(metric: Any) -> None:
    with pytest.raises(ValueError, match="no texts to score"):
        metric([], [])
    with pytest.raises(ValueError, match="2 texts, but references for 1"):
        metric([["a"], ["b"]], [[["a"]]])
    with pytest.raises(ValueError, match="text 1 has no reference"):
        metric([["a"], ["b"]], [[["a"]], []])
    with pytest.raises(ValueError, match="are strings; pass lists of tokens"):
        metric(["a b"], [[["a", "b"]]])
    with pytest.raises(ValueError, match="are strings; pass lists of tokens"):
        metric([["a", "b"]], [["a b"]])
