"""Every completion is on disk before it is used; a rerun replays it instead of asking again.

One SQLite file. The key of a completion is a BLAKE2b over what was asked: model, messages, sampling
parameters and the index of the sample, never an API key. After kill -9 at any moment a rerun pays only
for what was in flight.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lingo_hitl.errors import UserError

Message = Mapping[str, str]
"""`role` ("system", "user" or "assistant") and `content`."""

_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS completions (
    key BLOB PRIMARY KEY,
    model TEXT NOT NULL,
    text TEXT,
    finish TEXT NOT NULL,
    note TEXT,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    seconds REAL NOT NULL,
    at TEXT NOT NULL
) WITHOUT ROWID
"""


@dataclass(frozen=True)
class Completion:
    """What a model said, or why it said nothing.

    `finish` is "stop" or "length" (cut at max_new_tokens) where there is a text; where `text` is None it
    is the reason in words. `lasting` is False for a reason that another try may not meet, such as a
    server error: those are not kept in the journal.
    """

    text: str | None
    finish: str = "stop"
    note: str | None = None  # e.g. that the prompt was cut to fit
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    lasting: bool = True

    @classmethod
    def failed(cls, reason: str, *, lasting: bool = False, seconds: float = 0.0) -> Completion:
        return cls(None, reason, seconds=seconds, lasting=lasting)


@dataclass(frozen=True)
class Usage:
    """What one model did since the journal was opened; tokens are those of `calls`, not of replays."""

    calls: int = 0
    replayed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


@dataclass
class _Counts:
    lock: threading.RLock = field(default_factory=threading.RLock)
    by_model: dict[str, Usage] = field(default_factory=dict)
    unkept: int = 0


def completion_key(model: str, messages: Sequence[Message], parameters: Mapping[str, Any], sample: int) -> bytes:
    """32 bytes that stand for one question to one model; `sample` numbers the answers to the same question."""
    asked = [model, [[m["role"], m["content"]] for m in messages], dict(parameters), sample]
    text = json.dumps(asked, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=32).digest()


class Journal:
    """The completions of a project, by key. Usable from several threads and several processes.

    Pickled, it carries its path and opens the file again on the other side; an in-memory journal
    arrives there empty.
    """

    def __init__(self, path: Path | None) -> None:
        """Open the journal at `path`, made where absent; None keeps it in memory.

        Raises:
            UserError: the file cannot be written or is not a whole journal.
        """
        self.path = path
        self._counts = _Counts()
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path or ":memory:", timeout=60, check_same_thread=False, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            damage = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if damage != "ok":
                raise sqlite3.DatabaseError(damage.replace("\n", " "))
            found = self._db.execute("PRAGMA user_version").fetchone()[0]
            if found > _VERSION:
                raise UserError(
                    f"{path}: written by a newer lingo-hitl (journal version {found}, known here: {_VERSION}). "
                    "Update lingo-hitl."
                )
            self._db.execute(_SCHEMA)
            self._db.execute(f"PRAGMA user_version={_VERSION}")
        except (sqlite3.Error, OSError) as error:
            raise self._unusable(error) from error

    @classmethod
    def in_memory(cls) -> Journal:
        return cls(None)

    def get(self, key: bytes) -> Completion | None:
        """The completion that was stored under `key`, counted as a replay."""
        with self._counts.lock:
            try:
                row = self._db.execute(
                    "SELECT model, text, finish, note, input_tokens, output_tokens, seconds "
                    "FROM completions WHERE key = ?",
                    (key,),
                ).fetchone()
            except sqlite3.Error as error:
                raise self._unusable(error) from error
            if row is None:
                return None
            before = self._counts.by_model.get(row[0], Usage())
            self._counts.by_model[row[0]] = replace(before, replayed=before.replayed + 1)
        return Completion(*row[1:])

    def put(self, key: bytes, completion: Completion, *, model: str) -> None:
        """Count a completion and, if it is lasting, have it on disk when this returns."""
        with self._counts.lock:
            if completion.lasting:
                row = (
                    key,
                    model,
                    completion.text,
                    completion.finish,
                    completion.note,
                    completion.input_tokens,
                    completion.output_tokens,
                    completion.seconds,
                    datetime.now(UTC).isoformat(timespec="milliseconds"),
                )
                try:
                    self._db.execute("INSERT OR IGNORE INTO completions VALUES (?,?,?,?,?,?,?,?,?)", row)
                except sqlite3.Error as error:
                    raise self._unusable(error) from error
            else:
                self._counts.unkept += 1
            before = self._counts.by_model.get(model, Usage())
            self._counts.by_model[model] = replace(
                before,
                calls=before.calls + 1,
                input_tokens=before.input_tokens + completion.input_tokens,
                output_tokens=before.output_tokens + completion.output_tokens,
            )

    def summary(self) -> dict[str, Usage]:
        """Per model what was asked and what was replayed since this journal was opened."""
        with self._counts.lock:
            return dict(self._counts.by_model)

    @property
    def unkept(self) -> int:
        """Failures since the journal was opened that another run may not meet; it asks those again."""
        return self._counts.unkept

    def __len__(self) -> int:
        with self._counts.lock:
            return int(self._db.execute("SELECT count(*) FROM completions").fetchone()[0])

    def __bool__(self) -> bool:
        return True  # an empty journal is still one: `journal or other` must not lose it

    def close(self) -> None:
        with self._counts.lock:
            self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[type[Journal], tuple[Path | None]]:
        return Journal, (self.path,)

    def _unusable(self, error: Exception) -> UserError:
        if isinstance(error, OSError) or "unable to open" in str(error) or "readonly" in str(error):
            return UserError(f"{self.path}: the journal cannot be written ({error}). Check the folder's permissions.")
        # SQLite knows a full disk (ENOSPC); a quota or a limit on file sizes is an I/O error like any other to it.
        if "full" in str(error) or "locked" in str(error) or "I/O error" in str(error):
            return UserError(
                f"{self.path}: the journal cannot be written ({error}). Is the disk full? Mend that and run again: "
                "the run resumes where it stopped."
            )
        return UserError(
            f"{self.path}: is not a whole journal ({error}). Move it away, and what it held is asked for again; "
            f"or rescue it with `sqlite3 {self.path} .recover`."
        )
