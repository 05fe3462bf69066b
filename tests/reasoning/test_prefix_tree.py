"""Trees of tokens beside brute force over random texts of few different tokens."""

import itertools
import random

import pytest
import torch

from vidreason.reasoning import prefix_tree
from vidreason.reasoning.prefix_tree import (
    ancestor_mask,
    batch_trees,
    cheapest_cut,
    collate_trees,
    grow_tree,
    plan_trees,
)
from vidreason.reasoning.tokenization import IGNORE_INDEX, EncodedText

CASES = {
    "options of one question": [([1, 2, 3], [4, 9]), ([1, 2, 3], [5, 6, 9]), ([1, 2, 3], [9])],
    "an option that another begins with": [([1], [2, 3, 9]), ([1], [2, 9]), ([1], [2, 3])],
    "equal options": [([1, 2], [3, 9]), ([1, 2], [3, 9])],
    "no prompt": [([], [3, 9]), ([], [4]), ([], [3, 4, 9])],
    "one text": [([1, 2], [3])],
    "one token": [([], [3])],
    "cut at the most tokens": [([1, 2], [3, 4]), ([1, 2], [3, 4]), ([1, 2], [3, 5])],
    "a prompt that is another's response": [([1], [2, 3]), ([1, 2], [3]), ([1, 2, 3], [4])],
    "no target": [([1, 2], []), ([1, 3], [4])],
}


def encoded(prompt: list[int], response: list[int]) -> EncodedText:
    return EncodedText(prompt + response, [IGNORE_INDEX] * len(prompt) + response)


def random_texts(generator: random.Random) -> list[EncodedText]:
    words = range(generator.randint(1, 3))
    return [
        encoded(
            [generator.choice(words) for _ in range(generator.randint(0, 4))],
            [generator.choice(words) for _ in range(generator.randint(1, 3))],
        )
        for _ in range(generator.randint(1, 7))
    ]


def check_batch(batch, trees, texts, num_embeddings):
    """Each target is predicted by a position that sees what stands before it in its text alone."""
    mask = ancestor_mask(batch.ends)
    size, longest = batch.positions.shape
    assert mask.shape == (size, 1, longest, longest)
    assert mask.dtype == torch.bool
    seen = [[row[i].nonzero()[:, 0].tolist() for i in range(longest)] for row in mask[:, 0]]
    columns: dict[int, list[int]] = {}
    targets = zip(
        batch.target_rows.tolist(),
        batch.target_positions.tolist(),
        batch.target_ids.tolist(),
        batch.target_texts.tolist(),
        strict=True,
    )
    for row, position, target, index in targets:
        visible = seen[row][position]
        assert visible[:num_embeddings] == list(range(num_embeddings))
        assert visible[-1] == position
        # Each of them sees those before it, as it does in a text alone.
        assert all(seen[row][other] == visible[: count + 1] for count, other in enumerate(visible))
        assert batch.positions[row, visible].tolist() == list(range(len(visible)))
        ids = batch.input_ids[row, [other - num_embeddings for other in visible[num_embeddings:]]]
        column = len(visible) - num_embeddings
        assert ids.tolist() == texts[index].input_ids[:column]
        assert target == texts[index].labels[column]
        columns.setdefault(index, []).append(column)
    for index in [index for tree in trees for index in tree.target_texts]:
        labels = texts[index].labels
        assert columns[index] == [c for c, label in enumerate(labels) if label != IGNORE_INDEX]
    for row, tree in enumerate(trees):
        total = num_embeddings + len(tree.token_ids)
        assert all(seen[row][position] == [position] for position in range(total, longest))
        assert all(max(seen[row][position]) < total for position in range(total))


@pytest.mark.parametrize("name", CASES)
def test_a_target_sees_what_stands_before_it_in_its_text(name: str) -> None:
    texts = [encoded(*case) for case in CASES[name]]
    tree = grow_tree(0, texts, range(len(texts)))
    check_batch(collate_trees([tree], 3), [tree], texts, 3)


def test_random_texts_share_all_that_they_begin_with() -> None:
    generator = random.Random(0)
    for _ in range(150):
        texts = random_texts(generator)
        half = len(texts) // 2
        trees = [
            grow_tree(video, texts, members)
            for video, members in enumerate([range(half), range(half, len(texts))])
            if members
        ]
        for tree in trees:
            # The last token of a text predicts nothing.
            nodes = [texts[index].input_ids[:-1] for index in set(tree.target_texts)]
            beginnings = {tuple(ids[: n + 1]) for ids in nodes for n in range(len(ids))}
            assert len(tree.token_ids) == len(beginnings)
        num_embeddings = generator.randint(1, 3)
        batch = collate_trees(trees, num_embeddings)
        check_batch(batch, trees, texts, num_embeddings)
        assert batch.videos.tolist() == [tree.video for tree in trees]


def test_ranges_are_cut_as_brute_force_cuts_them() -> None:
    generator = random.Random(1)
    for count in range(8):
        weights = [generator.random() for _ in range(count)]

        def cost(start: int, stop: int, weights: list[float] = weights) -> float:
            return float("inf") if stop - start > 3 else 0.4 + sum(weights[start:stop]) ** 2

        def total(cuts: list[tuple[int, int]]) -> float:
            return sum(cost(*cut) for cut in cuts)

        possible = [
            list(itertools.pairwise([0, *inner, count]))
            for number in range(count)
            for inner in itertools.combinations(range(1, count), number)
        ]
        cuts = cheapest_cut(count, cost)
        assert cuts == ([] if not count else min(possible, key=total))


def test_videos_have_trees_of_their_own_and_texts_that_share_little_too() -> None:
    # Three options each of two questions about each of two videos, in no order.
    texts = [
        encoded([1, *range(10 * question, 10 * question + 8)], [option, 9])
        for option in (2, 3, 4)
        for question in (2, 4, 1, 3)
    ]
    videos = [0, 1, 0, 1] * 3

    def trees(num_embeddings: int, even_length: float) -> list[list[int]]:
        planned = plan_trees(texts, videos, range(1, 12), num_embeddings, even_length)
        assert all(videos[i] == tree.video for tree in planned for i in tree.target_texts)
        return sorted(sorted(set(tree.target_texts)) for tree in planned)

    # Cheap attention and many embeddings to share: all questions of a video.
    assert trees(30, 1e6) == [[1, 3, 5, 7, 9, 11], [2, 4, 6, 8, 10]]
    # Dear attention and little to share: each question alone.
    assert trees(1, 20) == [[1, 5, 9], [2, 6, 10], [3, 7, 11], [4, 8]]


def test_trees_are_no_longer_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefix_tree, "MAX_POSITIONS", 20)
    texts = [encoded(list(range(10)), [option] * 4) for option in range(20, 29)]
    trees = plan_trees(texts, [0] * 9, range(9), 4, 1e9)
    sizes = [4 + len(tree.token_ids) for tree in trees]
    assert max(sizes) <= 20
    assert len(trees) == 5  # 14 positions, and 3 an option


def test_trees_of_similar_size_are_computed_together(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = [100, 700, 110, 690, 105]
    texts = [encoded(list(range(length)), [1000, 9]) for length in lengths]
    trees = [grow_tree(video, texts, [video]) for video in range(5)]
    batches = batch_trees(trees, 4, 1e6)
    assert [batch.videos.tolist() for batch in batches] == [[1, 3], [2, 4, 0]]
    for batch in batches:
        members = [trees[video] for video in batch.videos.tolist()]
        check_batch(batch, members, texts, 4)
    monkeypatch.setattr(prefix_tree, "MAX_MASK", 2 * 120**2)
    batches = batch_trees(trees, 4, 1e6)
    assert [len(batch.videos) for batch in batches] == [1, 1, 1, 2]
    assert batch_trees([], 4, 1e6) == []
