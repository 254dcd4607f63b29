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
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lingo_hitl.errors import UserError
from lingo_hitl.models.loop import Batcher

Message = Mapping[str, str]
"""`role` ("system", "user" or "assistant") and `content`."""

_VERSION = 2
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
    cost REAL,
    at TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS requests (
    variable TEXT, model TEXT, hour INTEGER, count INTEGER NOT NULL, PRIMARY KEY (variable, model, hour)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spending (
    day TEXT, model TEXT, currency TEXT,
    calls INTEGER NOT NULL, input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, cost REAL NOT NULL,
    PRIMARY KEY (day, model, currency)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS runs (
    number INTEGER PRIMARY KEY, stage TEXT NOT NULL, started TEXT NOT NULL, finished TEXT
) STRICT;
CREATE TABLE IF NOT EXISTS uses (
    key BLOB, stage TEXT, run INTEGER NOT NULL, PRIMARY KEY (key, stage)
) STRICT, WITHOUT ROWID;
"""
_MARKS = 1000  # replays whose marks are written together
_COLUMNS = "text, finish, note, input_tokens, output_tokens, seconds, cost"


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
    cost: float | None = None  # in the currency of the price table; None: no price is known
    lasting: bool = True

    @classmethod
    def failed(cls, reason: str, *, lasting: bool = False, seconds: float = 0.0) -> Completion:
        return cls(None, reason, seconds=seconds, lasting=lasting)


@dataclass(frozen=True)
class Entry:
    """A completion on its way to the disk."""

    key: bytes
    model: str
    completion: Completion
    currency: str = ""  # of the completion's cost


@dataclass(frozen=True)
class Run:
    """One run of a stage: what it uses of the journal is marked with its number."""

    number: int
    stage: str


@dataclass(frozen=True)
class Means:
    """Means over `replies` completions of a model."""

    replies: int
    input_tokens: float
    output_tokens: float
    seconds: float


def completion_key(model: str, messages: Sequence[Message], parameters: Mapping[str, Any], sample: int) -> bytes:
    """32 bytes that stand for one question to one model; `sample` numbers the answers to the same question."""
    asked = [model, [[m["role"], m["content"]] for m in messages], dict(parameters), sample]
    text = json.dumps(asked, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=32).digest()


class Journal:
    """The completions of a project, by key. Usable from several threads and several processes.

    Pickled, it carries its path and opens the file again on the other side; an in-memory journal
    arrives there empty.

    Attributes:
        run: whose uses are marked; see `begin`.
    """

    def __init__(self, path: Path | None) -> None:
        """Open the journal at `path`, made where absent; None keeps it in memory.

        Raises:
            UserError: the file cannot be written or is not a whole journal.
        """
        self.path = path
        self.run: Run | None = None
        self._lock = threading.RLock()
        self._requests: Counter[tuple[str, str, int]] = Counter()  # counted, not yet on disk
        self._used: list[bytes] = []  # replayed, not yet marked on disk
        self._spent_here: Counter[str] = Counter()  # on disk, by currency
        self._writer: Batcher[Entry, None] | None = None
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._db = _connected(path)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            damage = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if damage != "ok":
                raise sqlite3.DatabaseError(damage.replace("\n", " "))
            found = self._db.execute("PRAGMA user_version").fetchone()[0]
            if found not in (0, _VERSION):
                raise UserError(
                    f"{path}: written by another lingo-hitl (journal version {found}, known here: {_VERSION}). "
                    "Use that one, or move the file away."
                )
            self._db.executescript(_SCHEMA)
            self._db.execute(f"PRAGMA user_version={_VERSION}")
            # Reading must not wait for a write that waits for the disk.
            self._reader = self._db if path is None else _connected(path)
        except (sqlite3.Error, OSError) as error:
            raise self._unusable(error) from error

    @classmethod
    def in_memory(cls) -> Journal:
        return cls(None)

    def get(self, key: bytes) -> Completion | None:
        """The completion that was stored under `key`."""
        try:
            with self._lock if self._reader is self._db else nullcontext():
                row = self._reader.execute(f"SELECT {_COLUMNS} FROM completions WHERE key = ?", (key,)).fetchone()
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        return None if row is None else Completion(*row)

    def put(self, entries: Sequence[Entry]) -> list[None]:
        """Have lasting completions, what they cost, and the requests counted so far on disk when this returns."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        lasting = [entry for entry in entries if entry.completion.lasting]
        rows = [
            (e.key, e.model, c.text, c.finish, c.note, c.input_tokens, c.output_tokens, c.seconds, c.cost, now)
            for e in lasting
            if (c := e.completion)
        ]
        with self._lock:
            requests, self._requests = self._requests, Counter()
            used, self._used = self._used, []
            with self.transaction() as db:
                db.executemany("INSERT OR IGNORE INTO completions VALUES (?,?,?,?,?,?,?,?,?,?)", rows)
                # Also those that another process was first with: both were paid for.
                db.executemany(
                    "INSERT INTO spending VALUES (?,?,?,1,?,?,?) ON CONFLICT DO UPDATE SET calls = calls + 1, "
                    "input_tokens = input_tokens + excluded.input_tokens, "
                    "output_tokens = output_tokens + excluded.output_tokens, cost = cost + excluded.cost",
                    [
                        (now[:10], e.model, e.currency, c.input_tokens, c.output_tokens, c.cost or 0.0)
                        for e in lasting
                        if (c := e.completion)
                    ],
                )
                db.executemany(
                    "INSERT INTO requests VALUES (?,?,?,?) ON CONFLICT DO UPDATE SET count = count + excluded.count",
                    [(*name, count) for name, count in requests.items()],
                )
                if self.run is not None:
                    marks = [(key, self.run.stage, self.run.number) for key in [*used, *(e.key for e in lasting)]]
                    db.executemany("INSERT OR REPLACE INTO uses VALUES (?,?,?)", marks)
            for entry in lasting:
                self._spent_here[entry.currency] += entry.completion.cost or 0.0  # type: ignore[assignment]  # floats
        return [None] * len(entries)

    async def keep(self, entry: Entry) -> None:
        """The same for one completion, on the models' event loop: those that come at once share one write."""
        if self._writer is None:
            self._writer = Batcher(self.put, most=1000)
        await self._writer(entry)

    def count_request(self, variable: str, model: str, hour: int) -> None:
        """Remember that a key was used; on disk with the next completion."""
        with self._lock:
            self._requests[variable, model, hour] += 1

    def requests_by_hour(self, variable: str, model: str, *, since: int) -> dict[int, int]:
        """How often a key was used in each hour (since 1970) from `since` on, by all processes."""
        with self._lock:
            asked = "SELECT hour, count FROM requests WHERE variable = ? AND model = ? AND hour >= ?"
            counts = Counter(dict(self._db.execute(asked, (variable, model, since)).fetchall()))
            counts.update({hour: n for (v, m, hour), n in self._requests.items() if (v, m) == (variable, model)})
            return dict(counts)

    def means(self) -> dict[str, Means]:
        """What a completion with a text took and had in the mean, by model."""
        with self._lock:
            try:
                rows = self._db.execute(
                    "SELECT model, count(*), avg(input_tokens), avg(output_tokens), avg(seconds) FROM completions "
                    "WHERE text IS NOT NULL GROUP BY model"
                ).fetchall()
            except sqlite3.Error as error:
                raise self._unusable(error) from error
            return {model: Means(*means) for model, *means in rows}

    def spent(self) -> dict[str, float]:
        """What was paid for completions, by currency.

        Completions that were taken over from another journal are not among it; those that were pruned are.
        """
        with self._lock:
            try:
                sums = self._db.execute("SELECT currency, total(cost) FROM spending GROUP BY currency").fetchall()
            except sqlite3.Error as error:
                raise self._unusable(error) from error
            return {currency: cost for currency, cost in sums if cost}

    def spent_by_others(self, currency: str) -> float:
        """What was paid, but for what this object wrote down."""
        with self._lock:
            return self.spent().get(currency, 0.0) - self.spent_here(currency)

    def spent_here(self, currency: str) -> float:
        """What this object wrote down as paid."""
        return self._spent_here[currency]

    def begin(self, stage: str) -> Run:
        """From now on mark what is used as used by a run of this stage."""
        with self.transaction() as db:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            number = db.execute("INSERT INTO runs (stage, started) VALUES (?, ?)", (stage, now)).lastrowid
        self.run = Run(int(number or 0), stage)
        return self.run

    def finish(self) -> None:
        """The run has everything that it needs; what no stage's last finished run used can be pruned."""
        assert self.run is not None, "begin() comes first"
        self.put([])
        with self.transaction() as db:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            db.execute("UPDATE runs SET finished = ? WHERE number = ?", (now, self.run.number))

    def mark_used(self, key: bytes) -> None:
        """Remember that a run used a completion; on disk soon, and when the run finishes at the latest."""
        if self.run is not None:
            with self._lock:
                self._used.append(key)
                if len(self._used) >= _MARKS:
                    self.put([])

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A connection whose changes are on disk together or not at all.

        Raises:
            UserError: the file cannot be written.
        """
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                raise self._unusable(error) from error
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")

    def shrink(self) -> None:
        """Give room that nothing needs any more back to the disk.

        Raises:
            UserError: another process works with the journal, or there is no room to copy it.
        """
        with self._lock:
            try:
                self._db.execute("VACUUM")
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            except sqlite3.Error as error:
                raise self._unusable(error) from error

    def __len__(self) -> int:
        with self._lock:
            return int(self._db.execute("SELECT count(*) FROM completions").fetchone()[0])

    def __bool__(self) -> bool:
        return True  # an empty journal is still one: `journal or other` must not lose it

    def close(self) -> None:
        """Write down what is counted, and close the file."""
        with self._lock:
            if self._requests or self._used:
                with suppress(UserError):  # counts and marks: not worth hiding another fault for
                    self.put([])
            self._reader.close()
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


def _connected(path: Path | None) -> sqlite3.Connection:
    return sqlite3.connect(path or ":memory:", timeout=60, check_same_thread=False, isolation_level=None)
