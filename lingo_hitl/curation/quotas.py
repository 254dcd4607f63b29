"""How many rows each cluster gives to a sample of a given size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lingo_hitl.curation.pool import Ints


def quotas(sizes: Sequence[int] | Ints, total: int) -> Ints:
    """Deal `total` out in proportion to `sizes`, by largest remainder: int [sizes], which sums to exactly `total`.

    Each gets at least one while `total` allows; where it does not, the largest get one each. None gets
    more than its size. Equal claims are settled in the order given.

    Raises:
        ValueError: a size below 1, or a total below 0 or above the sum of the sizes.
    """
    size = np.asarray(sizes, dtype=np.int64)
    if total < 0 or total > size.sum() or (size < 1).any():
        raise ValueError(f"cannot deal {total} out over sizes {size.tolist()}")
    dealt = np.zeros(len(size), dtype=np.int64)
    if total < len(size):
        dealt[np.argsort(-size, kind="stable")[:total]] = 1
        return dealt
    # Those whose claim is below one get one; the rest shares what is left, which may pull others below one.
    small = np.zeros(len(size), dtype=bool)
    while True:
        left, rest = total - int(small.sum()), int(size[~small].sum())
        # Whole numbers: a claim of exactly one must not fall below it by rounding.
        below = ~small & (left * size < rest)
        if not below.any():
            break
        small |= below
    dealt[small] = 1
    claims = left * size[~small]
    dealt[~small] = claims // max(rest, 1)
    missing = total - int(dealt.sum())
    first = np.flatnonzero(~small)[np.argsort(-(claims % max(rest, 1)), kind="stable")[:missing]]
    dealt[first] += 1
    return dealt


def cell_quotas(groups: Sequence[int] | Ints, sizes: Sequence[int] | Ints, total: int) -> Ints:
    """`quotas` of cells that lie in length groups: where `total` cannot reach every cell, it reaches every group alike.

    Args:
        groups: the group of each cell.
        sizes: the rows in each cell.
    """
    group, size = np.asarray(groups, dtype=np.int64), np.asarray(sizes, dtype=np.int64)
    if total >= len(size):
        return quotas(sizes, total)
    names = np.unique(group)
    shares = quotas([int(size[group == name].sum()) for name in names], total)
    dealt = np.zeros(len(size), dtype=np.int64)
    for name, share in zip(names, shares, strict=True):
        cells = np.flatnonzero(group == name)
        dealt[cells] = quotas(size[cells].tolist(), int(share))
    return dealt
