"""Keeps the Redis, the server and the worker of one home alive: `python -m argilla_setup.supervisor`.

Started by the launcher, in the toolkit's environment; standard library only. It starts them in this order, starts one
that has ended anew, and stops them on SIGTERM. Killed itself, it takes none of them along: people go on labelling, and
the next `lingo-hitl up` or `down` finds them by their records.
"""

from __future__ import annotations

import argparse
import datetime
import logging
import os
import select
import signal
import socket
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from argilla_setup import environment, log_files, redis_process
from argilla_setup.addresses import url_of
from argilla_setup.errors import LauncherError
from argilla_setup.home import Home
from argilla_setup.processes import ProcessRecord, spawn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CANNOT_START = 3
"""The exit code of a server that has told its user what to mend: starting it again at once would not help."""
NO_ANSWER = 4
"""The exit code of a server to which Redis or the search engine did not answer: they may be back by then."""
SERVER_PATIENCE_S = 20.0
WORKER_PATIENCE_S = 10.0
REDIS_PATIENCE_S = 5.0
PATIENCE_S = SERVER_PATIENCE_S + WORKER_PATIENCE_S + REDIS_PATIENCE_S + 5.0
"""How long a stop of all may take."""
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
MENDING_PAUSE_S = 2.0
"""After an end whose cause somebody has to mend."""
SOUND_AFTER_S = 20.0
"""What has run this long had started well: if it ends, it is started again at once."""
ROTATE_EVERY_S = 60.0
RECORD_EVERY_S = 5.0
LOOK_EVERY_S = 0.25

_log = logging.getLogger("argilla_setup.supervisor")


@dataclass
class Part:
    """A program that is kept running."""

    name: str
    start: Callable[[], ProcessRecord]
    facts: dict[str, Any] = field(default_factory=dict)
    """Written into its record, for the launcher and for `status`."""
    process: ProcessRecord | None = None
    recorded: bool = False
    began: float = 0.0
    since: float = 0.0
    due: float = 0.0
    failures: int = 0
    restarts: int = -1

    def begin(self, home: Home) -> None:
        """Start it and record it; LauncherError or OSError where it cannot be started."""
        self.began = time.monotonic()
        self.restarts += 1
        self.process = self.start()
        self.since = time.time()
        self.recorded = False
        reason = self.record(home)
        if reason:
            _log.error("%s runs and cannot be recorded (%s); that is tried again", self.name, reason)

    def record(self, home: Home, **more: Any) -> str | None:
        """Write who runs; None, or what kept it from being written, as a full disk does: the process runs all the same.

        Taken for one that could not be started, it would be started once more beside itself.
        """
        if self.process is None:
            return None
        try:
            facts = {"since": self.since, "restarts": self.restarts, **self.facts, **more}
            self.process.write(home.record(self.name), **facts)
        except OSError as error:
            return error.strerror or str(error)
        self.recorded = True
        return None

    def note_end(self, home: Home, how: str, *, at_least: float = 0.0) -> None:
        """It has ended, or could not be started: say so, and when it is started again, after `at_least` seconds."""
        self.record(home, ended=how)
        self.process = None
        self.failures = 0 if time.monotonic() - self.began > SOUND_AFTER_S else self.failures + 1
        pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (self.failures - 2)) if self.failures > 1 else 0.0
        pause = max(pause, at_least)
        self.due = time.monotonic() + pause
        self.facts |= {"last_end": how, "ended_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")}
        _log.warning("%s has ended (%s); it is started again in %.0f s", self.name, how, pause)


class Supervisor:
    """The three programs of a home."""

    def __init__(
        self, home: Home, *, server_environment: Path, host: str, port: int, annotators: Sequence[str]
    ) -> None:
        self.home = home
        self.address = urlsplit(url_of(host, port))
        self.socket = redis_process.choose_socket(home)
        self.stopping = False
        self.served = False
        python = str(environment.python_of(server_environment))
        common = ["--home", str(home.path), "--redis", f"unix://{self.socket}?db=0"]
        server = [python, "-m", "argilla_setup.app", *common, "--host", host, "--port", str(port)]
        for name in annotators:
            server += ["--annotator", name]
        worker = [python, "-m", "argilla_setup.worker", *common, "--alone"]
        address = {"url": url_of(host, port), "host": host, "port": port}
        self.redis = Part(
            "redis",
            lambda: redis_process.start(home, server_environment, self.socket),
            {"socket": str(self.socket)},
        )
        self.server = Part("server", lambda: self._spawn(server, home.start_log), address)
        self.worker = Part("worker", lambda: self._spawn(worker, home.worker_output))

    def keep(self) -> int:
        """Until SIGTERM: 0. CANNOT_START where the server, or Redis, cannot be started at all.

        A server that has served is started again whatever ends it: a disk may be full for a while, and people label.
        """
        wake = self._wake_up()
        rotated = time.monotonic()
        try:
            # Without Redis the server waits a minute and gives up: a cause that stops Redis is told now.
            self.redis.begin(self.home)
            while not self.stopping:
                for part in (self.redis, self.server, self.worker):
                    self._look_after(part)
                if self._gives_up():
                    return CANNOT_START
                if time.monotonic() - rotated > ROTATE_EVERY_S:
                    rotated = time.monotonic()
                    self._rotate_logs()
                if select.select([wake], [], [], self._pause(rotated))[0]:
                    wake.recv(4096)
        finally:
            self._stop_all()
        return 0

    def _look_after(self, part: Part) -> None:
        if part.process and not part.process.is_running():
            part.facts["exit_code"] = part.process.exit_code()
            how = part.process.how_it_ended()
            if part is self.server and part.facts["exit_code"] in (CANNOT_START, NO_ANSWER):
                told = environment.told_error(self.home.start_log)
                how += f": {told.rstrip('.')}" if told else ""
            told_user = part.facts["exit_code"] == CANNOT_START
            part.note_end(self.home, how, at_least=MENDING_PAUSE_S if told_user else 0.0)
            if self._gives_up():
                return
        if part.process and not part.recorded:
            part.record(self.home)
        if part.process or time.monotonic() < part.due or (part is self.worker and not self._serves()):
            return
        try:
            part.begin(self.home)
            _log.info("%s is started as process %d", part.name, part.process.pid if part.process else 0)
        except (LauncherError, OSError) as error:
            part.note_end(self.home, str(error))

    def _gives_up(self) -> bool:
        return not self.served and not self.server.process and self.server.facts.get("exit_code") == CANNOT_START

    def _serves(self) -> bool:
        """Whether the server has been seen to listen: the worker follows it, not to slow it nor to meet old tables."""
        if not self.served and self.server.process:
            try:
                with socket.create_connection((str(self.address.hostname), self.address.port or 0), timeout=1):
                    self.served = True
            except OSError:
                return False
        return self.served

    def _pause(self, rotated: float) -> float:
        """Seconds until there is something to do, where nothing ends and nobody asks."""
        now = time.monotonic()
        waits = [ROTATE_EVERY_S - (now - rotated)]
        waits += [part.due - now for part in (self.redis, self.server) if not part.process]
        if not all(part.recorded for part in (self.redis, self.server, self.worker) if part.process):
            waits.append(RECORD_EVERY_S)
        if not self.worker.process:
            waits.append(self.worker.due - now if self.served else LOOK_EVERY_S)
        return max(0.01, min(waits))

    def _stop_all(self) -> None:
        """Server and worker at once, then Redis, to which they may still write."""
        _log.info("stopping")
        for part in (self.server, self.worker):
            if part.process:
                part.process.ask_to_stop()
        for part, patience in (
            (self.server, SERVER_PATIENCE_S),
            (self.worker, WORKER_PATIENCE_S),
            (self.redis, REDIS_PATIENCE_S),
        ):
            if part.process:
                part.process.stop(patience_s=patience)

    def _spawn(self, command: list[str], log: Path) -> ProcessRecord:
        return spawn(command, environment=dict(os.environ), folder=self.home.run, log=log)

    def _rotate_logs(self) -> None:
        for log in (self.home.start_log, self.home.redis_log, self.home.worker_output):
            log_files.rotate(log)

    def _wake_up(self) -> socket.socket:
        """A socket that can be read when SIGTERM came or a child ended."""
        reading, writing = socket.socketpair()
        reading.setblocking(False)
        writing.setblocking(False)
        signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        # Held here, for a socket that nobody holds is closed.
        self._wakes = (reading, writing)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._ask_to_stop)
        return reading

    def _ask_to_stop(self, *_: object) -> None:
        self.stopping = True


def main(arguments: Sequence[str] | None = None) -> int:
    """Watch until SIGTERM."""
    parser = argparse.ArgumentParser(prog="argilla_setup.supervisor")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--environment", type=Path, required=True, help="the server's Python environment")
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--annotator", action="append", default=[])
    options = parser.parse_args(arguments)
    os.umask(0o077)
    home = Home(options.home)
    logging.basicConfig(handlers=[log_files.rotating_handler(home.supervisor_log)], level=logging.INFO)
    try:
        return Supervisor(
            home,
            server_environment=options.environment,
            host=options.host,
            port=options.port,
            annotators=options.annotator,
        ).keep()
    except LauncherError as error:
        print(f"lingo-hitl: {error}", file=sys.stderr, flush=True)
        return CANNOT_START


if __name__ == "__main__":
    sys.exit(main())
