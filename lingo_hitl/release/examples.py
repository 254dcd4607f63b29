"""What each row gives to a release: a pair, an example, or a reason why neither."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lingo_hitl.config import Pairing
from lingo_hitl.judging.pairs import gap_of, outlier_reason, outliers, plain
from lingo_hitl.records import Row, dropped
from lingo_hitl.release.preference import SAME_PAIR, pair_of
from lingo_hitl.release.trainers import SAME_EXAMPLE, example_of, example_of_pair


@dataclass
class Examples:
    """Rows of the two sets, and the rows that gave nothing, as `records.DROPPED`."""

    pairs: list[Row] = field(default_factory=list)
    conversations: list[Row] = field(default_factory=list)
    dropped: list[Row] = field(default_factory=list)


def examples_of(rows: Sequence[Row], config: Pairing) -> Examples:
    """Turn curated rows into pairs and conversations; nothing is in a set twice.

    A preference row gives a pair or is dropped; its chosen side may be a conversation as well. Any other
    row gives a conversation or is dropped.
    """
    made = Examples()
    seen: set[tuple[str, ...]] = set()

    def is_new(*texts: str) -> bool:
        key = tuple(plain(text) for text in texts)
        fresh = key not in seen
        seen.add(key)
        return fresh

    pairs: list[tuple[Row, Row]] = []
    for row in rows:
        if row["task"] == "preference":
            pair = pair_of(row, config)
            if isinstance(pair, str):
                made.dropped.append(dropped(row, pair))
            elif is_new("pair", *_texts(pair["prompt"]), *_texts(pair["chosen"]), *_texts(pair["rejected"])):
                pairs.append((pair, row))
            else:
                made.dropped.append(dropped(row, SAME_PAIR))
            continue
        example = example_of(row)
        if isinstance(example, str):
            made.dropped.append(dropped(row, example))
        elif is_new("conversation", *_texts(example["messages"])):
            made.conversations.append(example)
        else:
            made.dropped.append(dropped(row, SAME_EXAMPLE))
    far = outliers([gap_of(pair) for pair, _ in pairs], config.max_gap_deviation)
    reason = outlier_reason(config.max_gap_deviation)
    made.dropped += [dropped(row, reason) for (_, row), out in zip(pairs, far, strict=True) if out]
    # Last, so that a text which was validated for itself is not crowded out by the same one in a pair.
    for pair, row in (kept for kept, out in zip(pairs, far, strict=True) if not out):
        made.pairs.append(pair)
        chosen = example_of_pair(pair, row)
        if chosen and is_new("conversation", *_texts(chosen["messages"])):
            made.conversations.append(chosen)
    made.conversations.sort(key=lambda example: example["id"])
    return made


def _texts(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    return [message["content"] for message in messages]
