"""KoQuality as its authors' scripts do it, their rounding and their losses included (nayohan/KoQuality @59bdf7a).

What they leave to chance is settled here: rows of equal length and perplexity are in the order of their
ids (the original: that of its files), equal perplexities in a cluster in that of (length, id) (numpy's
quicksort), and random samples are seeded.
"""

from __future__ import annotations

import math

import numpy as np

from lingo_hitl.config import KoQualityConfig
from lingo_hitl.curation.grouping import clusters, finite, gather, quantile_length_groups
from lingo_hitl.curation.pool import NO_VECTOR, Cells, Choice, Ints, Pool, Reason
from lingo_hitl.errors import UserError
from lingo_hitl.progress import progress

LOST = -1
_STARTS = 10  # of k-means


def file_order(pool: Pool) -> Ints:
    """Positions of the rows that the original keeps, in the order of its files: by (length, rounded perplexity, id)."""
    pool = pool.rounded
    order = np.lexsort((pool.rank, pool.perplexity, pool.lengths))
    return order[~np.isnan(pool.perplexity[order])]


def cells(pool: Pool, config: KoQualityConfig) -> Cells:
    """Quantile length groups, and k-means of the vectors as they are in each; rows without perplexity are lost.

    Raises:
        UserError: a length group has fewer rows than clusters are asked for, or a row has no vector; the
            original stops there too.
    """
    order = file_order(pool)
    groups, found = (np.full(len(pool), LOST, dtype=np.int64) for _ in range(2))
    groups[order] = quantile_length_groups(pool.lengths[order], config.length_groups)
    if not len(pool):
        return Cells(groups, found)
    _check_sizes(np.bincount(groups[order], minlength=config.length_groups), len(pool) - len(order), config)
    _check_vectors(pool, order)
    numbers = np.unique(groups[groups >= 0]).tolist()
    with progress("clusters of length groups", len(numbers)) as advance:
        for group in numbers:
            members = order[groups[order] == group]
            found[members] = clusters(
                gather(pool.vectors, pool.vector_of[members], unit=False), config.clusters, config.seed, starts=_STARTS
            )
            advance()
    return Cells(groups, found)


def choose(pool: Pool, cells: Cells, config: KoQualityConfig) -> Choice:
    """Sample as the original does: of the kept n rows it takes about ratio x n, and tells how many.

    `ppl` takes every floor(1/ratio)-th row of a cluster along ascending perplexity, from the lowest;
    `ppl_h` the floor(ratio x rows) rows of highest perplexity of each cluster, the same text once, the number
    being taken before repeated texts are left out; `rand` round(ratio x rows) rows of each length group.
    """
    kept = pool.rounded.ascending
    kept = kept[cells.groups[kept] != LOST]
    reasons = np.full(len(pool), Reason.LOST, dtype=np.int8)
    reasons[kept] = Reason.NOT_SAMPLED
    if config.sampling == "ppl":
        chosen = _along_perplexity(kept, cells, config.ratio)
    elif config.sampling == "ppl_h":
        chosen, repeated = _of_highest_perplexity(kept, pool, cells, config.ratio)
        reasons[repeated] = Reason.REPEATED
    else:
        chosen = _by_chance(file_order(pool), cells, config)
    reasons[chosen] = Reason.SELECTED
    report = {
        "rows": len(pool),
        "lost, of one token": len(pool) - len(kept),
        "asked for": round(config.ratio * len(pool)),
        "selected": len(chosen),
    }
    return Choice(reasons, report)


def _along_perplexity(rows: Ints, cells: Cells, ratio: float) -> Ints:
    rows, cell = cells.runs(rows)
    return rows[_place(cell) % math.floor(1 / ratio) == 0]


def _of_highest_perplexity(rows: Ints, pool: Pool, cells: Cells, ratio: float) -> tuple[Ints, Ints]:
    """The rows that are taken, and those that repeat a text of their cluster."""
    # An infinite perplexity is null in the original's files, and null comes last in both directions.
    falling = np.where(np.isinf(pool.rounded.perplexity), np.inf, -pool.rounded.perplexity)
    rows, cell = cells.runs(rows[np.argsort(falling[rows], kind="stable")])
    text = cell * (pool.text_number.max(initial=0) + 1) + pool.text_number[rows]
    first = np.zeros(len(rows), dtype=bool)
    first[np.unique(text, return_index=True)[1]] = True
    # Per cluster in Python floats: what 0.1 x 30 is rounded down to must be what it is there.
    most = np.array([math.floor(ratio * size) for size in np.bincount(cell).tolist()], dtype=np.int64)
    taken = rows[first][_place(cell[first]) < most[cell[first]]]
    return taken, rows[~first]


def _by_chance(rows: Ints, cells: Cells, config: KoQualityConfig) -> Ints:
    chosen = [np.zeros(0, dtype=np.int64)]
    for group in np.unique(cells.groups[rows]).tolist():
        members = rows[cells.groups[rows] == group]
        chance = np.random.default_rng([config.seed, group])
        chosen.append(chance.choice(members, size=round(config.ratio * len(members)), replace=False))
    return np.concatenate(chosen)


def _place(cell: Ints) -> Ints:
    """The place of each within its run of equal numbers, from 0; `cell` ascends."""
    return np.arange(len(cell)) - np.searchsorted(cell, cell)


def _check_sizes(sizes: Ints, lost: int, config: KoQualityConfig) -> None:
    also = f" ({lost} rows of one token are lost)" if lost else ""
    for group, size in enumerate(sizes.tolist(), start=1):
        if size < config.clusters:
            raise UserError(
                f"method exact: length group {group} of {config.length_groups} has {size} rows{also}, fewer than the "
                f"{config.clusters} clusters asked for; the original stops here too. "
                "Ask for fewer clusters or length groups, or use method balanced."
            )


def _check_vectors(pool: Pool, rows: Ints) -> None:
    usable = pool.vector_of[rows] != NO_VECTOR
    usable[usable] = finite(pool.vectors)[pool.vector_of[rows[usable]]]
    if not usable.all():
        first = pool.ids[int(rows[np.argmin(usable)])].as_py()
        raise UserError(
            f"method exact: {(~usable).sum()} rows, such as '{first}', have no vector of finite numbers; "
            "the original stops here too. Drop them, or use method balanced."
        )
