"""Rows as `sync` leaves them, for the tests of curation and release."""

from __future__ import annotations

import pyarrow as pa

from lingo_hitl.annotation.consensus import preferred_shares
from lingo_hitl.records import CONSENSUS, CURATED, GENERATED, JUDGED, MAPPED, identified, to_table

SYNCED = pa.schema([field for schema in (GENERATED, JUDGED, MAPPED, CONSENSUS) for field in schema])


def pair(prompt, ratings, *, models=None, **more):
    """A preference row that one person answered; `ratings`: text -> rating, or (text, rating) pairs."""
    texts, given = zip(*(ratings.items() if isinstance(ratings, dict) else ratings), strict=True)
    row = {
        "task": "preference",
        "instruction": prompt,
        "completions": list(texts),
        "models": models or [f"model-{n}" for n in range(len(texts))],
        "human_ratings": [None if rating is None else float(rating) for rating in given],
        "preferred": preferred_shares([given], len(texts)),
    }
    return _synced(row, more)


def instruction(prompt, output, *, rating=4, **more):
    row = {"task": "instruction", "instruction": prompt, "output": output, "models": ["reference"]}
    return _synced({**row, "human_ratings": [None if rating is None else float(rating)]}, more)


def conversation(*texts, rating=4, **more):
    """A dialogue; `texts` are the user's and the assistant's in turn."""
    messages = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]
    row = {"task": "dialogue", "instruction": texts[0], "messages": messages, "models": ["talker"], "persona": "p"}
    return _synced({**row, "human_ratings": [None if rating is None else float(rating)]}, more)


def _synced(row, more):
    about = {"seed": f"seed of {row['instruction']}", "source": "corpus", "source_id": "1", "language": "ko"}
    people = {"answers": 2, "spread": 1.0, "labelers": ["kim", "lee"]}
    return identified({**dict.fromkeys(SYNCED.names), **about, **people, **row, **more})


def table(rows, *, curated=False):
    schema = pa.schema([*SYNCED, *CURATED]) if curated else SYNCED
    return to_table(rows, schema)
