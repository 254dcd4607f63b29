"""Seed rows from whatever file they lie in: one schema, one identity, bad rows aside with their reason.

Texts are brought to Unicode NFC and stripped at both ends. Where a file has an `input` column beside its
instruction (Alpaca's form; Dolly calls it `context`), it is the instruction's own material and is set below it.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lingo_hitl.config import Corpus
from lingo_hitl.corpus.presets import PRESETS, Texts, open_laid_out
from lingo_hitl.corpus.readers import BEYOND, RawRow, local_path
from lingo_hitl.errors import UserError
from lingo_hitl.progress import progress
from lingo_hitl.records import CORPUS, Row, content_id, dropped, to_table
from lingo_hitl.stages import Outcome, file_sha256

TEXT_LIMIT = 100_000  # characters
HANGUL_SHARE = 0.2  # of the letters: Korean texts quote English names and code, English ones hardly any Hangul
ASIDE = {"url": "url", "original": "org_output"}
"""Columns of `records.CORPUS` that are no texts of the row, and the columns of files that they come from."""
STRAY_CELLS = "it has more cells than the header"
_HANGUL = re.compile(r"[\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3]")
_LATIN = re.compile(r"[A-Za-z\u00c0-\u024f]")
_ADDRESS = re.compile(r"https?://\S+")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def source_name(corpus: Corpus) -> str:
    """How rows of this corpus are called: `source` in the config, else by its preset, its file's name or the hub id."""
    name = corpus.source or (PRESETS[corpus.preset].source if corpus.preset else None)
    if name:
        return name
    path = local_path(corpus)
    return corpus.path if path is None or corpus.path.startswith("sample:") else path.stem


def read_corpus(corpora: Sequence[Corpus]) -> Outcome:
    """Rows of `records.CORPUS` from all corpora, in order; a row met twice is kept once.

    Dropped with a reason: no instruction, a text that is not a string, longer than 100,000 characters,
    or holding NUL or half a surrogate pair; and duplicates of (instruction, output).

    Of a conversation, its first question and answer (`presets.first_exchange`).

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
    """ "ko" where at least a fifth of the letters are Hangul, else "en". Web addresses are no part of the text."""
    return "ko" if script_of(text) == "ko" else "en"


def script_of(text: str) -> str:
    """As `language_of`, but "other" where less than half of the letters are Hangul or Latin: Japanese, Russian, ...

    Telling Korean from the rest by its letters is right more often on short texts than a language model: on 33,200
    Korean and 10,641 English real ones it erred twice, py3langid 0.4 36 times, and on 54 English ones of fewer than
    20 characters never, py3langid 7 times.
    """
    text = _ADDRESS.sub("", text)
    letters = sum(map(str.isalpha, text))
    hangul = len(_HANGUL.findall(text))
    if letters and hangul >= HANGUL_SHARE * letters:
        return "ko"
    return "en" if 2 * (hangul + len(_LATIN.findall(text))) >= letters else "other"


def row_language(corpus: Corpus, raw: RawRow) -> str | None:
    """The language that the config gives the corpus, or the row itself names; None where neither does."""
    if corpus.language != "auto":
        return corpus.language
    column = corpus.columns.get("language")
    named = str(raw.get(column) or "").lower()[:2] if column else ""
    return named if named in ("ko", "en") else None


def with_input(instruction: str, material: str | None) -> str:
    """The instruction, and below it its own material where it has some; both clean."""
    return "\n\n".join(filter(None, (clean(instruction), clean(material or ""))))


def clean(text: str) -> str:
    """The text in Unicode NFC, without white space at both ends."""
    return unicodedata.normalize("NFC", text).strip()


def _rows_of(corpus: Corpus) -> Iterator[tuple[Row, str | None]]:
    """Each row of a corpus, with the reason for which it cannot be used or None."""
    opened = open_laid_out(corpus)
    source = source_name(corpus)
    with progress(f"reading {source}", opened.total) as advance:
        for position, raw in enumerate(opened.rows, start=1 + corpus.start):
            yield _row(raw, opened.layout.texts(raw), corpus, source, position)
            advance()


def _row(raw: RawRow, texts: Texts, corpus: Corpus, source: str, position: int) -> tuple[Row, str | None]:
    values = {"instruction": texts.instruction, "output": texts.output, "input": texts.input}
    row_id = raw.get(corpus.columns["id"]) if "id" in corpus.columns else None
    name = str(position if row_id in (None, "") else row_id)
    row: Row = {"source": source, "source_id": name.encode("utf-8", "replace").decode()}
    reason = STRAY_CELLS if BEYOND in raw else None
    reason = reason or next((fault for name, value in values.items() if (fault := _fault(name, value))), None)
    if reason is None and not (values["instruction"] or "").strip():
        reason = "the instruction is empty"
    if reason:
        found = {name: value if isinstance(value, str | None) else str(value) for name, value in values.items()}
        return {"id": content_id("corpus", found), **row, **found}, reason
    instruction, output = with_input(texts.instruction, texts.input), clean(texts.output or "")
    row |= {"instruction": instruction, "output": output}
    row["language"] = row_language(corpus, raw) or language_of(f"{instruction}\n{output}")
    row |= {name: _aside(raw, column) for name, column in ASIDE.items()}
    return {"id": content_id("corpus", {"instruction": instruction, "output": output}), **row}, None


def _aside(raw: RawRow, column: str) -> str | None:
    """What a row says beside its texts; None where it says nothing that can be kept."""
    value = raw.get(column)
    return clean(value) or None if isinstance(value, str) and _fault(column, value) is None else None


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


def _sha256(path: Path) -> str:
    if path.is_file():
        return file_sha256(path)
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        # load_from_disk leaves cache-*.arrow beside the data: using a data set is not changing it.
        if file.is_file() and not file.name.startswith("cache-"):
            digest.update(f"{file.relative_to(path)}\0{file_sha256(file)}\n".encode())
    return digest.hexdigest()
