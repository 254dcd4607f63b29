"""From approved texts to supervised examples: one conversation each, as TRL's SFTTrainer takes it.

Three kinds of rows give one: instructions, dialogues, and the chosen side of a preference pair. The
last comes only where people rated it at least `CHOSEN_MIN_RATING`: the better of two poor answers is
right to prefer and wrong to imitate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lingo_hitl.records import Row

MIN_RATING = 3.0
"""Mean human rating from which a text is worth imitating: "useful" on the labelers' scale."""

CHOSEN_MIN_RATING = 4.0
"""The same for the chosen side of a pair: "needs a touch" on the labelers' scale."""

LABELER = "labeler"
"""The author of a text that somebody wrote instead of the one shown."""
UNRATED = "nobody rated it"
LOW = f"mean human rating below {MIN_RATING:g}, and nobody wrote a better text"
NO_TEXT = "nothing to learn: an empty text"
NO_ANSWER = "the dialogue does not go user, assistant, ... to an answer"
SAME_EXAMPLE = "the same conversation comes from another row"


def example_of(row: Mapping[str, Any]) -> Row | str:
    """The example that an instruction or dialogue row makes, or the reason why it makes none.

    A labeler's correction takes the place of the output, or of the dialogue's last answer, whatever the
    rating was: it is the text that the labeler would have rated best.
    """
    correction = (row["correction"] or "").strip()
    rating = (row["human_ratings"] or [None])[0]
    if not correction:
        if rating is None:
            return UNRATED
        if rating < MIN_RATING:
            return LOW
    if row["task"] == "dialogue":
        messages = [{"role": m["role"], "content": m["content"]} for m in row["messages"] or []]
        expected = ["user", "assistant"] * (len(messages) // 2)
        if not messages or [m["role"] for m in messages] != expected:
            return NO_ANSWER
        if correction:
            messages[-1]["content"] = correction
    else:
        messages = [
            {"role": "user", "content": row["instruction"] or ""},
            {"role": "assistant", "content": correction or row["output"] or ""},
        ]
    if not all((m["content"] or "").strip() for m in messages):
        return NO_TEXT
    model = (row["models"] or [None])[0]
    if correction:
        # The rating was about the text that the correction replaces.
        author = f"{model} + {LABELER}" if row["task"] == "dialogue" else LABELER
        return _example(row, messages, rating=None, model=author, corrected=True)
    return _example(row, messages, rating=rating, model=model, corrected=False)


def example_of_pair(pair: Mapping[str, Any], row: Mapping[str, Any]) -> Row | None:
    """The chosen side of a released pair as an example, where people rated it high enough."""
    rating = pair["chosen_rating"]
    if rating is None or rating < CHOSEN_MIN_RATING:
        return None
    messages = [*pair["prompt"], *pair["chosen"]]
    return _example(row, messages, rating=rating, model=pair["chosen_model"], corrected=False)


def _example(
    row: Mapping[str, Any], messages: list[Row], *, rating: float | None, model: str | None, corrected: bool
) -> Row:
    return {
        "id": row["id"],
        "language": row["language"],
        "source": row["source"],
        "source_id": row["source_id"],
        "task": row["task"],
        "messages": messages,
        "rating": rating,
        "model": model,
        "corrected": corrected,
    }
