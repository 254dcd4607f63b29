"""From compared completions to pairs: which text is better, by what people said."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from lingo_hitl.records import Row

NO_VERDICT = "no human verdict on two completions"
TIE = "a tie: people found the best and the worst completion equally good"
SAME_TEXT = "chosen and rejected are the same text"
SAME_PAIR = "the same pair comes from another row"


def pair_of(row: Mapping[str, Any], margin: float) -> Row | str:
    """The pair that a row makes, in the form that TRL's trainers take, or the reason why it makes none.

    A human ranking goes before ratings: chosen is the best by (share of people who ranked it best, mean
    human rating), rejected the worst. Where both have ratings, chosen must be rated higher by `margin`
    points or more, so that a majority against the mean makes no pair. Models' ratings never count.

    Args:
        row: a preference row with `records.CONSENSUS`.
    """
    texts: Sequence[str] = [text or "" for text in row["completions"] or []]
    ratings = _filled(row["human_ratings"], len(texts))
    shares = [share or 0.0 for share in _filled(row["preferred"], len(texts))]
    rated = any(rating is not None for rating in ratings)
    ranked = any(shares)
    judged = [
        n
        for n, text in enumerate(texts)
        # Beside rated texts, one without a rating was left out by the people, not found the worst.
        if text.strip() and (ratings[n] is not None or shares[n] > 0 or (ranked and not rated))
    ]
    if len(judged) < 2:
        return NO_VERDICT

    def merit(n: int) -> tuple[float, float]:
        return shares[n], ratings[n] or 0.0

    best, worst = max(judged, key=merit), min(judged, key=merit)
    if merit(best) == merit(worst):
        return TIE
    if plain(texts[best]) == plain(texts[worst]):
        return SAME_TEXT
    both = ratings[best] is not None and ratings[worst] is not None
    # Means of whole ratings are rarely exact in binary: 13/3 and 23/6 are half a point apart.
    if both and ratings[best] - ratings[worst] < margin - 1e-9:
        return f"mean human ratings of chosen and rejected differ by less than {margin:g}"
    models = _filled(row["models"], len(texts))
    return {
        "id": row["id"],
        "language": row["language"],
        "source": row["source"],
        "source_id": row["source_id"],
        "prompt": [{"role": "user", "content": row["instruction"]}],
        "chosen": [{"role": "assistant", "content": texts[best]}],
        "rejected": [{"role": "assistant", "content": texts[worst]}],
        "chosen_rating": ratings[best],
        "rejected_rating": ratings[worst],
        "chosen_model": models[best],
        "rejected_model": models[worst],
    }


def plain(text: str) -> str:
    """A text as it is compared with others: Unicode NFC, without white space at both ends."""
    return unicodedata.normalize("NFC", text).strip()


def _filled(values: Sequence[Any] | None, length: int) -> list[Any]:
    """`values` with nulls up to `length`: a column may be null where nobody answered."""
    return (list(values or []) + [None] * length)[:length]
