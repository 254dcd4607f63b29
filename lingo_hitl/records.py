"""What a row is: the Arrow schemas that travel through the stages, and the identity of a row.

A row enters as a question and leaves as a training example. Each stage adds columns and never
rewrites those of an earlier one, so the schemas below are laid one upon the other.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import pyarrow as pa

Task = Literal["dialogue", "preference", "instruction"]
TASKS: tuple[Task, ...] = ("dialogue", "preference", "instruction")

ROWS_AT_ONCE = 256  # that leave a table together

Row = dict[str, Any]
"""One row as Python values; its keys are the columns of the table it came from."""

MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))

CORPUS = pa.schema(
    [
        ("id", pa.string()),  # identity of (instruction, output)
        ("instruction", pa.string()),
        ("output", pa.string()),  # "" where the corpus has questions only
        ("source", pa.string()),  # name of the corpus
        ("source_id", pa.string()),  # the row's own id there, else its position
        ("language", pa.string()),  # "ko" or "en"
        ("url", pa.string()),  # the page that the row was taken from, where the corpus says so; else null
        ("original", pa.string()),  # the output before it was put into a persona's words; null where it was not
    ]
)

GENERATED = pa.schema(
    [
        ("id", pa.string()),  # identity of (task, texts that a labeler sees)
        ("task", pa.string()),  # one of TASKS
        ("parent", pa.string()),  # id of the row that this one replaces, else null
        ("seed", pa.string()),  # id of the corpus row it grew from
        ("source", pa.string()),
        ("source_id", pa.string()),
        ("language", pa.string()),
        ("instruction", pa.string()),  # the prompt; for a dialogue its first question
        ("reference", pa.string()),  # the corpus's own answer, for judges to look at
        ("output", pa.string()),  # instruction: the text to validate; else null
        ("messages", MESSAGES),  # dialogue: user and assistant in turn; else null
        ("completions", pa.list_(pa.string())),  # preference: 2 to 4 texts; else null
        ("models", pa.list_(pa.string())),  # who wrote each text that is judged (see `judged_texts`)
        ("parents", pa.list_(pa.int32())),  # preference: of which completion each is a rewrite; else null
        ("persona", pa.string()),  # dialogue: name of the persona; else null
    ]
)

JUDGEMENT = pa.struct(
    [
        ("judge", pa.string()),
        ("aspect", pa.string()),
        ("ratings", pa.list_(pa.float64())),  # one for each judged text, or for each answer (correctness-by-turn)
        ("spreads", pa.list_(pa.float64())),  # standard deviation of each rating; null where the judge gives none
        ("disagreements", pa.list_(pa.float64())),  # swap: how far the ratings in the two orders lie apart
        ("rationales", pa.list_(pa.string())),
        ("faults", pa.list_(pa.string())),  # why there is no rating
        ("orders", pa.list_(pa.list_(pa.int32()))),  # for each asking: the positions of the texts, as they were shown
        ("calls", pa.int32()),  # completions that were used, those replayed from the journal among them
        ("input_tokens", pa.int64()),
        ("output_tokens", pa.int64()),
        ("cost", pa.float64()),  # in the currency of the price table; null where no price is known
    ]
)
"""What one judge said about the texts of a row under one aspect, and what that cost."""

DIALOGUE_QUALITY = pa.schema(
    [
        ("catchphrase_overuse", pa.float64()),  # all four 0 (good) to 1; null for other tasks; docs/dialogue_quality.md
        ("shrinking", pa.float64()),
        ("copying", pa.float64()),
        ("speech_level_shift", pa.float64()),  # null in English
        ("speech_level", pa.string()),  # at which the answers are: "해요체", "합쇼체", "반말", "해라체"
    ]
)
"""What a dialogue's texts fail in; a part of what the stage `judge` adds."""

JUDGED = pa.schema(
    [
        ("ratings", pa.list_(pa.float64())),  # 1 to 5, one for each judged text; null where none
        ("confidence", pa.list_(pa.float64())),  # 0 to 1, in the same order
        ("rating_spread", pa.list_(pa.float64())),  # 0 to 2, standard deviation within and between judges
        ("disagreement", pa.list_(pa.float64())),  # swap: mean difference between a rating in both orders, 0 to 4
        ("rationales", pa.list_(pa.string())),
        ("turn_ratings", pa.list_(pa.float64())),  # by_turn: one for each answer of a dialogue; else null
        ("judge", pa.string()),  # the judges' names joined by " + "; null where nobody judged
        ("judgements", pa.list_(JUDGEMENT)),
        *DIALOGUE_QUALITY,
    ]
)

PAIRS = pa.schema(
    [
        ("id", pa.string()),  # of the preference row
        ("language", pa.string()),
        ("source", pa.string()),
        ("source_id", pa.string()),
        ("prompt", MESSAGES),
        ("chosen", MESSAGES),
        ("rejected", MESSAGES),
        ("chosen_rating", pa.float64()),
        ("rejected_rating", pa.float64()),
        ("chosen_model", pa.string()),
        ("rejected_model", pa.string()),
    ]
)

MAPPED = pa.schema(
    [
        ("vector", pa.list_(pa.float32())),  # unit length
        ("perplexity", pa.float64()),
        ("x", pa.float32()),  # place on the two-dimensional map
        ("y", pa.float32()),
        ("cluster_id", pa.int32()),  # -1: in no cluster
        ("cluster", pa.string()),  # readable name, e.g. "행성 · 별 · 우주"
    ]
)

CONSENSUS = pa.schema(
    [
        ("answers", pa.int32()),  # people who submitted an answer about these texts
        ("discards", pa.int32()),  # people who discarded the row instead
        ("human_ratings", pa.list_(pa.float64())),  # mean rating of each judged text; null: nobody rated
        ("preferred", pa.list_(pa.float64())),  # preference: share of answers in which each is ranked best
        ("spread", pa.float64()),  # largest difference between two people on the same text
        ("correction", pa.string()),  # a labeler's own better text, else null
        ("labelers", pa.list_(pa.string())),
    ]
)

CURATED = pa.schema(
    [
        ("length", pa.int32()),  # code points of the instruction
        ("len_group", pa.int32()),
        ("sample_cluster", pa.int32()),
    ]
)

DROPPED = pa.schema([("id", pa.string()), ("task", pa.string()), ("reason", pa.string()), ("row", pa.string())])
"""A dropped row: its reason in words, and the whole row as JSON so that nothing is lost."""


def content_id(task: str, texts: Mapping[str, Any]) -> str:
    """Identity of a row: the first 16 hex digits of BLAKE2b over the task and the texts a labeler sees.

    The same content is the same row everywhere. Texts are compared in Unicode NFC, so that a file
    saved on a Mac (NFD) gives the same rows; lone surrogates count as themselves.
    """
    text = json.dumps([task, texts], ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    payload = unicodedata.normalize("NFC", text).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(payload).hexdigest()[:16]


def seen_texts(row: Mapping[str, Any]) -> dict[str, Any]:
    """The texts of a row that a labeler will see, by field name: what its identity is made of."""
    if row["task"] == "dialogue":
        return {"messages": [{"role": m["role"], "content": m["content"]} for m in row["messages"]]}
    if row["task"] == "preference":
        return {"instruction": row["instruction"], "completions": list(row["completions"])}
    return {"instruction": row["instruction"], "output": row["output"] or ""}


def judged_texts(row: Mapping[str, Any]) -> list[str]:
    """The texts that ratings are about, in order: the completions, the output, or the whole dialogue."""
    if row["task"] == "preference":
        return list(row["completions"])
    if row["task"] == "instruction":
        return [row["output"] or ""]
    return ["\n".join(f"{m['role']}: {m['content']}" for m in row["messages"])]


def main_text(row: Mapping[str, Any]) -> str:
    """The text that stands for a row on the map: what it is about, not how well it is answered."""
    if row["task"] == "dialogue":
        return "\n".join(m["content"] for m in row["messages"] if m["role"] == "user")
    return str(row["instruction"])


def identified(row: Row) -> Row:
    """The row with its `id` set from its content."""
    return {**row, "id": content_id(row["task"], seen_texts(row))}


def to_table(rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows as an Arrow table; keys that a row lacks become nulls, keys outside the schema are refused."""
    rows = list(rows)
    strays = {key for row in rows for key in row} - set(schema.names)
    if strays:
        raise ValueError(f"columns {sorted(strays)} are not in the schema {schema.names}")
    return pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema=schema)


def rows_of(table: pa.Table) -> Iterator[Row]:
    """The rows of a table one by one; only some of them are Python values at the same time."""
    for batch in table.to_batches(max_chunksize=ROWS_AT_ONCE):
        yield from batch.to_pylist()


def add_columns(table: pa.Table, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """`table` with the columns of `schema` laid beside it, one of `rows` for each of its rows."""
    if len(rows) != table.num_rows:
        raise ValueError(f"{len(rows)} rows of new columns for a table of {table.num_rows} rows")
    for name in schema.names:
        if name in table.column_names:
            raise ValueError(f"column '{name}' exists already: a stage never rewrites an earlier one's")
        table = table.append_column(schema.field(name), pa.array([r.get(name) for r in rows], schema.field(name).type))
    return table


def dropped(row: Mapping[str, Any], reason: str) -> Row:
    """A row of `DROPPED`; vectors are left out of its JSON, they can be computed again."""
    kept = {key: value for key, value in row.items() if key != "vector"}
    text = json.dumps(kept, ensure_ascii=False, default=str)
    return {
        "id": row.get("id"),
        "task": row.get("task"),
        "reason": reason,
        "row": text.encode("utf-8", "backslashreplace").decode(),  # half a surrogate pair: as JSON escapes it
    }
