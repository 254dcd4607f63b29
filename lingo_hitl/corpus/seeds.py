"""Seed rows from whatever file they lie in: one schema, one identity, bad rows aside with their reason.

Texts are brought to Unicode NFC and stripped at both ends. Where a file has an `input` column beside its
instruction (Alpaca's form), it is the instruction's own material and is set below it.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lingo_hitl.config import Corpus
from lingo_hitl.errors import UserError, nearest
from lingo_hitl.corpus.readers import BEYOND, RawRow, local_path, open_corpus
from lingo_hitl.progress import progress
from lingo_hitl.records import CORPUS, Row, content_id, dropped, to_table
from lingo_hitl.stages import Outcome, file_sha256

TEXT_LIMIT = 100_000  # characters
HANGUL_SHARE = 0.2  # of the letters: Korean texts quote English names and code, English ones hardly any Hangul
HEAD = 100  # rows that are looked at to learn which columns there are

INSTRUCTION_NAMES = ("instruction", "question", "prompt", "q")
OUTPUT_NAMES = ("output", "answer", "response", "a")
_HANGUL = re.compile(r"[\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True)
class Columns:
    """Which column of a file holds what."""

    instruction: str
    output: str | None
    input: str | None
    id: str | None
    language: str | None


def source_name(corpus: Corpus) -> str:
    """How rows of this corpus are called: `source` in the config, else the file's name or the hub id."""
    if corpus.source:
        return corpus.source
    path = local_path(corpus)
    return corpus.path if path is None or corpus.path.startswith("sample:") else path.stem


def read_corpus(corpora: Sequence[Corpus]) -> Outcome:
    """Rows of `records.CORPUS` from all corpora, in order; a row met twice is kept once.

    Dropped with a reason: no instruction, a text that is not a string, longer than 100,000 characters,
    or holding NUL or half a surrogate pair; and duplicates of (instruction, output).

    Raises:
        UserError: a file that is missing, of an unknown kind, broken, empty, or lacks a column; or of
            which no row is left. Nothing is written before all files were read.
    """
    rows: list[Row] = []
    bad: list[Row] = []
    seen: set[str] = set()
    report: dict[str, int] = {}
    for corpus in corpora:
        good_before, bad_before = len(rows), len(bad)
        for row, fault in _rows_of(corpus):
            if fault or row["id"] in seen:
                bad.append(dropped(row, fault or "the same row came before"))
            else:
                seen.add(row["id"])
                rows.append(row)
        if len(rows) == good_before:
            reasons = Counter(row["reason"] for row in bad[bad_before:]).most_common(1)
            why = f" (most often: {reasons[0][0]})" if reasons else ""
            raise UserError(f"{corpus.path}: none of its {len(bad) - bad_before} rows can be used{why}.")
        name = source_name(corpus)
        report[name] = report.get(name, 0) + len(rows) - good_before
    return Outcome(to_table(rows, CORPUS), bad, {"rows by source": report})


def corpus_hashes(corpora: Sequence[Corpus]) -> dict[str, str]:
    """SHA-256 of each corpus by its path: of the file, or of all files of a folder; a hub id stands for itself.

    Raises:
        UserError: no such file or folder.
    """
    hashes = {}
    for corpus in corpora:
        path = local_path(corpus)
        hashes[corpus.path] = corpus.path if path is None else _sha256(path)
    return hashes


def language_of(text: str) -> str:
    """ "ko" where at least a fifth of the letters are Hangul, else "en"."""
    letters = sum(character.isalpha() for character in text)
    return "ko" if letters and len(_HANGUL.findall(text)) >= HANGUL_SHARE * letters else "en"


def _rows_of(corpus: Corpus) -> Iterator[tuple[Row, str | None]]:
    """Each row of a corpus, with the reason for which it cannot be used or None."""
    reading = open_corpus(corpus)
    rows: Iterable[RawRow] = reading.rows
    if corpus.limit is not None:
        rows = itertools.islice(rows, corpus.limit)
    rows = iter(rows)
    head = list(itertools.islice(rows, HEAD))
    if not head:
        raise UserError(f"{corpus.path}: has no rows. Expected rows with an instruction each.")
    columns = _columns(corpus, head)
    source = source_name(corpus)
    with progress(f"reading {source}", min(reading.total, corpus.limit or reading.total)) as advance:
        for position, raw in enumerate(itertools.chain(head, rows), start=1):
            yield _row(raw, columns, corpus, source, position)
            advance()


def _columns(corpus: Corpus, head: Sequence[RawRow]) -> Columns:
    found = list(dict.fromkeys(str(key) for row in head for key in row if key != BEYOND))
    for name, column in corpus.columns.items():
        if column not in found:
            raise UserError(
                f"{corpus.path}: has no column '{column}' (corpus.columns.{name}).{nearest(column, found)} "
                f"Columns found: {', '.join(found)}."
            )
    instruction = corpus.columns.get("instruction") or _known(found, INSTRUCTION_NAMES)
    if instruction is None:
        raise UserError(
            f"{corpus.path}: no column holds the instruction; expected one of {', '.join(INSTRUCTION_NAMES)}. "
            f"Columns found: {', '.join(found)}. Say which it is in corpus.columns.instruction."
        )
    return Columns(
        instruction=instruction,
        output=corpus.columns.get("output") or _known(found, OUTPUT_NAMES),
        input=_known(found, ("input",)) if "instruction" not in corpus.columns else None,
        id=corpus.columns.get("id"),
        language=corpus.columns.get("language"),
    )


def _known(found: Sequence[str], names: Sequence[str]) -> str | None:
    by_lower = {column.lower().strip(): column for column in reversed(found)}
    return next((by_lower[name] for name in names if name in by_lower), None)


def _row(raw: RawRow, columns: Columns, corpus: Corpus, source: str, position: int) -> tuple[Row, str | None]:
    values = {
        "instruction": raw.get(columns.instruction),
        "output": raw.get(columns.output) if columns.output else None,
        "input": raw.get(columns.input) if columns.input else None,
    }
    row_id = raw.get(columns.id) if columns.id else None
    name = str(position if row_id in (None, "") else row_id)
    row = {"source": source, "source_id": name.encode("utf-8", "replace").decode()}
    reason = "it has more cells than the header" if BEYOND in raw else None
    reason = reason or next((fault for name, value in values.items() if (fault := _fault(name, value))), None)
    if reason is None and not (values["instruction"] or "").strip():
        reason = "the instruction is empty"
    if reason:
        texts = {name: value if isinstance(value, str | None) else str(value) for name, value in values.items()}
        return {"id": content_id("corpus", texts), **row, **texts}, reason
    material = [_clean(values[name] or "") for name in ("instruction", "input")]
    instruction, output = "\n\n".join(filter(None, material)), _clean(values["output"] or "")
    row |= {"instruction": instruction, "output": output}
    row["language"] = _language(raw.get(columns.language) if columns.language else None, corpus, row)
    return {"id": content_id("corpus", {"instruction": instruction, "output": output}), **row}, None


def _fault(name: str, value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        return f"the {name} is not a text"
    if len(value) > TEXT_LIMIT:
        return f"the {name} is longer than {TEXT_LIMIT:,} characters"
    if "\0" in value or _SURROGATE.search(value):
        return f"the {name} holds characters that are no text (NUL or half a surrogate pair)"
    return None


def _clean(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip()


def _language(value: Any, corpus: Corpus, row: Row) -> str:
    if corpus.language != "auto":
        return corpus.language
    named = str(value or "").lower()[:2]
    return named if named in ("ko", "en") else language_of(f"{row['instruction']}\n{row['output']}")


def _sha256(path: Path) -> str:
    if path.is_file():
        return file_sha256(path)
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        # load_from_disk leaves cache-*.arrow beside the data: using a data set is not changing it.
        if file.is_file() and not file.name.startswith("cache-"):
            digest.update(f"{file.relative_to(path)}\0{file_sha256(file)}\n".encode())
    return digest.hexdigest()
