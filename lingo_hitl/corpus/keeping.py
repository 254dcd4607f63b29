"""Which rows of a merged corpus stay: those in the languages asked for, and of rows that repeat each other the best."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lingo_hitl.config import PrepareConfig
from lingo_hitl.corpus.duplicates import near_duplicate_groups

OTHER_LANGUAGE = "it is in none of the languages asked for"
EQUAL = "a row with the same instruction and output is kept"
NEARLY_EQUAL = "a row with nearly the same instruction is kept"

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Choice:
    """Which of n rows stay.

    Attributes:
        instead: the position of the row that is kept for each: its own, another's, or -1 where none is; int64 [n].
        reasons: why a row is left out, of no meaning for those that stay; string [n].
    """

    instead: Ints
    reasons: pa.StringArray

    @property
    def keep(self) -> NDArray[np.bool_]:
        return self.instead == np.arange(len(self.instead))


def in_languages(table: pa.Table, config: PrepareConfig) -> Choice:
    """The rows whose `language` is among `config.languages`; all where that says nothing."""
    rows = np.arange(table.num_rows)
    if config.languages is not None:
        rows = np.where(pc.is_in(table["language"], pa.array(config.languages)).to_numpy(), rows, -1)
    return Choice(rows, pa.repeat(OTHER_LANGUAGE, table.num_rows))


def without_repeats(table: pa.Table, config: PrepareConfig) -> Choice:
    """One row of those with equal `content`; with `deduplicate: near` one of those with nearly equal instructions.

    The one that stays has the best quality, then the longest output, then the smallest id: whatever the order of rows.
    """
    content = codes(table["content"])
    if config.deduplicate == "none":
        instead = np.arange(table.num_rows)
    elif config.deduplicate == "exact":
        instead = _best_of(table, content)
    else:
        instead = _best_of(table, near_duplicate_groups(table["instruction"], config.similarity))
    return Choice(instead, pc.if_else(pa.array(content == content[instead]), EQUAL, NEARLY_EQUAL))


def turns(names: pa.ChunkedArray, quality: pa.ChunkedArray) -> Ints:
    """How many rows of the same name go before each, by quality and then by position; int64 [n]."""
    code = codes(names)
    order = np.lexsort((-_or_lowest(quality), code))
    starts = np.flatnonzero(_first_of(code[order]))
    turn = np.empty(len(order), np.int64)
    turn[order] = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    return turn


def codes(column: pa.ChunkedArray) -> Ints:
    """A number for each value, the same for equal ones; int64 [n]."""
    encoded: Ints = column.combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
    return encoded


def _best_of(table: pa.Table, group: Ints) -> Ints:
    """For each row the position of the best in its group."""
    by_id = pc.sort_indices(table["id"]).to_numpy()
    rank = np.empty(len(by_id), np.int64)
    rank[by_id] = np.arange(len(by_id))
    longest = -pc.utf8_length(table["output"]).to_numpy().astype(np.int64)
    order = np.lexsort((rank, longest, -_or_lowest(table["quality"]), group))
    leads = np.maximum.accumulate(np.where(_first_of(group[order]), np.arange(len(order)), 0))
    best = np.empty(len(order), np.int64)
    best[order] = order[leads]
    return best


def _first_of(runs: Ints) -> NDArray[np.bool_]:
    """Whether each value begins a run of equal ones."""
    return np.append(True, runs[1:] != runs[:-1])


def _or_lowest(quality: pa.ChunkedArray) -> NDArray[np.float64]:
    values: NDArray[np.float64] = pc.fill_null(quality, -math.inf).to_numpy()
    return values
