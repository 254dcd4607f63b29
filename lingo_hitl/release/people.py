"""What can be said about the people behind a release without saying who they are."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lingo_hitl.records import Row

SIMULATED = "simulated"
"""User names that begin with this word belong to programs that answer in people's place, as in the demo."""


@dataclass(frozen=True)
class People:
    """Who judged, in figures.

    Attributes:
        labelers, simulated: how many there were, and how many of them are programs.
        answers: submitted answers that were counted.
        compared: rows that two or more answered; the next two are about these.
        mean_spread: mean over rows of the largest difference on one text, 0 to 4 points; None without such rows.
        within_one: share of the rows on which no two people differ by more than a point; None likewise.
    """

    labelers: int
    simulated: int
    answers: int
    compared: int
    mean_spread: float | None
    within_one: float | None


def people_of(rows: Iterable[Mapping[str, Any]]) -> People:
    """The figures of all rows that people answered, those that were dropped later among them.

    Taken over the released rows alone, agreement would look better than it was.
    """
    answered = [row for row in rows if row.get("answers")]
    names = {name for row in answered for name in row.get("labelers") or []}
    spreads = [row["spread"] for row in answered if row["answers"] > 1 and row.get("spread") is not None]
    return People(
        labelers=len(names),
        simulated=sum(name.startswith(SIMULATED) for name in names),
        answers=sum(row["answers"] for row in answered),
        compared=len(spreads),
        mean_spread=sum(spreads) / len(spreads) if spreads else None,
        within_one=sum(spread <= 1 for spread in spreads) / len(spreads) if spreads else None,
    )


def content_of(drop: Mapping[str, Any]) -> Row:
    """The row that a row of `records.DROPPED` was; empty where its JSON holds none."""
    try:
        content = json.loads(drop["row"])
    except (TypeError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def anonymous(drop: Mapping[str, Any]) -> Row:
    """A row of `records.DROPPED` without the labelers' names: a release is for everybody's eyes."""
    content = content_of(drop)
    if "labelers" not in content:
        return dict(drop)
    del content["labelers"]
    return {**drop, "row": json.dumps(content, ensure_ascii=False)}
