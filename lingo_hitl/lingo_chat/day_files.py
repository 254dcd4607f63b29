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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import IO, Any, Self

DAY = re.compile(r"\d{6}\.jsonl")
Line = dict[str, Any]


class DayFile:
    """A day's file, open for more dialogues; several processes may have it open at once.

    A last line that a killed run or a full disk left half written is cut off: whoever began it writes it again.

    Attributes:
        added: dialogues written since it was opened.
        there: dialogues that were not, since some day's file has them.
    """

    def __init__(self, folder: Path, day: date) -> None:
        """Open the file of a day, called as Lingo_Chat calls it: 240702.jsonl."""
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{day:%y%m%d}.jsonl"
        self.added = self.there = 0
        self._known = {_key(line) for path in _days(folder) if path != self.path for line in _dialogues(path)}
        self._file = self.path.open("a+b")
        self._read = 0  # bytes of the file whose dialogues are known

    def add(self, line: Mapping[str, Any]) -> bool:
        """Append a dialogue, and say whether it was new."""
        with self._locked():
            new = (key := _key(line)) not in self._known
            if new:
                self._known.add(key)
                self._file.write(f"{json.dumps(line, ensure_ascii=False)}\n".encode("utf-8", "replace"))
                self._file.flush()
                self._read = self._file.tell()
        self.added += new
        self.there += not new
        return new

    def count_below(self, score: float) -> int:
        """How many dialogues of the file have a lower score."""
        scores = [line.get("score") for line in _dialogues(self.path)]
        return sum(isinstance(found, int | float) and found < score for found in scores)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.fsync(self._file.fileno())
        self._file.close()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """The file for this process alone, whole, and with the dialogues of others known."""
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            if self._file.seek(0, os.SEEK_END) != self._read:
                _mend_end(self._file)
                self._file.seek(self._read)
                self._known.update(map(_key, _parsed(self._file)))
                self._read = self._file.seek(0, os.SEEK_END)
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)


def _days(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if DAY.fullmatch(path.name))


def _dialogues(path: Path) -> Iterator[Line]:
    with path.open("rb") as file:
        yield from _parsed(file)


def _parsed(lines: IO[bytes]) -> Iterator[Line]:
    """The dialogues among the lines; lines that are none are passed over, they are not ours to judge."""
    for raw in lines:
        try:
            line = json.loads(raw)
            _key(line)
            yield line
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
        file.flush()


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
