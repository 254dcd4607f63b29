"""Start, recognise and stop the processes of a home.

A process is recorded with its start time and the machine's boot, so that a pid which the system has since given to
another program is never taken for ours, and never killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from argilla_setup.home import read_json, write_private

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class ProcessRecord:
    """A process as it was when it was started."""

    pid: int
    started: str
    boot: str

    @classmethod
    def of(cls, pid: int) -> ProcessRecord | None:
        """The record of a process that runs now; None for one that has ended (a zombie has)."""
        started = _start_time(pid)
        return cls(pid, started, _boot_id()) if started else None

    @classmethod
    def read(cls, path: Path) -> ProcessRecord | None:
        """The recorded process, None where the record is absent or damaged."""
        data = read_json(path)
        try:
            return cls(int(data["pid"]), str(data["started"]), str(data["boot"]))
        except (KeyError, TypeError, ValueError):
            return None

    def write(self, path: Path, **more: Any) -> None:
        import json

        write_private(path, json.dumps({**asdict(self), **more}) + "\n")

    def is_running(self) -> bool:
        ended = _reap(self.pid)
        if ended:
            return False
        now = ProcessRecord.of(self.pid)
        if now is None and ended is False:
            # A child of ours that is a zombie: it ended between these two looks, or threads of it still end. Its exit
            # code would be lost, were it taken for gone before it can be waited for.
            return True
        return now == self

    def how_it_ended(self) -> str:
        """`exit code 1` or `signal 9` for an ended child of this process; `unknown cause` for any other."""
        code = _exit_codes.get(self.pid)
        if code is None:
            return "unknown cause"
        return f"exit code {code}" if code >= 0 else f"signal {-code}"

    def exit_code(self) -> int | None:
        """What an ended child of this process returned, negative for a signal; None for any other process."""
        return _exit_codes.get(self.pid)

    def ask_to_stop(self) -> None:
        """SIGTERM, without waiting."""
        self._signal(signal.SIGTERM)

    def stop(self, *, patience_s: float) -> None:
        """Ask the process to end (SIGTERM), and after `patience_s` seconds end it (SIGKILL)."""
        if not self._signal(signal.SIGTERM):
            return
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            if not self.is_running():
                return
            time.sleep(0.05)
        self._signal(signal.SIGKILL)
        while self.is_running():
            time.sleep(0.05)

    def _signal(self, number: signal.Signals) -> bool:
        if not self.is_running():
            return False
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return False
        return True


def spawn(command: Sequence[str], *, environment: Mapping[str, str], folder: Path, log: Path) -> ProcessRecord:
    """Start a process that outlives this one, its output appended to `log` (0600)."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            start_new_session=True,
            umask=0o077,
        )
    finally:
        os.close(descriptor)
    _exit_codes.pop(process.pid, None)
    record = ProcessRecord.of(process.pid) or ProcessRecord(process.pid, "ended", _boot_id())
    # The process is meant to outlive this interpreter: without this, Popen would warn that nobody waited for it.
    process.returncode = 0
    return record


_exit_codes: dict[int, int] = {}


def _reap(pid: int) -> bool | None:
    """Whether a child of ours has ended, None for any other process; an ended one leaves the process table by this."""
    try:
        ended, status = os.waitpid(pid, os.WNOHANG)
    except OSError:
        return None
    if ended:
        _exit_codes[pid] = os.waitstatus_to_exitcode(status)
    return bool(ended)


def _start_time(pid: int) -> str:
    """A text that differs between two processes which get the same pid; empty for no such process or a zombie."""
    if Path("/proc/self/stat").exists():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return ""
        return "" if fields[0] in "ZX" else fields[19]
    answer = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, started = answer.stdout.strip().partition(" ")
    return "" if state.startswith("Z") else started.strip()


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
