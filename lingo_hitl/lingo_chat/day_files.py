"""Dialogues in files by day, `<folder>/<yymmdd>.jsonl`: only ever appended to, and no dialogue twice.

A dialogue is the same where its persona and its messages are. All days of a folder are looked at, so that a run
that goes on tomorrow writes only what is not there yet.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import IO, Any

DAY = re.compile(r"\d{6}\.jsonl")


@dataclass(frozen=True)
class Saved:
    """What became of some dialogues: lines added to `path`, and those that stood in the folder already."""

    path: Path
    added: int
    there: int


def day_file(folder: Path, day: date) -> Path:
    """The file of a day, as Lingo_Chat calls it: 240702.jsonl."""
    return folder / f"{day:%y%m%d}.jsonl"


def save(lines: Iterable[Mapping[str, Any]], path: Path) -> Saved:
    """Append the dialogues that no file of the folder holds; several processes may do so at once.

    A last line that a killed run or a full disk left half written is cut off: it comes again with the rest.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    added = there = 0
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        _mend_end(file)
        known = {key for other in _days(path.parent) for key, _ in _dialogues(other)}
        for line in lines:
            if (key := _key(line)) in known:
                there += 1
                continue
            known.add(key)
            file.write(f"{json.dumps(line, ensure_ascii=False)}\n".encode("utf-8", "replace"))
            added += 1
        file.flush()
        os.fsync(file.fileno())
    return Saved(path, added, there)


def count_below(path: Path, score: float) -> int:
    """How many dialogues of a file have a lower score."""
    scores = [line.get("score") for _, line in _dialogues(path)]
    return sum(isinstance(found, int | float) and found < score for found in scores)


def _days(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if DAY.fullmatch(path.name))


def _dialogues(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """The dialogues of a file with their keys; lines that are none are passed over, they are not ours to judge."""
    with path.open("rb") as file:
        for raw in file:
            try:
                line = json.loads(raw)
                yield _key(line), line
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                continue


def _key(line: Mapping[str, Any]) -> bytes:
    said = [[message["role"], message["content"]] for message in line["messages"]]
    text = json.dumps([line.get("persona"), said], ensure_ascii=False)
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).digest()


def _mend_end(file: IO[bytes]) -> None:
    """Leave the file at the end of a whole line."""
    size = file.seek(0, os.SEEK_END)
    if not size:
        return
    file.seek(size - 1)
    if file.read(1) == b"\n":
        return
    start = _last_line_start(file, size)
    file.seek(start)
    try:
        json.loads(file.read())
    except ValueError:
        file.truncate(start)
    else:
        file.write(b"\n")


def _last_line_start(file: IO[bytes], size: int) -> int:
    block = 1 << 16
    end = size
    while end:
        start = max(0, end - block)
        file.seek(start)
        if (found := file.read(end - start).rfind(b"\n")) >= 0:
            return start + found + 1
        end = start
    return 0
