"""The rows of a review page: drawn by a seed, evenly over sources and causes of rejection."""

import hashlib
import heapq
from collections.abc import Iterable
from dataclasses import dataclass

from vidreason.evaluation.page.items import fair_shares
from vidreason.teacher.review_agreement import ACCEPTED


@dataclass(frozen=True, kw_only=True)
class ReviewSample:
    """The drawn rows, and all that were there."""

    ids: frozenset[str]
    sizes: dict[tuple[str, str], int]
    """Rows by source and verdict of the gate."""
    set_sha: str
    """SHA-256 of all ids with the hashes of their rows: names this version of the set."""


def draw_rows(
    rows: Iterable[tuple[str, str, str, str]],
    *,
    num_rows: int,
    rejected_fraction: float,
    seed: int,
) -> ReviewSample:
    """Draw rows; a row's luck depends on its id and the seed alone.

    Of accepted rows each source, and of rejected ones each cause, has as many as the others, as far
    as there are enough. One pass; memory for ``num_rows`` ids a source and verdict.

    Args:
        rows: Id, hash, source and verdict of each, in any order.
        num_rows: How many are drawn, or all where there are fewer.
        rejected_fraction: Share of them that the gate rejected, if there are enough of both.
        seed: Of the draw.

    Raises:
        ValueError: An id that is drawn is there twice, or there is no row.
    """
    sizes: dict[tuple[str, str], int] = {}
    heaps: dict[tuple[str, str], list[tuple[int, str]]] = {}
    in_order = hashlib.sha256()
    for name, sha, source, verdict in rows:
        in_order.update(f"{name}\0{sha}\n".encode(errors="backslashreplace"))
        # The smallest hashes are drawn; heapq keeps the largest, so they are negative.
        luck = hashlib.sha256(f"{seed}\0{name}".encode(errors="backslashreplace")).digest()
        # Accepted rows are in strata by source, rejected ones by cause.
        stratum = (source, ACCEPTED) if verdict == ACCEPTED else ("", verdict)
        sizes[source, verdict] = sizes.get((source, verdict), 0) + 1
        # No stratum gives more than all that are drawn.
        heap = heaps.setdefault(stratum, [])
        item = (-int.from_bytes(luck[:8], "big"), name)
        if len(heap) < num_rows:
            heapq.heappush(heap, item)
        else:
            heapq.heappushpop(heap, item)
    if not sizes:
        raise ValueError("the set has no rows to review")
    num_accepted = sum(number for (_, verdict), number in sizes.items() if verdict == ACCEPTED)
    num_rejected = sum(sizes.values()) - num_accepted
    # More rejected ones where there are too few accepted ones.
    wanted = max(round(num_rows * rejected_fraction), num_rows - num_accepted)
    chosen: list[str] = []
    for total, is_rejected in ((num_rows - min(wanted, num_rejected), False), (wanted, True)):
        strata = sorted(key for key in heaps if (key[1] != ACCEPTED) == is_rejected)
        shares = fair_shares([len(heaps[key]) for key in strata], total)
        for key, share in zip(strata, shares, strict=True):
            chosen += [name for _, name in heapq.nlargest(share, heaps[key])]
    if len(set(chosen)) < len(chosen):
        repeated = next(name for name in chosen if chosen.count(name) > 1)
        raise ValueError(
            f"the id {repeated!r:.200} is there twice: a review could be of either row"
        )
    return ReviewSample(ids=frozenset(chosen), sizes=sizes, set_sha=in_order.hexdigest())
