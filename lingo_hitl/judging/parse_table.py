"""Ratings from a judge that answers in a Markdown table: a row for each text, or a column for each."""

from __future__ import annotations

import re

from lingo_hitl.judging.values import NotGiven, OtherScale, read_value
from lingo_hitl.judging.verdict import Verdict, by_label

_RULE = re.compile(r"[\s|:+-]+")
_RATING = re.compile(r"(?:overall\s+|final\s+|종합\s*)?(?:ratings?|scores?|grade|평점|점수|별점)", re.I)
_RATIONALE = re.compile(r"(?:rationale|reason|explanation|comment|근거|이유|설명|비고)s?", re.I)
_TEXT = re.compile(
    r"(?:(?:text|response|answer|output|글|텍스트|답변|응답)[\s_#-]*)?(\d{1,2})(?:번)?(?:\s*(?:글|텍스트|답변|응답))?",
    re.I,
)
_NAMED = re.compile(r"|#|(?:text|response|answer|output|no\.?|number|id|글|텍스트|답변|응답|번호)s?", re.I)
"""The head of the column that says which text a row is about; beside a rank, for one, a number may mean another."""
_ASIDE = re.compile(r"\(([^)]*)\)")

Grid = list[list[tuple[str, str]]]
"""Rows of cells; a cell is its plain form and what was written."""


def read_table(text: str, reply: str, count: int) -> list[Verdict] | None:
    """One verdict for each of `count` texts; None where the reply holds no table of ratings.

    Args:
        text: the reply in plain characters, as long as it.
    """
    for grid in _tables(text, reply):
        for table in (grid, [list(column) for column in zip(*grid, strict=True)]):
            if verdicts := _read(table, count):
                return verdicts
    return None


def _tables(text: str, reply: str) -> list[Grid]:
    tables: list[Grid] = []
    inside, at = False, 0
    for line in text.split("\n"):
        written = reply[at : at + len(line)]
        at += len(line) + 1
        if line.count("|") < 2:
            inside = False
            continue
        if _RULE.fullmatch(line):
            continue
        if not inside:
            tables.append([])
        inside = True
        bars = [n for n, character in enumerate(line) if character == "|"]
        edges = [-1, *bars, len(line)]
        spans = list(zip([edge + 1 for edge in edges[:-1]], edges[1:], strict=True))
        # The bars at both ends of a line have nothing beyond them.
        spans = spans[not line[slice(*spans[0])].strip() : len(spans) - (not line[slice(*spans[-1])].strip())]
        tables[-1].append([(_bare(line[a:b]), written[a:b].strip(" *`")) for a, b in spans])
    return [grid for grid in tables if len(grid) > 1 and len({len(row) for row in grid}) == 1]


def _bare(cell: str) -> str:
    return cell.strip(" \t*_`<>[]#")


def _read(table: Grid, count: int) -> list[Verdict] | None:
    """The ratings of a table whose first row names its columns."""
    header, *rows = [[plain for plain, _ in row] for row in table]
    rated = [n for n, name in enumerate(header) if n and _RATING.fullmatch(_ASIDE.sub("", name).strip())]
    named = [n for n, name in enumerate(header) if _NAMED.fullmatch(name)]
    if len(rated) != 1 or len(named) != 1:
        return None
    labels = [_TEXT.fullmatch(row[named[0]]) for row in rows]
    if not any(labels):
        return None
    aside = _ASIDE.search(header[rated[0]])
    highest = max(map(float, re.findall(r"\d+", aside[1] if aside else "")), default=5.0)
    if highest > 5:
        return [Verdict(fault=str(OtherScale(highest)), other_scale=True)] * count
    reasons = [n for n, name in enumerate(header) if _RATIONALE.fullmatch(name)]
    verdicts = [
        (int(label[1]), _cell(row[rated[0]], written[reasons[0]][1] if reasons else None))
        for label, row, written in zip(labels, rows, table[1:], strict=True)
        if label is not None
    ]
    return by_label(verdicts, count)


def _cell(cell: str, rationale: str | None) -> Verdict:
    try:
        value = read_value(cell)
    except NotGiven as fault:
        return Verdict(fault=str(fault), other_scale=isinstance(fault, OtherScale))
    if value is None or not re.fullmatch(r"[\s*_`)\]]*(?:\([^)]*\))?\s*", cell[value[1] :]):
        return Verdict(fault="no number where the rating should be")
    return Verdict.of(value[0], rationale or None)
