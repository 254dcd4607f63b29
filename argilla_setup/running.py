"""What runs of a home, by the records that its processes left: read by the launcher and by `status`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from argilla_setup import json_client, redis_process
from argilla_setup.home import read_json
from argilla_setup.processes import ProcessRecord

if TYPE_CHECKING:
    from argilla_setup.home import Home

PARTS = ("supervisor", "server", "worker", "redis")
"""In the order in which they are stopped."""


@dataclass(frozen=True)
class Recorded:
    """A process of a home as it was recorded; it may have ended since."""

    name: str
    process: ProcessRecord
    facts: dict[str, Any]

    @classmethod
    def read(cls, home: Home, name: str) -> Recorded | None:
        process = ProcessRecord.read(home.record(name))
        return cls(name, process, read_json(home.record(name))) if process else None

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def url(self) -> str:
        return str(self.facts.get("url"))

    @property
    def restarts(self) -> int:
        return int(self.facts.get("restarts", 0))

    @property
    def uptime_s(self) -> float | None:
        """None where an earlier version did not record the start."""
        since = self.facts.get("since")
        return max(0.0, time.time() - since) if isinstance(since, int | float) else None

    def is_running(self) -> bool:
        return self.process.is_running()


def running(home: Home, name: str) -> Recorded | None:
    """A part that runs now."""
    recorded = Recorded.read(home, name)
    return recorded if recorded and recorded.is_running() else None


def anything(home: Home) -> bool:
    """Whether any part runs: a supervisor alone is about to start the others."""
    return any(running(home, name) for name in PARTS)


def stop(home: Home, *, patience_s: dict[str, float]) -> bool:
    """Stop what is recorded and runs, the supervisor first: it would start the others anew. False where nothing ran."""
    ran = False
    for name in PARTS:
        recorded = running(home, name)
        if recorded:
            ran = True
            recorded.process.stop(patience_s=patience_s[name])
        if name == "redis":
            redis_process.forget_socket(home)
        home.record(name).unlink(missing_ok=True)
    return ran


def ask(url: str, path: str, *, key: str | None = None) -> dict[str, Any] | None:
    """A JSON answer of the server; None where it gives none."""
    try:
        value = json_client.ask(url + path, key=key, patience_s=5)
    except json_client.NoAnswerError:
        return None
    return value if isinstance(value, dict) else None
