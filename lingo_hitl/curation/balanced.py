"""KoQuality with what is uneven in the original mended; see `koquality` for what that means."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lingo_hitl.config import KoQualityConfig
from lingo_hitl.curation.grouping import (
    NO_CLUSTER,
    clusters,
    clusters_in_batches,
    finite,
    gather,
    length_groups,
)
from lingo_hitl.curation.pool import NO_VECTOR, Cells, Choice, Floats, Ints, Pool, Reason
from lingo_hitl.curation.quotas import cell_quotas
from lingo_hitl.progress import progress


def cells(pool: Pool, config: KoQualityConfig) -> Cells:
    """Length groups of even size, and k-means of the vectors' directions in each.

    A group with more than `config.mini_batch_above` rows is clustered in mini-batches. Rows without a
    vector, or with one that is not finite, are in `NO_CLUSTER`.
    """
    groups = np.empty(len(pool), dtype=np.int64)
    # k-means and rank groups depend on the order of their input: it is always that of the ids.
    by_id = np.argsort(pool.rank)
    groups[by_id] = length_groups(pool.lengths[by_id], config.length_groups)
    usable = pool.vector_of != NO_VECTOR
    usable[usable] = finite(pool.vectors)[pool.vector_of[usable]]
    found = np.full(len(pool), NO_CLUSTER, dtype=np.int64)
    numbers = np.unique(groups[groups >= 0]).tolist()
    with progress("clusters of length groups", len(numbers)) as advance:
        for group in numbers:
            members = by_id[(groups[by_id] == group) & usable[by_id]]
            wanted = pool.vector_of[members]
            if len(members) > config.mini_batch_above:
                found[members] = clusters_in_batches(pool.vectors, wanted, config.clusters, config.seed, unit=True)
            elif len(members):
                found[members] = clusters(gather(pool.vectors, wanted, unit=True), config.clusters, config.seed)
            advance()
    return Cells(groups, found)


def choose(pool: Pool, cells: Cells, config: KoQualityConfig) -> Choice:
    """Choose round(ratio x rows) rows, or all that `config.keep_perplexity` leaves where those are fewer.

    Of rows that nearly repeat each other one stands for the others. As long as enough such rows are there,
    no other is taken, and every cluster that has one gives at least one while the number allows. Where they
    are too few, the others fill up: first one for each cluster that has nothing else, then in proportion.
    """
    wanted = round(config.ratio * len(pool))
    reasons, quality = _standing(pool, config), _quality(pool)
    standing = reasons[pool.ascending]
    fresh, others = (pool.ascending[standing == reason] for reason in (Reason.NOT_SAMPLED, Reason.REPEATED))
    cut, repeated = len(pool) - len(fresh) - len(others), len(others)

    def sample(rows: Ints, total: int, draw: int) -> Ints:
        return _sample(rows, min(total, len(rows)), cells, config, quality, pool.perplexity, draw)

    taken = sample(fresh, wanted, 0)
    filled = 0
    if wanted > len(taken) and repeated:
        bare = others[~np.isin(cells.number[others], cells.number[fresh])]
        first = sample(bare, min(wanted - len(taken), len(np.unique(cells.number[bare]))), 1)
        more = sample(others[~np.isin(others, first)], wanted - len(taken) - len(first), 2)
        filled = len(first) + len(more)
        taken = np.concatenate([taken, first, more])
    reasons[taken] = Reason.SELECTED
    report: dict[str, Any] = {"rows": len(pool), "asked for": wanted, "selected": len(taken)}
    if cut:
        report["outside the perplexities that are kept"] = cut
    if repeated:
        report |= {"near-duplicates": repeated, "near-duplicates taken for want of others": filled}
    if len(taken) < wanted:
        report["note"] = f"only {len(taken)} rows lie inside keep_perplexity: all of them are taken"
    elif len(pool) and not wanted:
        report["note"] = f"{config.ratio:g} x {len(pool)} rows rounds to 0: none is taken"
    return Choice(reasons, report)


def _standing(pool: Pool, config: KoQualityConfig) -> NDArray[np.int8]:
    """Of each row, what keeps it out of a sample before any is drawn, or `NOT_SAMPLED`."""
    reasons = np.full(len(pool), Reason.NOT_SAMPLED, dtype=np.int8)
    # Infinity times a weight of zero is no quantile.
    perplexity = np.minimum(pool.perplexity, np.finfo(np.float64).max)
    low, high = _kept_range(perplexity, config.keep_perplexity)
    reasons[perplexity < low] = Reason.LOW
    reasons[perplexity > high] = Reason.HIGH
    rows = pool.ascending[reasons[pool.ascending] == Reason.NOT_SAMPLED]
    quality = _quality(pool)
    if quality is not None:
        rows = rows[np.argsort(-quality[rows], kind="stable")]
    first = np.unique(_repeats(pool)[rows], return_index=True)[1]
    others = np.ones(len(rows), dtype=bool)
    others[first] = False
    reasons[rows[others]] = Reason.REPEATED
    return reasons


def _kept_range(perplexity: Floats, quantiles: tuple[float, float]) -> tuple[float, float]:
    """The perplexities between two quantiles, which interpolate linearly."""
    known = perplexity[~np.isnan(perplexity)]
    low, high = np.quantile(known, quantiles).tolist() if len(known) else (0.0, 0.0)
    return low if quantiles[0] > 0 else -math.inf, high if quantiles[1] < 1 else math.inf


def _repeats(pool: Pool) -> Ints:
    """The same number for rows of one text or of one duplicate group: int [n]."""
    if pool.duplicate_group is None:
        return pool.text_number
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    group = np.unique(pool.duplicate_group, return_inverse=True)[1] + pool.text_number.max(initial=-1) + 1
    nodes = int(group.max(initial=-1)) + 1
    graph = coo_array((np.ones(len(pool), dtype=np.int8), (pool.text_number, group)), shape=(nodes, nodes))
    label: Ints = connected_components(graph, directed=False)[1].astype(np.int64)
    return label[pool.text_number]


def _quality(pool: Pool) -> Floats | None:
    """Of each row, those without one being average; None where no row has any."""
    if pool.quality is None or np.isnan(pool.quality).all():
        return None
    known = pool.quality[~np.isnan(pool.quality)]
    # An exact sum: the last bit of numpy's depends on the order of the rows, and could settle a tie.
    return np.where(np.isnan(pool.quality), math.fsum(known.tolist()) / len(known), pool.quality)


def _sample(
    rows: Ints, total: int, cells: Cells, config: KoQualityConfig, quality: Floats | None, perplexity: Floats, draw: int
) -> Ints:
    """`total` of `rows`, which are in the order of `Pool.ascending`: of each cell as many as its size asks for."""
    rows, cell = cells.runs(rows)
    first, sizes = np.unique(cell, return_index=True, return_counts=True)[1:]
    quota = cell_quotas(cells.groups[rows[first]], sizes, total)
    if config.sampling == "rand":
        return _by_chance(rows, first, sizes, quota, cells, [config.seed, draw])
    places = np.arange(len(rows))
    if config.sampling == "ppl_h":
        known = np.isfinite(perplexity[rows])
        falling = (places, -perplexity[rows], ~known)
        order = np.lexsort((*falling, cell) if quality is None else (*falling, -quality[rows], cell))
        return rows[order[places - first[cell] < quota[cell]]]
    # Cell of s rows, quota q: row p lies in the stratum j for which floor(j s / q) <= p < floor((j + 1) s / q).
    asked = quota[cell] > 0
    stratum = ((places - first[cell] + 1) * quota[cell] - 1) // sizes[cell] + (np.cumsum(quota) - quota)[cell]
    rows, stratum = rows[asked], stratum[asked]
    if quality is not None:
        best = np.full(int(quota.sum()), -np.inf)
        np.maximum.at(best, stratum, quality[rows])
        top = quality[rows] == best[stratum]
        rows, stratum = rows[top], stratum[top]
    first, counts = np.unique(stratum, return_index=True, return_counts=True)[1:]
    # The middle one: with few rows a cluster, the lowest of each stratum would make a sample of low perplexities.
    return rows[first + (counts - 1) // 2]


def _by_chance(rows: Ints, first: Ints, sizes: Ints, quota: Ints, cells: Cells, seed: list[int]) -> Ints:
    chosen = [rows[:0]]
    for start, size, count in zip(first.tolist(), sizes.tolist(), quota.tolist(), strict=True):
        # A generator for each cluster: what one draws must not depend on how much another drew.
        chance = np.random.default_rng([*seed, int(cells.groups[rows[start]]), int(cells.clusters[rows[start]]) + 1])
        chosen.append(chance.choice(rows[start : start + size], size=count, replace=False))
    return np.concatenate(chosen)
