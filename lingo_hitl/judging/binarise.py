"""Stage `binarise`: pairs of chosen and rejected texts by the judges' ratings alone, where no people are asked.

A release never reads them: there, people say what is chosen.
"""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Sequence

import pyarrow as pa

from lingo_hitl.config import BinariseConfig
from lingo_hitl.judging.pairs import chosen_and_rejected, gap_of, outlier_reason, outliers, pair_row
from lingo_hitl.records import PAIRS, Row, dropped, to_table
from lingo_hitl.stages import Outcome, stage

OTHER_TASK = "no preference row"
NO_RATING = "fewer than two rated texts"


@stage("binarise", needs="judge")
def binarise(rows: pa.Table, config: BinariseConfig) -> Outcome:
    """Turn judged preference rows into `records.PAIRS`; rows that make no pair are dropped with the reason.

    A text's rating is the ensemble's, which is the mean of the aspects (`by: mean`), or the mean over
    judges of one aspect, such as `by: overall-rating`. A tie is a reason of its own, so that the report
    tells how many there were.
    """
    pairs: list[Row] = []
    origins: list[Row] = []
    bad: list[Row] = []
    too_close = f"ratings of chosen and rejected differ by less than {config.margin:g}"
    for row in rows.to_pylist():
        ratings = ratings_by(row, config.by)
        texts = {n: t for n, t in enumerate(row["completions"] or []) if t.strip() and ratings[n] is not None}
        if row["task"] != "preference" or len(texts) < 2:
            bad.append(dropped(row, OTHER_TASK if row["task"] != "preference" else NO_RATING))
            continue
        merit = dict(enumerate((rating or 0.0,) for rating in ratings)).__getitem__
        found = chosen_and_rejected(texts, merit, ratings, config, row_id=row["id"], too_close=too_close)
        if isinstance(found, str):
            bad.append(dropped(row, found))
        else:
            pairs.append(pair_row(row, ratings, *found))
            origins.append(row)
    far = outliers([gap_of(pair) for pair in pairs], config.max_gap_deviation)
    reason = outlier_reason(config.max_gap_deviation)
    bad += [dropped(row, reason) for row, out in zip(origins, far, strict=True) if out]
    kept = [pair for pair, out in zip(pairs, far, strict=True) if not out]
    gaps = [gap for pair in kept if (gap := gap_of(pair)) is not None]
    report = {
        "mean gap": round(statistics.fmean(gaps), 3) if gaps else None,
        "chosen by model": dict(Counter(pair["chosen_model"] for pair in kept).most_common()),
    }
    return Outcome(to_table(kept, PAIRS), bad, report)


def ratings_by(row: Row, by: str) -> list[float | None]:
    """One rating for each judged text of a row with `records.JUDGED`: the ensemble's, or that of one aspect."""
    if by == "mean":
        return list(row["ratings"])
    heard = [judgement["ratings"] for judgement in row["judgements"] or [] if judgement["aspect"] == by]
    return [_mean([ratings[n] for ratings in heard]) for n in range(len(row["ratings"]))]


def as_lines(pairs: pa.Table) -> str:
    """Pairs as JSON Lines, which TRL's DPOTrainer takes through `datasets`."""
    return "".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs.to_pylist())


def _mean(values: Sequence[float | None]) -> float | None:
    given = [value for value in values if value is not None]
    return sum(given) / len(given) if given else None
