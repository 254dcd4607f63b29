"""What was shown to people and what they said: an append-only log in one SQLite file.

Argilla keeps only the latest answer, forgets the text it was about, and loses a user's answers with
the user. Here nothing is ever changed: an edit appends, a deletion appends a retraction, and each
event carries the hash of the one before it, so that a file that was tampered with can be told.
Consensus and release read about people from here alone.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from lingo_hitl.errors import UserError

Kind = Literal["pushed", "answered", "retracted"]

MIGRATIONS = [
    """
    CREATE TABLE events (
        seq      INTEGER PRIMARY KEY AUTOINCREMENT,
        recorded TEXT NOT NULL,
        kind     TEXT NOT NULL,
        dataset  TEXT NOT NULL,
        row      TEXT NOT NULL,
        person   TEXT NOT NULL,
        body     TEXT NOT NULL,
        hash     TEXT NOT NULL
    );
    CREATE INDEX events_by_place ON events (dataset, kind, row, person, seq);
    CREATE TRIGGER events_are_kept_as_they_are BEFORE UPDATE ON events
        BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
    CREATE TRIGGER events_are_never_removed BEFORE DELETE ON events
        BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
    """
]
"""Each entry takes a ledger of the version before it to its own; a released entry never changes."""


@dataclass(frozen=True)
class Event:
    """Something that happened to one row.

    Attributes:
        dataset: the Argilla dataset's own id, so that a dataset made anew is a new story.
        row: the row's id, which is the hash of the text that was on the screen.
        person: who answered; empty for a push.
        body: for `pushed` {"task", "payload": hash of all that was sent, "suggestions": hash, "shown": the
            suggestions, "fields": the texts, with the first push of a row};
            for `answered` {"response", "user_id", "status", "values", "at", "text", "suggestions"};
            for `retracted` {"response"}.
    """

    kind: Kind
    dataset: str
    row: str
    person: str = ""
    body: dict[str, Any] = field(default_factory=dict)


class Ledger:
    """Opens or creates the ledger at `path`.

    Raises:
        UserError: not a ledger, damaged, not writable, or written by a newer lingo-hitl.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, isolation_level=None, timeout=30)
            self._db.execute("PRAGMA journal_mode=WAL")
            # An answer that sync has reported as kept must survive a power cut as well.
            self._db.execute("PRAGMA synchronous=FULL")
            self._migrate()
        except (sqlite3.Error, OSError) as error:
            raise self._unusable(error) from error

    def _migrate(self) -> None:
        found = self._db.execute("PRAGMA user_version").fetchone()[0]
        if found > len(MIGRATIONS):
            raise UserError(
                f"{self.path}: was written by a newer lingo-hitl (ledger version {found}). Upgrade lingo-hitl."
            )
        for number, script in enumerate(MIGRATIONS[found:], found + 1):
            self._db.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version={number}; COMMIT;")

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except BaseException as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise self._unusable(error) from error
            raise

    def _rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> UserError:
        return UserError(
            f"{self.path}: cannot be used as a ledger ({error}). Check that the file is whole and writable and the "
            "disk not full, or restore it from a backup; it holds people's answers, so do not delete it."
        )

    def append(self, events: Iterable[Event]) -> int:
        """Write `events` in one transaction, all or none; returns how many there were."""
        count = 0
        with self._transaction():
            last = self._db.execute("SELECT hash FROM events ORDER BY seq DESC LIMIT 1").fetchone()
            previous = last[0] if last else ""
            recorded = datetime.now(UTC).isoformat(timespec="milliseconds")
            for event in events:
                body = json.dumps(event.body, ensure_ascii=False, sort_keys=True)
                values = (recorded, event.kind, event.dataset, event.row, event.person, body)
                previous = _link(previous, values)
                self._db.execute(
                    "INSERT INTO events (recorded, kind, dataset, row, person, body, hash) VALUES (?,?,?,?,?,?,?)",
                    (*values, previous),
                )
                count += 1
        return count

    def pushed(self, dataset: str) -> dict[str, dict[str, Any]]:
        """The body of the last push of each row of an Argilla dataset, by row id."""
        found = self._rows(
            "SELECT row, body FROM events WHERE seq IN (SELECT MAX(seq) FROM events "
            "WHERE dataset = ? AND kind = 'pushed' GROUP BY row) ORDER BY seq",
            dataset,
        )
        return {row: json.loads(body) for row, body in found}

    def pushes(self, dataset: str) -> dict[str, list[tuple[datetime, str]]]:
        """For each row of a dataset when suggestions were put before people, and their hash; oldest first."""
        found = self._rows(
            "SELECT row, recorded, json_extract(body, '$.suggestions') FROM events "
            "WHERE dataset = ? AND kind = 'pushed' ORDER BY seq",
            dataset,
        )
        pushes: dict[str, list[tuple[datetime, str]]] = {}
        for row, recorded, suggestions in found:
            pushes.setdefault(row, []).append((datetime.fromisoformat(recorded), suggestions))
        return pushes

    def answers(self, dataset: str | None = None) -> list[Event]:
        """What each person's answer to each row is now, retracted ones left out, in the order written.

        Over all datasets, the latest word of a person on a row counts, in whichever dataset it was said.
        """
        where, values = ("AND dataset = ?", (dataset,)) if dataset else ("", ())
        found = self._rows(
            "SELECT dataset, row, person, kind, body FROM events WHERE seq IN (SELECT MAX(seq) FROM events "
            f"WHERE kind IN ('answered', 'retracted') {where} GROUP BY row, person) ORDER BY seq",
            *values,
        )
        return [
            Event("answered", place, row, person, json.loads(body))
            for place, row, person, kind, body in found
            if kind == "answered"
        ]

    def dataset_of(self, task: str) -> str | None:
        """The id of the Argilla dataset that rows of `task` were last pushed to, or None."""
        found = self._rows(
            "SELECT dataset FROM events WHERE kind = 'pushed' AND json_extract(body, '$.task') = ? "
            "ORDER BY seq DESC LIMIT 1",
            task,
        )
        return found[0][0] if found else None

    def position(self) -> int:
        """The number of the last event; 0 for an empty ledger."""
        return int(self._rows("SELECT COALESCE(MAX(seq), 0) FROM events")[0][0])

    def head(self) -> str:
        """The hash of the last event: it stands for the whole ledger. Empty for an empty one."""
        last = self._rows("SELECT hash FROM events ORDER BY seq DESC LIMIT 1")
        return last[0][0] if last else ""

    def history(self, row: str) -> list[tuple[str, Event]]:
        """Everything that happened to one row, oldest first, each with the time it was recorded."""
        found = self._rows(
            "SELECT recorded, kind, dataset, row, person, body FROM events WHERE row = ? ORDER BY seq", row
        )
        return [(r[0], Event(r[1], r[2], r[3], r[4], json.loads(r[5]))) for r in found]

    def verify(self) -> int | None:
        """The number of the first event whose hash does not follow from those before it; None if all do."""
        previous = ""
        query = "SELECT seq, recorded, kind, dataset, row, person, body, hash FROM events ORDER BY seq"
        try:
            with closing(self._db.execute(query)) as events:
                for seq, *values, kept in events:
                    previous = _link(previous, tuple(values))
                    if previous != kept:
                        return int(seq)
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        return None


def _link(previous: str, values: tuple[Any, ...]) -> str:
    text = json.dumps([previous, *values], ensure_ascii=False)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
