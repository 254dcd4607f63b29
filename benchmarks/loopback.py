"""A loopback Gemini in a process of its own, and what its log says about who asked how much."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Calls:
    """What one benchmark asked of the loopback: one entry a call, in the order of their arrival."""

    arrived: list[float]  # monotonic seconds
    status: list[int | None]  # None: no whole reply was sent
    fault: list[str | None]

    def __len__(self) -> int:
        return len(self.arrived)

    def accepted(self, start: float = 0.0, stop: float = float("inf")) -> int:
        """Calls that arrived from `start` to before `stop` and that no quota refused."""
        return sum(
            start <= at < stop and not _by_quota(fault) for at, fault in zip(self.arrived, self.fault, strict=True)
        )

    def useful(self, start: float = 0.0, stop: float = float("inf")) -> int:
        """Those of them that were answered as they should be."""
        return sum(
            start <= at < stop and status == 200 and fault is None
            for at, status, fault in zip(self.arrived, self.status, self.fault, strict=True)
        )


@dataclass(frozen=True)
class Loopback:
    url: str
    log: Path
    keys: tuple[str, ...]

    @property
    def environment(self) -> dict[str, str]:
        """With which a process reaches it and nothing else; the names of the keys' variables are `keys`."""
        return {
            **os.environ,
            **{key: f"secret-{key}" for key in self.keys},
            "GEMINI_API_ENDPOINT": self.url,
            "NO_PROXY": "127.0.0.1",
            "PYTHONPATH": str(ROOT),
            "HF_HUB_OFFLINE": "1",
        }


@contextmanager
def loopback(folder: Path, *options: str, keys: int = 1) -> Iterator[Loopback]:
    """A provider with these options of `python -m tests.providers`; its log is whole once the block has ended."""
    log = folder / "calls.jsonl"
    log.unlink(missing_ok=True)
    with subprocess.Popen(
        [sys.executable, "-m", "tests.providers", "--log", str(log), *options],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin and process.stdout
        try:
            url = process.stdout.readline().strip()
            yield Loopback(url, log, tuple(f"KEY{n}_GEMINI_API_KEY" for n in range(1, keys + 1)))
        finally:
            process.stdin.close()


def read_calls(log: Path) -> Calls:
    """The calls in a provider's log."""
    arrived: dict[int, float] = {}
    ends: dict[int, tuple[int, str | None]] = {}
    with log.open(encoding="utf-8") as lines:
        for line in lines:
            what, number, at, *rest = json.loads(line)
            if what == "arrived":
                arrived[number] = at
            else:
                ends[number] = (rest[0], rest[1])
    ended = [ends.get(number, (None, None)) for number in arrived]
    return Calls(list(arrived.values()), [status for status, _ in ended], [fault for _, fault in ended])


def _by_quota(fault: str | None) -> bool:
    return fault is not None and fault.startswith("Generate")
