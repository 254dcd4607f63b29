"""Several people's answers to a row, as one: mean ratings, who was preferred, how far people differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from lingo_hitl.annotation.tasks import rating_questions
from lingo_hitl.ledger import Event
from lingo_hitl.records import CONSENSUS, Row, add_columns, judged_texts
from lingo_hitl.stages import Outcome


def consensus(table: pa.Table, answers: Iterable[Event]) -> Outcome:
    """Lay the people's view beside each row of `table`: the columns of `CONSENSUS`.

    Only submitted answers count, and only those about the very text that the row holds. Rows that
    nobody answered go on with `answers` 0; it is for curation to say whether that is enough.
    """
    columns = table.select([name for name in table.column_names if name != "vector"]).to_pylist()
    here = {row["id"] for row in columns}
    by_row: dict[str, list[Event]] = {}
    discards: Counter[str] = Counter()
    other_text = elsewhere = 0
    for answer in sorted(answers, key=lambda a: (a.row, a.person)):
        if answer.row not in here:
            elsewhere += answer.body["status"] == "submitted"
            continue
        discards[answer.row] += answer.body["status"] == "discarded"
        if answer.body["status"] != "submitted":
            continue
        if answer.body["text"] != answer.row:
            other_text += 1
            continue
        by_row.setdefault(answer.row, []).append(answer)
    views = [{**_view(row, by_row.get(row["id"], [])), "discards": discards[row["id"]]} for row in columns]
    report: dict[str, Any] = {
        "answered": sum(view["answers"] > 0 for view in views),
        "answers": sum(view["answers"] for view in views),
        "labelers": sorted({person for view in views for person in view["labelers"]}),
    }
    if elsewhere:
        report["answers_to_rows_that_are_no_longer_here"] = elsewhere
    if other_text:
        report["answers_about_a_text_changed_in_argilla"] = other_text
    return Outcome(add_columns(table, views, CONSENSUS), [], report)


def _view(row: Mapping[str, Any], answers: Sequence[Event]) -> Row:
    names = rating_questions(row["task"], len(judged_texts(row)))
    given = [[answer.body["values"].get(name) for name in names] for answer in answers]
    by_text = [[ratings[n] for ratings in given if ratings[n] is not None] for n in range(len(names))]
    return {
        "answers": len(answers),
        "human_ratings": [sum(r) / len(r) if r else None for r in by_text],
        "preferred": preferred_shares(given, len(names)) if row["task"] == "preference" else None,
        "spread": float(max((max(r) - min(r) for r in by_text if r), default=0)) if answers else None,
        "correction": _correction(answers),
        "labelers": sorted({answer.person for answer in answers}),
    }


def preferred_shares(given: Sequence[Sequence[int | None]], texts: int) -> list[float]:
    """The share of people for whom each text was the best; a person's tie is split evenly among the tied.

    Args:
        given: ratings by person, then by text.
        texts: how many texts there are.
    """
    shares = [0.0] * texts
    voters = 0
    for ratings in given:
        best = max((rating for rating in ratings if rating is not None), default=None)
        if best is None:
            continue
        voters += 1
        winners = [n for n, rating in enumerate(ratings) if rating == best]
        for n in winners:
            shares[n] += 1 / len(winners)
    return [share / voters for share in shares] if voters else shares


def _correction(answers: Sequence[Event]) -> str | None:
    """The latest text that a labeler wrote instead of the one shown."""
    written = [
        (answer.body["at"], text)
        for answer in answers
        if (text := str(answer.body["values"].get("correction") or "").strip())
    ]
    return max(written)[1] if written else None
