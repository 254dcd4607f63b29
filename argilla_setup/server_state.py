"""What the launcher tells its callers: a server, its status, its accounts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from argilla_setup.redis_process import Jobs


@dataclass(frozen=True)
class Account:
    """One person's sign-in. Its repr holds no secret."""

    username: str
    role: str
    password: str
    api_key: str
    workspaces: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Account(username={self.username!r}, role={self.role!r})"


@dataclass(frozen=True)
class Credentials:
    """Where the server of a home answers, and the accounts that `up` made there, by user name."""

    url: str
    accounts: dict[str, Account]


@dataclass(frozen=True)
class Server:
    """A server that answers."""

    url: str
    home: Path
    pid: int
    redis_pid: int
    credentials_path: Path
    log_path: Path
    started_now: bool
    """False where it was running already."""


@dataclass(frozen=True)
class Part:
    """The supervisor, the server, the worker or Redis."""

    name: str
    pid: int | None
    """None while it does not run."""
    uptime_s: float | None = None
    restarts: int = 0
    """How often the supervisor has started it anew since `up`."""
    last_end: str | None = None
    """How it ended last, such as `signal 9`."""
    ended_at: str | None = None
    """When, ISO 8601 in UTC."""


@dataclass(frozen=True)
class Index:
    """The search index, seen from outside: compared with Argilla's tables by counting."""

    state: str
    """`whole`, `behind`, `damaged` or `absent`."""
    documents: int = 0
    to_go: int = 0
    """Records that no search finds yet; the server, once it runs, indexes them by itself."""
    fault: str | None = None


@dataclass(frozen=True)
class Backup:
    """The last snapshot of a home."""

    at: str
    """ISO 8601, in UTC."""
    path: str
    verified: bool
    age_s: float


@dataclass(frozen=True)
class Counts:
    """What Argilla's tables hold. An answer is a submitted response."""

    users: int
    datasets: int
    records: int
    answers: int
    answers_today: int
    """Submitted since midnight, local time."""


@dataclass(frozen=True)
class Status:
    """What a home holds and what runs of it."""

    running: bool
    """Whether the server answers."""
    home: Path
    url: str | None = None
    pid: int | None = None
    redis_pid: int | None = None
    version: str | None = None
    """Of Argilla."""
    uptime_s: float | None = None
    users: int | None = None
    datasets: int | None = None
    records: int | None = None
    answers: int | None = None
    answers_today: int | None = None
    index: Index | None = None
    parts: tuple[Part, ...] = ()
    jobs: Jobs | None = None
    """None while Redis does not answer."""
    unsent_jobs: int = 0
    """Jobs that wait for Redis to come back."""
    last_backup: Backup | None = None
    database_bytes: int = 0
    index_bytes: int = 0
    logs_bytes: int = 0
    free_bytes: int | None = None
    credentials_path: Path | None = None
    log_path: Path | None = None
    problems: tuple[str, ...] = ()
    """One line for each thing that somebody should know, the worst first."""

    @property
    def problem(self) -> str | None:
        """The worst."""
        return self.problems[0] if self.problems else None
