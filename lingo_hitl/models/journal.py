"""Every completion is on disk before it is used; a rerun replays it instead of asking again.

One SQLite file. The key of a completion is a BLAKE2b over what was asked: model, messages, sampling
parameters and the index of the sample, never an API key. After kill -9 at any moment a rerun pays only
for what was in flight.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lingo_hitl.errors import UserError
from lingo_hitl.models.completion import Completion
from lingo_hitl.models.journal_file import opened, unusable
from lingo_hitl.models.loop import Batcher

_MARKS = 1000  # replays whose marks are written together
_COLUMNS = "text, finish, note, input_tokens, output_tokens, seconds, cost"


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


class Journal:
    """The completions of a project, by key. Usable from several threads and several processes.

    Pickled, it carries its path and opens the file again on the other side; an in-memory journal
    arrives there empty.

    Attributes:
        run: whose uses are marked; see `begin`.
    """

    def __init__(self, path: Path | None, *, read_only: bool = False) -> None:
        """Open the journal at `path`, made where absent; None keeps it in memory.

        Args:
            read_only: leave the file as it is; whatever would change it raises.

        Raises:
            UserError: the file cannot be written or is not a whole journal.
        """
        self.path = path
        self.run: Run | None = None
        self._lock = threading.RLock()  # of the connections; held while a write waits for the disk
        self._reading = threading.Lock()  # two questions at once on one connection would see the older state of both
        self._counting = threading.Lock()  # of the next two, which must wait for nothing
        self._requests: Counter[tuple[str, str, int]] = Counter()  # counted, not yet on disk
        self._used: list[bytes] = []  # replayed, not yet marked on disk
        self._spent_here: Counter[str] = Counter()  # on disk, by currency
        self._writer: Batcher[Entry, None] | None = None
        try:
            self._db, self._reader = opened(path, read_only=read_only)
        except (sqlite3.Error, OSError) as error:
            raise unusable(self.path, error) from error

    @classmethod
    def in_memory(cls) -> Journal:
        return cls(None)

    def get(self, key: bytes) -> Completion | None:
        """The completion that was stored under `key`."""
        rows = self.read(f"SELECT {_COLUMNS} FROM completions WHERE key = ?", (key,))
        return Completion(*rows[0]) if rows else None

    def read(self, question: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows that answer a question in SQL.

        Raises:
            UserError: the file cannot be read.
        """
        try:
            with self._lock if self._reader is self._db else self._reading:
                return self._reader.execute(question, values).fetchall()
        except sqlite3.Error as error:
            raise unusable(self.path, error) from error

    def put(self, entries: Sequence[Entry]) -> list[None]:
        """Have lasting completions, what they cost, and the requests counted so far on disk when this returns."""
        lasting = [entry for entry in entries if entry.completion.lasting]
        with self._lock:
            with self._counting:
                requests, self._requests = self._requests, Counter()
                used, self._used = self._used, []
            try:
                self._write(lasting, requests, used)
            except BaseException:
                with self._counting:
                    self._requests.update(requests)
                    self._used += used
                raise
            for entry in lasting:
                self._spent_here[entry.currency] += entry.completion.cost or 0.0  # type: ignore[assignment]  # floats
        return [None] * len(entries)

    async def keep(self, entry: Entry) -> None:
        """The same for one completion, on the models' event loop: those that come at once share one write."""
        if self._writer is None:
            self._writer = Batcher(self.put, most=1000)
        await self._writer(entry)

    def count_request(self, variable: str, model: str, period: int) -> None:
        """Remember that a key was used; on disk with the next completion."""
        with self._counting:
            self._requests[variable, model, period] += 1

    def requests_since(self, variable: str, model: str, *, since: int) -> dict[int, int]:
        """How often a key was used in each period (see `keys.PERIOD_S`) from `since` on, by all processes."""
        with self._lock:  # what is on its way to the disk is in neither place
            asked = "SELECT period, count FROM requests WHERE variable = ? AND model = ? AND period >= ?"
            return dict(Counter(dict(self.read(asked, (variable, model, since)))) + self._uncounted(variable, model))

    def means(self) -> dict[str, Means]:
        """What a completion with a text took and had in the mean, by model."""
        rows = self.read(
            "SELECT model, count(*), avg(input_tokens), avg(output_tokens), avg(seconds) FROM completions "
            "WHERE text IS NOT NULL GROUP BY model"
        )
        return {model: Means(*means) for model, *means in rows}

    def spent(self) -> dict[str, float]:
        """What was paid for completions, by currency.

        Completions that were taken over from another journal are not among it; those that were pruned are.
        """
        sums = self.read("SELECT currency, total(cost) FROM spending GROUP BY currency")
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
        """The run has everything that it needs; what only earlier runs of its stage used can be pruned."""
        assert self.run is not None, "begin() comes first"
        self.put([])
        with self.transaction() as db:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            db.execute("UPDATE runs SET finished = ? WHERE number = ?", (now, self.run.number))
            db.execute("DELETE FROM uses WHERE stage = ? AND run < ?", (self.run.stage, self.run.number))

    def mark_used(self, key: bytes) -> None:
        """Remember that a run used a completion; on disk soon, and when the run finishes at the latest."""
        if self.run is None:
            return
        with self._counting:
            self._used.append(key)
            many = len(self._used) % _MARKS == 0
        if many:
            # Whoever marks is the models' event loop, and must not wait for the disk.
            threading.Thread(target=self._write_counts, name="marks").start()

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
                raise unusable(self.path, error) from error
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
                raise unusable(self.path, error) from error

    def __len__(self) -> int:
        return int(self.read("SELECT count(*) FROM completions")[0][0])

    def __bool__(self) -> bool:
        return True  # an empty journal is still one: `journal or other` must not lose it

    def close(self) -> None:
        """Write down what is counted, and close the file."""
        with self._lock:
            if self._requests or self._used:
                self._write_counts()
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

    def _uncounted(self, variable: str, model: str) -> Counter[int]:
        """Requests that are not on disk yet, by period."""
        with self._counting:
            return Counter({period: n for (v, m, period), n in self._requests.items() if (v, m) == (variable, model)})

    def _write_counts(self) -> None:
        with suppress(UserError):  # counts and marks: not worth hiding another fault for
            self.put([])

    def _write(
        self, lasting: Sequence[Entry], requests: Mapping[tuple[str, str, int], int], used: Sequence[bytes]
    ) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        rows = [
            (e.key, e.model, c.text, c.finish, c.note, c.input_tokens, c.output_tokens, c.seconds, c.cost, now)
            for e in lasting
            if (c := e.completion)
        ]
        paid = [
            (now[:10], e.model, e.currency, c.input_tokens, c.output_tokens, c.cost or 0.0)
            for e in lasting
            if (c := e.completion)
        ]
        with self.transaction() as db:
            db.executemany("INSERT OR IGNORE INTO completions VALUES (?,?,?,?,?,?,?,?,?,?)", rows)
            # Also those that another process was first with: both were paid for.
            db.executemany(
                "INSERT INTO spending VALUES (?,?,?,1,?,?,?) ON CONFLICT DO UPDATE SET calls = calls + 1, "
                "input_tokens = input_tokens + excluded.input_tokens, "
                "output_tokens = output_tokens + excluded.output_tokens, cost = cost + excluded.cost",
                paid,
            )
            db.executemany(
                "INSERT INTO requests VALUES (?,?,?,?) ON CONFLICT DO UPDATE SET count = count + excluded.count",
                [(*name, count) for name, count in requests.items()],
            )
            if self.run is not None:
                marks = [(key, self.run.stage, self.run.number) for key in [*used, *(e.key for e in lasting)]]
                db.executemany("INSERT OR IGNORE INTO uses VALUES (?,?,?)", marks)
