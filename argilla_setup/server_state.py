"""What the launcher tells its callers: a server, its status, its accounts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


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
class Status:
    """What a home holds and what runs of it. Counts are None while nothing runs."""

    running: bool
    home: Path
    url: str | None = None
    pid: int | None = None
    redis_pid: int | None = None
    version: str | None = None
    uptime_s: float | None = None
    database_bytes: int = 0
    index_bytes: int = 0
    users: int | None = None
    datasets: int | None = None
    records: int | None = None
    credentials_path: Path | None = None
    log_path: Path | None = None
    problem: str | None = None
    """One line where a part of the server is missing, such as Redis."""
