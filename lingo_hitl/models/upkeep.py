"""What people do with a journal: look at it, share it, make it smaller.

A shared journal holds completions and their keys, never an API key, and nothing of the runs, requests
and payments of whoever made it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from lingo_hitl.errors import UserError
from lingo_hitl.models.journal import Journal

_COMPLETIONS = "key, model, text, finish, note, input_tokens, output_tokens, seconds, cost, at"
_LAST_RUNS = "SELECT stage, max(number) AS last FROM runs WHERE finished IS NOT NULL GROUP BY stage"
# What later runs, still unfinished, have used is paid for and will be wanted when they go on.
_USED = f"key IN (SELECT key FROM uses LEFT JOIN ({_LAST_RUNS}) USING (stage) WHERE last IS NULL OR run >= last)"
_REASONS = (
    "SELECT finish, count(*) FROM completions WHERE model = ? AND text IS NULL "
    "GROUP BY finish ORDER BY count(*) DESC LIMIT 5"
)


@dataclass(frozen=True)
class ModelStats:
    """What a journal has of one model; tokens, cost and seconds are those of its completions."""

    model: str
    completions: int
    without_text: int
    input_tokens: int
    output_tokens: int
    cost: float | None  # None: no price was known
    mean_seconds: float
    first: str  # when, in UTC
    last: str
    reasons: dict[str, int] = field(default_factory=dict)  # why there is no text


@dataclass(frozen=True)
class JournalStats:
    """What a journal has, what was paid for it, and what no stage's last finished run needed, or one since."""

    path: str
    bytes: int
    models: list[ModelStats]
    spent: dict[str, float]  # by currency; without what came from other journals, with what was pruned
    unused: int | None  # None: no run has finished

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def stats(journal: Journal) -> JournalStats:
    """What is in a journal.

    Raises:
        UserError: it cannot be read.
    """
    found = journal.read(
        "SELECT model, count(*), count(*) - count(text), sum(input_tokens), sum(output_tokens), sum(cost), "
        "avg(seconds), min(at), max(at) FROM completions GROUP BY model ORDER BY count(*) DESC"
    )
    models = [replace(ModelStats(*row), reasons=dict(journal.read(_REASONS, row[:1]))) for row in found]
    unused = None
    if _has_finished_runs(journal):
        unused = journal.read(f"SELECT count(*) FROM completions WHERE NOT {_USED}")[0][0]
    return JournalStats(str(journal.path), _size(journal), models, journal.spent(), unused)


def export(journal: Journal, to: Path, *, models: str = "*") -> int:
    """Copy the completions of models whose names fit `models` (* and ? hold for anything) to a new file; how many.

    Raises:
        UserError: the file is there already, or cannot be written.
    """
    if to.exists():
        raise UserError(f"{to} is there already. Choose another name, or move it away.")
    try:
        with Journal(to) as copy:
            copied = _copied(journal, copy, models)
            copy.shrink()
    except BaseException:
        for path in (to, *(to.with_name(to.name + end) for end in ("-wal", "-shm"))):
            path.unlink(missing_ok=True)
        raise
    return copied


def merge(journal: Journal, other: Path) -> tuple[int, int]:
    """Take over completions from another journal: how many are new, and how many it has.

    Where both have a completion, the one that is here stays.

    Raises:
        UserError: the file is not there, not a whole journal, or of another version.
    """
    if not other.is_file():
        raise UserError(f"{other} is not there. Give a file that `lingo-hitl journal export` wrote.")
    if journal.path is not None and other.samefile(journal.path):
        raise UserError(f"{other} is this journal itself. Give another one.")
    with Journal(other, read_only=True) as theirs:
        return _copied(theirs, journal, "*"), len(theirs)


@dataclass(frozen=True)
class Unwanted:
    """Which completions are to go: those that meet every condition that is given.

    older_than: completed so long ago. models: of models with such a name (* and ? hold for anything).
    failures: without a text. unused: not used by any stage's last finished run, or one since.
    """

    older_than: timedelta | None = None
    models: str | None = None
    failures: bool = False
    unused: bool = False


def prune(journal: Journal, unwanted: Unwanted) -> tuple[int, int]:
    """Remove completions: how many, and by how many bytes the file is smaller. What they cost stays spent.

    Raises:
        UserError: no condition is given; `unused` where no run has finished, so that nobody knows what is used.
    """
    conditions: list[str] = []
    values: list[Any] = []
    if unwanted.older_than is not None:
        conditions.append("at < ?")
        values.append((datetime.now(UTC) - unwanted.older_than).isoformat(timespec="milliseconds"))
    if unwanted.models is not None:
        conditions.append("model GLOB ?")
        values.append(unwanted.models)
    if unwanted.failures:
        conditions.append("text IS NULL")
    if unwanted.unused:
        conditions.append(f"NOT {_USED}")
    if not conditions:
        raise UserError(
            "prune: nothing says which completions are to go. Give one or more of --older-than, --model, "
            "--failures, --unused; together they must all hold."
        )
    if unwanted.unused and not _has_finished_runs(journal):
        raise UserError(
            f"{journal.path}: no run has finished with it, so that nobody can tell what is unused. "
            "Run generate or judge to its end first, or prune by --older-than, --model or --failures."
        )
    before = _size(journal)
    with journal.transaction() as db:
        removed = db.execute(f"DELETE FROM completions WHERE {' AND '.join(conditions)}", values).rowcount
        db.execute("DELETE FROM uses WHERE key NOT IN (SELECT key FROM completions)")
    journal.shrink()
    return removed, before - _size(journal)


def _copied(source: Journal, target: Journal, models: str) -> int:
    """Completions in batches, so that a large journal need not be in memory."""
    new = 0
    after = b""
    while rows := _batch(source, models, after):
        with target.transaction() as db:
            before = db.total_changes
            db.executemany(f"INSERT OR IGNORE INTO completions ({_COMPLETIONS}) VALUES (?,?,?,?,?,?,?,?,?,?)", rows)
            new += db.total_changes - before
        after = rows[-1][0]
    return new


def _batch(source: Journal, models: str, after: bytes) -> Sequence[tuple[Any, ...]]:
    return source.read(
        f"SELECT {_COMPLETIONS} FROM completions WHERE model GLOB ? AND key > ? ORDER BY key LIMIT 1000",
        (models, after),
    )


def _has_finished_runs(journal: Journal) -> bool:
    return bool(journal.read("SELECT count(*) FROM runs WHERE finished IS NOT NULL")[0][0])


def _size(journal: Journal) -> int:
    """Bytes on disk, with what is not yet in its place."""
    if journal.path is None:
        return 0
    files = (journal.path, journal.path.with_name(f"{journal.path.name}-wal"))
    return sum(file.stat().st_size for file in files if file.exists())
