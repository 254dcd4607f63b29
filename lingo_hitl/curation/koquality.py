"""KoQuality: a small, good, varied part of a corpus (nayohan/KoQuality, 2023).

Rows are put into groups of similar length, each group into k-means clusters of their vectors, and every
cluster gives rows along its perplexity order. The way it is done here is called `balanced`; it mends
what is uneven in the original (see `exact`):

- groups by rank, so that many rows of one length cannot make them uneven or empty;
- a group with fewer rows than clusters gets fewer clusters;
- quotas by largest remainder, so that a sample has exactly round(ratio x rows) rows, with at least one
  from each cluster while that allows;
- rows without perplexity are kept and come last, rows without a vector are a cluster of their own;
- ties are broken by (perplexity, length, id), so neither the order of the rows nor chance decides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lingo_hitl.config import KoQualityConfig
from lingo_hitl.curation.grouping import Ints, as_matrix, clusters_in_groups, length_groups
from lingo_hitl.curation.quotas import cell_quotas

Sampling = Literal["ppl", "ppl_h", "rand"]

SELECTED = "selected"
NOT_SAMPLED = "not in the KoQuality sample"


Key = tuple[float, int, str]
"""What orders the rows of a cluster: perplexity (infinite where there is none), length, id."""


@dataclass(frozen=True)
class Selection:
    """What KoQuality chose, row by row in the order that was given; `at` chooses again without new clusters.

    Attributes:
        selected: bool [rows].
        groups: length group of each row, 0 for the shortest; int [rows].
        clusters: cluster within the group, -1 for rows without a vector; int [rows].
        ratio, sampling, seed: what it was chosen with.
        keys, texts: what the choice looked at; [rows].
    """

    selected: NDArray[np.bool_]
    groups: Ints
    clusters: Ints
    ratio: float
    sampling: Sampling
    seed: int
    keys: Sequence[Key] = field(repr=False)
    texts: Sequence[str] = field(repr=False)

    @property
    def reasons(self) -> list[str]:
        """Of each row, in words, why it is in the sample or not."""
        return [SELECTED if chosen else NOT_SAMPLED for chosen in self.selected]

    def at(self, ratio: float, *, sampling: Sampling | None = None) -> Selection:
        """The selection with another ratio or way of sampling, from the same clusters."""
        again = replace(self, ratio=ratio, sampling=sampling or self.sampling)
        return replace(again, selected=_chosen(again))


def koquality(
    texts: Sequence[str],
    vectors: Sequence[Any],
    perplexities: Sequence[float | None],
    ids: Sequence[str],
    config: KoQualityConfig,
) -> Selection:
    """Choose round(ratio x rows) of the rows.

    Args:
        texts: what the length is taken of; [rows].
        vectors: a sequence of numbers, or None, for each row.
        perplexities: of each row; None and NaN sort last.
        ids: of each row; they settle ties, so no choice depends on the order of the rows.
    """
    keys = [
        (math.inf if ppl is None or math.isnan(ppl) else ppl, text_length(text), name)
        for ppl, text, name in zip(perplexities, texts, ids, strict=True)
    ]
    # k-means and rank groups depend on the order of their input: it is always that of the ids.
    order = np.array(sorted(range(len(keys)), key=lambda i: keys[i][::-1]), dtype=np.int64)
    matrix, has_vector = as_matrix([vectors[i] for i in order])
    groups = length_groups([keys[i][1] for i in order], config.length_groups)
    found = clusters_in_groups(groups, matrix, has_vector, config.clusters, config.seed)
    back = np.argsort(order)
    nothing = np.zeros(len(keys), dtype=bool)
    begun = Selection(
        nothing, groups[back], found[back], config.ratio, config.sampling, config.seed, keys=keys, texts=texts
    )
    return begun.at(config.ratio)


def text_length(text: str) -> int:
    """Code points of a text without white space at both ends, which is what KoQuality groups by."""
    return len(text.strip())


def sample(
    keys: Sequence[Key], texts: Sequence[str], quota: int, sampling: Sampling, chance: np.random.Generator
) -> list[int]:
    """Choose `quota` members of one cluster; gives their positions.

    `ppl` takes them evenly along ascending perplexity, from its low end. `ppl_h` takes the highest, and the
    same text twice only where it runs out of others. `rand` takes any. Whatever has no perplexity comes last.
    """
    ascending = sorted(range(len(keys)), key=lambda i: keys[i])
    if sampling == "ppl":
        return [ascending[n * len(keys) // quota] for n in range(quota)]
    if sampling == "rand":
        return [int(i) for i in chance.choice(ascending, size=quota, replace=False)]
    seen: set[str] = set()
    fresh: list[int] = []
    again: list[int] = []
    for i in sorted(range(len(keys)), key=lambda i: (math.isinf(keys[i][0]), -keys[i][0], *keys[i][1:])):
        (again if texts[i] in seen else fresh).append(i)
        seen.add(texts[i])
    return (fresh + again)[:quota]


def _chosen(selection: Selection) -> NDArray[np.bool_]:
    """The rows that a selection's ratio and sampling choose from its clusters."""
    rows = len(selection.keys)
    chosen = np.zeros(rows, dtype=bool)
    members: dict[tuple[int, int], list[int]] = {}
    for row, cell in enumerate(zip(selection.groups.tolist(), selection.clusters.tolist(), strict=True)):
        members.setdefault(cell, []).append(row)
    cells = sorted(members)
    sizes = [len(members[cell]) for cell in cells]
    dealt = cell_quotas([group for group, _ in cells], sizes, round(selection.ratio * rows))
    for (group, cluster), quota in zip(cells, dealt.tolist(), strict=True):
        inside = members[group, cluster]
        # A generator for each cluster: what one draws must not depend on how much another drew.
        chance = np.random.default_rng([selection.seed, group, cluster + 1])
        keys, texts = [selection.keys[i] for i in inside], [selection.texts[i] for i in inside]
        chosen[[inside[i] for i in sample(keys, texts, quota, selection.sampling, chance)]] = True
    return chosen
