"""Jobs that argilla-server 2.8.0 cannot queue because Redis is gone, kept until it is back.

Argilla commits an answer, and only then queues the jobs that tell webhooks of it; so it does with a changed dataset
and the statuses of its records. Without Redis it would answer such a request with an error, after a wait in which it
serves nobody, though all that was asked for had been saved: labelers would answer again, and the job would be lost.
Here the request succeeds, and the job is written to a file and queued when Redis answers again, also after a restart.

Applied to exactly the code that was read; jobs whose caller is told their number (import and export) still fail.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import pickle
import threading
from collections import deque
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from argilla_setup.home import open_private, write_private
from argilla_setup.patches.read_sources import VERSION, differing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

REDIS_PATIENCE_S = 2.0
"""A request waits this long for a Redis that accepts connections and then is silent."""
TRY_EVERY_S = 0.5

_READ = {
    "argilla_server.jobs.webhook_jobs.enqueue_notify_events": "d92eae5436dc2cdc",
    "argilla_server.contexts.datasets.update_dataset": "a3f49fa82943c8e8",
}
"""The functions that queue the jobs, and the hash of each one's source."""

_log = logging.getLogger(__name__)


def apply(version: str, file: Path) -> bool:
    """Keep jobs in `file` from now on, and queue those that an earlier server left there; False for another Argilla."""
    if version != VERSION or differing(_READ):
        _log.error("jobs are not kept while Redis is gone: this argilla-server is not the one that was read")
        return False
    from argilla_server.jobs import dataset_jobs, queues, webhook_jobs

    # Redis' own client waits up to ten seconds between three tries, and the server with it.
    queues.REDIS_CONNECTION.set_retry(Retry(NoBackoff(), 1))
    patience = {"socket_timeout": REDIS_PATIENCE_S, "socket_connect_timeout": REDIS_PATIENCE_S}
    queues.REDIS_CONNECTION.connection_pool.connection_kwargs.update(patience)
    functions = {
        "notify_event": webhook_jobs.notify_event_job,
        "update_records_status": dataset_jobs.update_dataset_records_status_job,
    }
    kept = KeptJobs(file, {name: function.delay for name, function in functions.items()})
    for name, function in functions.items():
        function.delay = _sent_by(kept, name)
    kept.go_on()
    return True


class KeptJobs:
    """Queues jobs in the order in which they came, those that wait for Redis included."""

    def __init__(self, file: Path, queue: dict[str, Callable[..., Any]]) -> None:
        self._file = file
        self._queue = queue
        self._lock = threading.Lock()
        self._waiting: deque[dict[str, str]] = deque()
        self._thread: threading.Thread | None = None

    def send(self, name: str, *arguments: Any) -> Any:
        """Queue a job now, or, where Redis is gone, later. Never raises for Redis, nor for a full disk."""
        # Given here, so that a job which Redis took before it fell silent is not queued under two numbers.
        job_id = str(uuid4())
        if not self._waiting:
            try:
                return self._queue[name](*arguments, job_id=job_id)
            except RedisError as error:
                _log.warning("Redis is gone (%s): jobs are kept until it is back", type(error).__name__)
        arguments_ = base64.b64encode(pickle.dumps(arguments)).decode()
        self._keep({"job": name, "id": job_id, "arguments": arguments_})
        return None

    def go_on(self) -> None:
        """Queue what an earlier process kept."""
        try:
            lines = self._file.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return
        except OSError as error:
            _log.error("%s cannot be read (%s): its jobs are not queued", self._file, error.strerror)
            return
        for line in lines:
            try:
                self._waiting.append(json.loads(line))
            except ValueError:
                _log.error("%s: a line is cut off; its job was not yet acknowledged", self._file)
        with self._lock:
            if len(self._waiting) < len(lines):
                # What is kept next would go on in the line that was cut off.
                self._write_waiting()
            self._watch()

    def _write_waiting(self) -> None:
        try:
            if self._waiting:
                write_private(self._file, "".join(json.dumps(job) + "\n" for job in self._waiting))
            else:
                self._file.unlink(missing_ok=True)
        except OSError as error:
            _log.error("%s cannot be written (%s): what it holds is queued again later", self._file, error.strerror)

    def _keep(self, job: dict[str, str]) -> None:
        with self._lock:
            self._waiting.append(job)
            try:
                with open_private(self._file, "a") as file:
                    file.write(json.dumps(job) + "\n")
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                _log.error("%s cannot be written (%s): a job is kept in memory only", self._file, error.strerror)
            self._watch()

    def _watch(self) -> None:
        if self._thread is None and self._waiting:
            self._thread = threading.Thread(target=self._queue_waiting, name="kept jobs", daemon=True)
            self._thread.start()

    def _queue_waiting(self) -> None:
        """Until none waits. Whoever sends meanwhile lines up behind."""
        pause = threading.Event()
        sent = 0
        while True:
            try:
                self._send_first()
                sent += 1
            except RedisError:
                pause.wait(TRY_EVERY_S)
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    self._write_waiting()
                    break
        _log.warning("Redis is back: %d jobs that were kept are queued", sent)

    def _send_first(self) -> None:
        job = self._waiting[0]
        try:
            arguments = pickle.loads(base64.b64decode(job["arguments"]))
            self._queue[job["job"]](*arguments, job_id=job["id"])
        except RedisError:
            raise
        except Exception as error:
            _log.error("a kept job cannot be read (%s); it is left out", type(error).__name__)
        self._waiting.popleft()


def _sent_by(kept: KeptJobs, name: str) -> Callable[..., Any]:
    return lambda *arguments: kept.send(name, *arguments)
