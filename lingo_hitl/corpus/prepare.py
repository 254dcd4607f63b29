"""Many sources with differing columns, one table: what KoQuality picks from.

Two ways. Balanced: texts in Unicode NFC and stripped, an `input` below its instruction, equal rows once, others left
out on request. Exact: what KoQuality's own prepare_raw_corpus.py does (nayohan/KoQuality at 59bdf7a): the
instruction, a space and the input, stripped; the output as it is; rows with an empty one left out; nothing else.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lingo_hitl.config import Corpus, PrepareConfig
from lingo_hitl.corpus.keeping import Choice, in_languages, turns, without_repeats
from lingo_hitl.corpus.presets import Layout, open_laid_out
from lingo_hitl.corpus.readers import BEYOND, RawRow
from lingo_hitl.corpus.seeds import STRAY_CELLS, clean, row_language, script_of, source_name, with_input
from lingo_hitl.errors import UserError
from lingo_hitl.progress import progress
from lingo_hitl.records import DROPPED, Row, content_id, dropped
from lingo_hitl.stages import Outcome

PREPARED = pa.schema(
    [
        ("id", pa.string()),  # the given one; else of the content, in exact mode the position
        ("source", pa.string()),
        ("instruction", pa.string()),
        ("output", pa.string()),  # "" where the source has questions only
        ("language", pa.string()),  # "ko", "en" or "other"
        ("length", pa.int32()),  # code points of the instruction
        ("quality", pa.float64()),  # a person's or a judge's rating, higher is better; null where none
    ]
)
_PLACED = pa.schema(
    [
        *PREPARED,
        ("content", pa.string()),  # equal where instruction and output are
        ("named", pa.bool_()),  # whether the id was given
        ("corpus", pa.int32()),  # position in `corpora`
        ("position", pa.int64()),  # of the row in its corpus, from 1
    ]
)

EMPTY_INSTRUCTION = "the instruction is empty"
EMPTY_OUTPUT = "the output is empty"

BATCH_ROWS = 10_000
BATCH_CHARACTERS = 30_000_000  # an Arrow string column holds 2 GB at most
_SURROGATE = re.compile(r"[\ud800-\udfff]")

_DEFAULTS = PrepareConfig()


def prepare(corpora: Sequence[Corpus], *, exact: bool = False, config: PrepareConfig = _DEFAULTS) -> Outcome:
    """One table of `PREPARED` from all corpora, in their order.

    Dropped with a reason, in both ways: a text that is not a string or holds half a surrogate pair (which no
    file of UTF-8 can hold), a quality that is no number, an empty instruction, an empty output where the source
    has outputs. Then, unless `exact`: rows in other languages than `config.languages`; all but one of the rows
    with equal texts; with `deduplicate: near` all but one of those whose instructions nearly repeat each other
    (`duplicates.near_duplicate_groups`). The one that stays has the best quality, then the longest output, then
    the smallest id, so that the order of the rows does not matter; the others name it as `duplicate_of`.

    A row keeps the id that `corpus.columns.id` gives it. One without gets a hash of its texts and source, with
    "-2", "-3" behind it where equal rows repeat; in exact mode its position in the whole input, nine digits.

    `report` tells for each source how many rows were read, kept and dropped why, their languages and lengths.

    Raises:
        UserError: a file that is missing, of an unknown kind, broken, empty, or lacks a column; one of which no
            row can be used; an id that comes twice; no row left; a setting that has no place in exact mode.
    """
    if exact:
        _refuse_settings(config)
    table, lost, drops = _merged(corpora, exact)
    if not exact:
        table = _repeats_numbered(table)
    _refuse_repeated_ids(table, corpora)
    for choose in () if exact else (in_languages, without_repeats):
        choice = choose(table, config)
        if choice.keep.all():
            continue
        if not choice.keep.any():
            raise UserError(f"none of the {table.num_rows} rows is left: {choice.reasons[0]}. Check prepare.languages.")
        lost += _left_out(table, choice)
        out = pa.array(~choice.keep)
        drops.update(zip(table["source"].filter(out).to_pylist(), choice.reasons.filter(out).to_pylist(), strict=True))
        table = table.filter(pa.array(choice.keep))
    return Outcome(table.select(PREPARED.names), pa.Table.from_batches(lost, DROPPED), _report(table, drops))


def _merged(corpora: Sequence[Corpus], exact: bool) -> tuple[pa.Table, list[pa.RecordBatch], Counter[tuple[str, str]]]:
    """The usable rows as `_PLACED`, the others as `DROPPED`, and how many of these by source and reason."""
    found: list[pa.RecordBatch] = []
    lost: list[pa.RecordBatch] = []
    drops: Counter[tuple[str, str]] = Counter()
    for number, corpus in enumerate(corpora):
        usable, reasons = 0, Counter[str]()
        before = sum(batch.num_rows for batch in (*found, *lost))
        for rows in _in_batches(_rows_of(corpus, number, exact, before)):
            good = [row for row, reason in rows if reason is None]
            bad = [(row, reason) for row, reason in rows if reason is not None]
            found.append(pa.RecordBatch.from_pylist(good, _PLACED))
            lost.append(pa.RecordBatch.from_pylist([dropped(row, reason) for row, reason in bad], DROPPED))
            drops.update((row["source"], reason) for row, reason in bad)
            reasons.update(reason for _, reason in bad)
            usable += len(good)
        if not usable:
            often = reasons.most_common(1)[0][0]
            raise UserError(f"{corpus.path}: none of its {reasons.total()} rows can be used (most often: {often}).")
    return pa.Table.from_batches(found, _PLACED), lost, drops


def _refuse_settings(config: PrepareConfig) -> None:
    neutral = {"deduplicate": "none", "languages": None, "similarity": config.similarity}
    for name in sorted(config.model_fields_set):
        if getattr(config, name) != neutral[name]:
            raise UserError(
                f"prepare.{name} is {getattr(config, name)!r}, but method exact leaves out empty rows and no others, "
                "as the original does. Remove the setting, or use method balanced."
            )


class _Unusable(ValueError):
    """Why a row cannot go on."""


def _rows_of(corpus: Corpus, number: int, exact: bool, before: int) -> Iterator[tuple[Row, str | None]]:
    """Each row as `_PLACED` and None, or as it was found and why it cannot be used; `before` rows came before it."""
    opened = open_laid_out(corpus)
    name = source_name(corpus)
    group = None if corpus.source else opened.layout.group
    with progress(f"reading {name}", opened.total) as advance:
        for position, raw in enumerate(opened.rows, start=1 + corpus.start):
            place = {"source": (group(raw) if group else None) or name, "position": position}
            own_id = None
            row: Row
            try:
                own_id = _own_id(corpus, raw)
                made_of, reason = _texts(raw, opened.layout, exact), None
                row = {**made_of, "quality": _quality(corpus, raw), "content": content_id("corpus", made_of)}
                row["language"] = row_language(corpus, raw) or script_of("\n".join(made_of.values()))
                row |= {"length": len(row["instruction"]), "named": own_id is not None, "corpus": number}
            except _Unusable as fault:
                row, made_of, reason = {"columns": raw}, {"columns": str(raw)}, str(fault)
            if own_id is None:
                at = f"{before + position:09d}"
                own_id = at if exact else content_id("corpus", {**made_of, "source": place["source"]})
            yield {"id": own_id, **place, **row}, reason
            advance()


def _texts(raw: RawRow, layout: Layout, exact: bool) -> dict[str, str]:
    if BEYOND in raw:
        raise _Unusable(STRAY_CELLS)
    found = {name: _text(name, value) for name, value in vars(layout.texts(raw)).items()}
    if exact:
        instruction, output = f"{found['instruction']} {found['input']}".strip(), found["output"]
    else:
        asked = clean(found["instruction"])
        instruction, output = asked and with_input(asked, found["input"]), clean(found["output"])
    if not instruction:
        raise _Unusable(EMPTY_INSTRUCTION)
    if not output and layout.answers:
        raise _Unusable(EMPTY_OUTPUT)
    return {"instruction": instruction, "output": output}


def _text(name: str, value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _Unusable(f"the {name} is not a text")
    if _SURROGATE.search(value):
        raise _Unusable(f"the {name} holds half a surrogate pair")
    return value


def _own_id(corpus: Corpus, raw: RawRow) -> str | None:
    """The id that the row came with; None where it has none, as where its cell is blank."""
    value = _cell(corpus.columns.get("id"), raw)
    if isinstance(value, list | dict) or _SURROGATE.search(str(value)):
        raise _Unusable("the id is not a text")
    return None if value is None else str(value)


def _quality(corpus: Corpus, raw: RawRow) -> float | None:
    value = _cell(corpus.columns.get("quality"), raw)
    if value is None:
        return None
    try:
        quality = float(value)
    except (TypeError, ValueError, OverflowError):
        quality = math.inf
    if not math.isfinite(quality):
        raise _Unusable("the quality is not a number")
    return quality


def _cell(column: str | None, raw: RawRow) -> Any:
    """The value there; None where it is blank or NaN."""
    value = raw.get(column) if column else None
    blank = (isinstance(value, str) and not value.strip()) or (isinstance(value, float) and math.isnan(value))
    return None if blank else value


def _in_batches(rows: Iterable[tuple[Row, str | None]]) -> Iterator[list[tuple[Row, str | None]]]:
    batch: list[tuple[Row, str | None]] = []
    characters = 0
    for row, reason in rows:
        batch.append((row, reason))
        characters += len(str(row["columns"])) if reason else len(row["instruction"]) + len(row["output"])
        if len(batch) == BATCH_ROWS or characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _repeats_numbered(table: pa.Table) -> pa.Table:
    """Made ids that come again get "-2", "-3", ... behind them."""
    turn = turns(table["id"], table["quality"])
    numbers = pa.array(turn + 1).cast(pa.string())
    again = pa.array((turn > 0) & ~table["named"].to_numpy())
    ids = pc.if_else(again, pc.binary_join_element_wise(table["id"], numbers, "-"), table["id"])
    return table.set_column(0, "id", ids)


def _refuse_repeated_ids(table: pa.Table, corpora: Sequence[Corpus]) -> None:
    if len(pc.unique(table["id"])) == table.num_rows:
        return
    seen: dict[str, int] = {}
    for n, name in enumerate(table["id"].to_pylist()):
        first = seen.setdefault(name, n)
        if first != n:
            here, there = (
                f"{corpora[table['corpus'][m].as_py()].path} row {table['position'][m].as_py()}" for m in (n, first)
            )
            raise UserError(
                f"{here}: its id {name[:80]!r} is also that of {there}. Ids must differ: name another column as "
                "corpus.columns.id (--id-column), or none, so that each row gets an id of its own."
            )


def _left_out(table: pa.Table, choice: Choice) -> Iterator[pa.RecordBatch]:
    """Batches of `DROPPED` for the rows that are not kept."""
    out = ~choice.keep
    ids = table["id"].combine_chunks()
    kept = (ids[n].as_py() if n >= 0 else None for n in choice.instead[out].tolist())
    reasons = (reason.as_py() for reason in choice.reasons.filter(pa.array(out)))
    for batch in table.select(PREPARED.names).filter(pa.array(out)).to_batches(BATCH_ROWS):
        rows = [dropped({**row, "duplicate_of": next(kept)}, next(reasons)) for row in batch.to_pylist()]
        yield pa.RecordBatch.from_pylist(rows, DROPPED)


def _report(table: pa.Table, drops: Counter[tuple[str, str]]) -> dict[str, Any]:
    """By source: rows read, kept, dropped by reason, their languages, and lengths in characters."""
    lengths = table.select(["source", "length"]).group_by("source").aggregate([("length", "list")])
    languages = table.select(["source", "language"]).group_by(["source", "language"]).aggregate([([], "count_all")])
    found = {row["source"]: np.array(row["length_list"]) for row in lengths.to_pylist()}
    reasons_of: dict[str, dict[str, int]] = {}
    for (source, reason), count in drops.most_common():
        reasons_of.setdefault(source, {})[reason] = count
    report: dict[str, Any] = {}
    for source in sorted({*found, *reasons_of}):
        kept, reasons = found.get(source, np.empty(0)), reasons_of.get(source, {})
        report[source] = {"rows": len(kept) + sum(reasons.values()), "kept": len(kept), "dropped": reasons}
        if len(kept):
            report[source]["length"] = {"mean": round(float(kept.mean()), 1), "median": float(np.median(kept))}
            report[source]["languages"] = {}
    bare = table.filter(pc.equal(table["output"], ""))["source"].value_counts().to_pylist()
    for row in bare:
        report[row["values"]]["without output"] = row["counts"]
    for row in sorted(languages.to_pylist(), key=lambda row: -row["count_all"]):
        report[row["source"]]["languages"][row["language"]] = row["count_all"]
    return {"sources": report}
