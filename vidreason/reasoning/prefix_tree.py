"""Texts about one video as a tree of tokens: what several of them begin with is computed once.

The options of a question share its prompt, and the questions of a video its embeddings and the
chat header. As a tree each shared token is one node. Nodes follow the video's embeddings in one
sequence, depth first; each attends to its ancestors and itself only, and its position is its depth.
So every node gets the hidden state that its token has in each text alone.

Shapes: B trees, Q video embeddings, T nodes of the longest tree, L = Q + T positions, M targets.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from vidreason.reasoning.tokenization import IGNORE_INDEX, EncodedText

MAX_POSITIONS = 4096
"""Longest sequence, video embeddings included. Its attention mask is dense: 16 MiB."""
MAX_MASK = MAX_POSITIONS**2
"""Most elements of the attention masks of sequences that are computed together."""
CALL_POSITIONS = 64
"""Padded positions that are tolerated to save one more run of the language model."""


class PrefixTree(NamedTuple):
    """Texts about one video; nodes are their tokens, depth first.

    The last token of a text predicts nothing, so it is among the targets only.
    """

    video: int
    """Index of the video."""
    token_ids: list[int]
    """Tokens of the nodes."""
    depths: list[int]
    """Positions of the nodes' tokens in their texts, from 0."""
    ends: list[int]
    """Index after the last descendant of each node; descendants follow their node directly."""
    target_nodes: list[int]
    """Node that predicts each target, or -1 for the video's last embedding."""
    target_ids: list[int]
    """Tokens to predict."""
    target_texts: list[int]
    """Index of the text of each target."""


class TreeBatch(NamedTuple):
    """Trees padded on the right to one batch. A padded node attends to itself only."""

    videos: Tensor
    """``(B,)`` int64: index of each tree's video"""
    input_ids: Tensor
    """``(B, T)`` int64"""
    positions: Tensor
    """``(B, L)`` int64: depths below the first video embedding"""
    ends: Tensor
    """``(B, L)`` int64: index after each position's last descendant"""
    target_rows: Tensor
    """``(M,)`` int64: trees of the targets"""
    target_positions: Tensor
    """``(M,)`` int64: positions that predict the targets"""
    target_ids: Tensor
    """``(M,)`` int64"""
    target_texts: Tensor
    """``(M,)`` int64: index of each target's text"""


def grow_tree(video: int, texts: Sequence[EncodedText], chosen: Sequence[int]) -> PrefixTree:
    """Build the tree of some texts.

    Args:
        video: Index of the video that they are about.
        texts: All texts.
        chosen: Indices of those that are to be in the tree.
    """
    tree = PrefixTree(video, [], [], [], [], [], [])
    path: list[int] = []  # nodes of the text before
    previous: list[int] = []
    # In lexical order, texts of one beginning follow each other: that is depth first.
    for index in sorted(chosen, key=lambda index: texts[index].input_ids):
        ids, labels = texts[index]
        nodes = ids[:-1]
        shared = common_length(previous, nodes)
        for node in path[shared:]:
            tree.ends[node] = len(tree.token_ids)
        del path[shared:]
        for depth in range(shared, len(nodes)):
            path.append(len(tree.token_ids))
            tree.token_ids.append(nodes[depth])
            tree.depths.append(depth)
            tree.ends.append(0)
        for column, label in enumerate(labels):
            if label != IGNORE_INDEX:
                tree.target_nodes.append(path[column - 1] if column else -1)
                tree.target_ids.append(label)
                tree.target_texts.append(index)
        previous = nodes
    for node in path:
        tree.ends[node] = len(tree.token_ids)
    return tree


def plan_trees(
    texts: Sequence[EncodedText],
    videos: Sequence[int],
    chosen: Sequence[int],
    num_embeddings: int,
    even_length: float,
) -> list[PrefixTree]:
    """Put texts into trees, at the least cost.

    One tree of all texts of a video has the fewest nodes, but attention looks at all pairs of a
    tree's positions.

    Args:
        texts: All texts.
        videos: Of each text, the index of its video.
        chosen: Indices of the texts that are put into trees; no more than :data:`MAX_POSITIONS`
            positions each.
        num_embeddings: Video embeddings before the texts, Q.
        even_length: Length of a sequence for which attention costs as much as all other layers.
    """
    trees = []
    for video in dict.fromkeys(videos[index] for index in chosen):
        about = [index for index in chosen if videos[index] == video]
        about.sort(key=lambda index: texts[index].input_ids)
        lengths = [len(texts[index].input_ids) - 1 for index in about]
        added = [0]  # nodes of the first, second, ... text that the texts before it do not have
        for before, index, length in zip(about, about[1:], lengths[1:], strict=False):
            known = common_length(texts[before].input_ids[:-1], texts[index].input_ids[:-1])
            added.append(added[-1] + length - known)

        def cost(
            start: int, stop: int, lengths: list[int] = lengths, added: list[int] = added
        ) -> float:
            positions = num_embeddings + lengths[start] + added[stop - 1] - added[start]
            return sequence_cost(positions, even_length) if positions <= MAX_POSITIONS else math.inf

        trees += [
            grow_tree(video, texts, about[start:stop])
            for start, stop in cheapest_cut(len(about), cost)
        ]
    return trees


def batch_trees(
    trees: Sequence[PrefixTree], num_embeddings: int, even_length: float
) -> list[TreeBatch]:
    """Put trees of similar size together, so that little is padded; the largest come first.

    Arguments are as for :func:`plan_trees`.
    """
    ordered = sorted(trees, key=lambda tree: -len(tree.token_ids))
    sizes = [num_embeddings + len(tree.token_ids) for tree in ordered]

    def cost(start: int, stop: int) -> float:
        longest, number = sizes[start], stop - start
        if number > 1 and number * longest**2 > MAX_MASK:
            return math.inf
        return number * sequence_cost(longest, even_length) + CALL_POSITIONS

    return [
        collate_trees(ordered[start:stop], num_embeddings)
        for start, stop in cheapest_cut(len(ordered), cost)
    ]


def collate_trees(trees: Sequence[PrefixTree], num_embeddings: int) -> TreeBatch:
    """Pad trees to one batch, in their order."""
    longest = num_embeddings + max(len(tree.token_ids) for tree in trees)
    itself = torch.arange(longest)
    positions = itself.repeat(len(trees), 1)
    ends = (itself + 1).repeat(len(trees), 1)
    for row, tree in enumerate(trees):
        total = num_embeddings + len(tree.token_ids)
        below = slice(num_embeddings, total)
        positions[row, below] = torch.tensor(tree.depths, dtype=torch.int64) + num_embeddings
        # A depth that the tree has: some models stretch all positions by the greatest one.
        positions[row, total:] = 0
        # All nodes descend from the video's embeddings; padding ends where it begins.
        ends[row, :num_embeddings] = total
        ends[row, below] = torch.tensor(tree.ends, dtype=torch.int64) + num_embeddings
    rows = [row for row, tree in enumerate(trees) for _ in tree.target_ids]
    nodes = torch.tensor([n for tree in trees for n in tree.target_nodes], dtype=torch.int64)
    ids = [torch.tensor(tree.token_ids, dtype=torch.int64) for tree in trees]
    return TreeBatch(
        videos=torch.tensor([tree.video for tree in trees]),
        input_ids=pad_sequence(ids, batch_first=True),
        positions=positions,
        ends=ends,
        target_rows=torch.tensor(rows, dtype=torch.int64),
        target_positions=nodes + num_embeddings,
        target_ids=torch.tensor([i for t in trees for i in t.target_ids], dtype=torch.int64),
        target_texts=torch.tensor([i for t in trees for i in t.target_texts], dtype=torch.int64),
    )


def ancestor_mask(ends: Tensor) -> Tensor:
    """Attention mask by which each position sees its ancestors and itself.

    Args:
        ends: As in :class:`TreeBatch`, shape ``(B, L)``.

    Returns:
        Shape ``(B, 1, L, L)``, bool: True where the row's position attends to the column's.
    """
    index = torch.arange(ends.shape[1], device=ends.device)
    # Descendants follow their ancestor directly, up to its end.
    mask = (index[None, :, None] >= index[None, None, :]) & (index[None, :, None] < ends[:, None])
    return mask[:, None]


def sequence_cost(positions: int, even_length: float) -> float:
    """Cost of a sequence in that of one position without attention."""
    return positions * (1 + positions / even_length)


def cheapest_cut(count: int, cost: Callable[[int, int], float]) -> list[tuple[int, int]]:
    """Cut ``0 ... count - 1`` into consecutive ranges of the least cost together.

    Args:
        count: How many there are to be cut.
        cost: Of a range, by its start and stop. If it is infinite, that of longer ranges is too; a
            single one's is finite.
    """
    least, starts = [0.0], [0]
    for stop in range(1, count + 1):
        best, chosen = math.inf, stop - 1
        for start in range(stop - 1, -1, -1):
            here = cost(start, stop)
            if here == math.inf:
                break
            if least[start] + here < best:
                best, chosen = least[start] + here, start
        least.append(best)
        starts.append(chosen)
    cuts = []
    stop = count
    while stop:
        cuts.append((starts[stop], stop))
        stop = starts[stop]
    return cuts[::-1]


def common_length(first: Sequence[int], second: Sequence[int]) -> int:
    """Length of the beginning that two texts have in common, in tokens."""
    for index, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return index
    return min(len(first), len(second))
