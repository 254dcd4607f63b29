"""Which rows are good enough to go on, judged by what people said. A filter answers True or (False, reason).

Reasons hold no figures of the row itself, so that the manifest can count how many rows each one dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from lingo_hitl.config import CurateConfig

Verdict = Literal[True] | tuple[Literal[False], str]
Filter = Callable[[Mapping[str, Any]], Verdict]
"""Takes a row with the columns of `records.GENERATED` and `records.CONSENSUS`."""


def has_text(row: Mapping[str, Any]) -> Verdict:
    """Something to release: a prompt, and for each task the texts without which it makes no example."""
    if not (row["instruction"] or "").strip():
        return False, "empty prompt"
    if row["task"] == "dialogue":
        messages = row["messages"] or []
        if len(messages) < 2 or not all((m["content"] or "").strip() for m in messages):
            return False, "empty message in the dialogue"
    elif row["task"] == "preference":
        if sum(bool((text or "").strip()) for text in row["completions"] or []) < 2:
            return False, "fewer than 2 completions with text"
    elif not (row["output"] or "").strip() and not row["correction"]:
        return False, "empty output, and nobody wrote one"
    return True


def enough_answers(minimum: int) -> Filter:
    """At least `minimum` people answered."""
    reason = "nobody answered" if minimum == 1 else f"fewer than {minimum} answers"

    def check(row: Mapping[str, Any]) -> Verdict:
        return True if (row["answers"] or 0) >= minimum else (False, reason)

    return check


def discarded_by_at_most(maximum: int) -> Filter:
    """No more than `maximum` people discarded the row, which the guidelines ask for where it makes no sense."""
    reason = "a labeler discarded it" if maximum == 0 else f"more than {maximum} labelers discarded it"

    def check(row: Mapping[str, Any]) -> Verdict:
        return True if (row["discards"] or 0) <= maximum else (False, reason)

    return check


def rated_at_least(minimum: float) -> Filter:
    """Instructions and dialogues: a mean human rating of at least `minimum`, or a labeler's correction.

    A correction is what goes into the dataset instead of the text that was rated, and people write one
    just where the rating is low. Preference rows are compared, not passed or failed: all go on.
    """

    def check(row: Mapping[str, Any]) -> Verdict:
        if row["task"] == "preference" or row["correction"]:
            return True
        ratings = row["human_ratings"] or []
        if not ratings or ratings[0] is None:
            return False, "nobody rated it"
        return True if ratings[0] >= minimum else (False, f"mean human rating below {minimum:g}")

    return check


def spread_at_most(maximum: float) -> Filter:
    """No two people differ by more than `maximum` points on the same text."""

    def check(row: Mapping[str, Any]) -> Verdict:
        if row["spread"] is None or row["spread"] <= maximum:
            return True
        return False, f"people differ by more than {maximum:g} points"

    return check


def filters_of(config: CurateConfig) -> list[Filter]:
    """The filters that a config asks for, in the order in which they are applied."""
    filters: list[Filter] = [
        has_text,
        discarded_by_at_most(config.max_discards),
        enough_answers(config.min_answers),
        rated_at_least(config.min_rating),
    ]
    if config.max_spread is not None:
        filters.append(spread_at_most(config.max_spread))
    return filters


def refusal(row: Mapping[str, Any], filters: Sequence[Filter]) -> str | None:
    """The reason of the first filter that refuses a row, or None."""
    for check in filters:
        verdict = check(row)
        if verdict is not True:
            return verdict[1]
    return None
