"""RQ's worker, which forks for each job and keeps the books in Redis, made to lose no job and to log no secret."""

from __future__ import annotations

import ctypes
import logging
import logging.handlers
import re
import signal
import sys
import time
from typing import Any

import rq
import rq.exceptions
from rq.registry import BaseRegistry, ScheduledJobRegistry, StartedJobRegistry

DIE_WITH_PARENT = 1
"""Linux' PR_SET_PDEATHSIG."""

_log = logging.getLogger("argilla_setup.worker")


class JobWorker(rq.Worker):
    """One that is driven by a loop from outside: it neither looks for jobs nor runs a scheduler by itself."""

    def tend(self) -> None:
        """Give a sign of life, queue what is due for another try, and every minute clear up after the dead."""
        if self.connection.exists(self.key):
            self.heartbeat()
        else:
            # Redis began anew without its data file.
            self.register_birth()
        for name in self.queue_names():
            self._queue_due(ScheduledJobRegistry(name, connection=self.connection))
        if self.should_run_maintenance_tasks:
            self.clean_registries()

    def take_back(self) -> None:
        """Queue anew what was begun and never ended: by a worker that was killed, or when Redis was.

        For a worker that is alone, and between jobs: then nobody is at work on them.
        """
        for queue in self.queues:
            while self.connection.lmove(f"{queue.key}:intermediate", queue.key, "RIGHT", "LEFT"):
                _log.warning("%s: a job that was taken and not begun is queued again", queue.name)
            registry = StartedJobRegistry(queue.name, connection=self.connection)
            for job_id in self.connection.zrange(registry.key, 0, -1):
                self._queue_again(registry, queue, job_id.decode(), at_front=True)
                _log.warning("%s: a job that was begun and not ended is queued again", queue.name)

    def forget_others(self) -> None:
        """Workers that were killed could not sign off."""
        for key in self.connection.smembers(self.redis_workers_keys):
            self.connection.delete(key)
            for name in (self.redis_workers_keys, *(f"rq:workers:{name}" for name in self.queue_names())):
                self.connection.srem(name, key)

    def execute_job(self, job: Any, queue: Any) -> None:
        begun = time.monotonic()
        name = _name(job)
        super().execute_job(job, queue)
        _log.info("%s: %s is over (%.1f s)", queue.name, name, time.monotonic() - begun)

    def prepare_job_execution(self, job: Any, remove_from_intermediate_queue: bool = False) -> None:
        # RQ's own rule is to remove it only where a worker has one queue.
        super().prepare_job_execution(job, True)

    def main_work_horse(self, job: Any, queue: Any) -> None:
        if sys.platform == "linux":
            # A killed worker's job is queued again: two must not do it.
            ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.handlers.RotatingFileHandler):
                # The parent renames the log; a fork that did would leave it writing to the old one.
                handler.maxBytes = 0
        super().main_work_horse(job, queue)

    def handle_exception(self, job: Any, *exc_info: Any) -> None:
        """One line: RQ's own has the traceback, in which texts of records and secrets of addresses can be."""
        kind, error = exc_info[0], exc_info[1]
        _log.error("%s failed: %s: %s", _name(job), kind.__name__, _without_secrets(error))

    def handle_work_horse_killed(self, job: Any, *_: Any) -> None:
        _log.error("%s was killed", _name(job))

    def _queue_due(self, registry: ScheduledJobRegistry) -> None:
        for job_id in registry.get_jobs_to_schedule():
            queue = next(queue for queue in self.queues if queue.name == registry.name)
            self._queue_again(registry, queue, job_id, at_front=False)

    def _queue_again(self, registry: BaseRegistry, queue: rq.Queue, job_id: str, *, at_front: bool) -> None:
        """From a registry to its queue in one step; a job whose text is gone is only forgotten."""
        job = queue.fetch_job(job_id)
        with self.connection.pipeline() as pipeline:
            pipeline.zrem(registry.key, job_id)
            if job:
                queue._enqueue_job(job, pipeline=pipeline, at_front=at_front)
            pipeline.execute()


def _name(job: Any) -> str:
    try:
        return str(job.func_name).rpartition(".")[2]
    except rq.exceptions.DeserializationError:
        return "a job that cannot be read"


def _without_secrets(error: BaseException) -> str:
    """The first line of an error, addresses without path, query and sign-in."""
    first = (str(error).splitlines() or [""])[0]
    return re.sub(r"(\w+://)(?:[^/\s@']*@)?([^/\s?']*)[^\s']*", r"\1\2/...", first)[:300]
