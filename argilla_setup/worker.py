"""Does Argilla's background jobs: `python -m argilla_setup.worker`, in the server environment.

Changed overlaps (statuses of records), webhooks, import and export. RQ's worker with a loop of our own, for one server
with ten labelers: Argilla is imported when the first job comes (35 MB until then, 270 MB after); nothing but this one
process runs, no scheduler and no thread beside it; Redis may come and go; a job that a killed worker had begun is done.

Each job runs in a fork, as RQ does it: the parent never opens a database, so a job finds no connections, threads or
event loops of another one, and one that crashes or leaks ends alone.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import functools
import gc
import logging
import logging.handlers
import os
import re
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import redis
import rq
import rq.exceptions
from redis.exceptions import RedisError
from rq.registry import ScheduledJobRegistry, StartedJobRegistry
from rq.worker import WorkerStatus

from argilla_setup.errors import LauncherError
from argilla_setup.home import Home
from argilla_setup.redis_process import QUEUES
from argilla_setup.settings import configure, configure_logging
from argilla_setup.supervisor import CANNOT_START

if TYPE_CHECKING:
    from collections.abc import Sequence

NICENESS = 5
"""People who label come first."""
LOOK_EVERY_S = 0.25
TEND_EVERY_S = 1.0
PAUSE_S = 1.0
TTL_S = 120
"""Redis forgets a worker that gave no sign of life for this long, and a minute."""
MAINTENANCE_EVERY_S = 60
DIE_WITH_PARENT = 1
"""Linux' PR_SET_PDEATHSIG."""

_log = logging.getLogger("argilla_setup.worker")


def main(arguments: Sequence[str] | None = None) -> int:
    """Work until SIGTERM; the job that runs then is finished first."""
    parser = argparse.ArgumentParser(prog="argilla_setup.worker")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--redis", help="URL of the Redis server; a team's is in ARGILLA_REDIS_URL")
    parser.add_argument("--alone", action="store_true", help="no other worker has this Redis")
    options = parser.parse_args(arguments)
    os.umask(0o077)
    os.nice(NICENESS)
    home = Home(options.home)
    try:
        home.prepare()
        configure(home, redis_url=options.redis, temporary=home.run / "worker-tmp")
    except LauncherError as error:
        print(f"lingo-hitl: {error}", file=sys.stderr)
        return CANNOT_START
    configure_logging(home.worker_log)
    Loop(home, os.environ["ARGILLA_REDIS_URL"], alone=options.alone).run()
    return 0


class Loop:
    """Looks for jobs and does them, one at a time, until told to stop."""

    def __init__(self, home: Home, redis_url: str, *, alone: bool) -> None:
        self._home = home
        self._connection = redis.from_url(redis_url)
        self._alone = alone
        self._worker: JobWorker | None = None
        self._loaded = False
        self._stopping = False
        self._redis_gone = False
        self._tended = 0.0

    def run(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        _log.info("worker %d is waiting for jobs", os.getpid())
        while not self._stopping:
            try:
                worked = self._work()
                if self._redis_gone:
                    self._redis_gone = False
                    _log.warning("Redis answers again")
                if not worked:
                    time.sleep(LOOK_EVERY_S)
            except RedisError as error:
                if not self._redis_gone:
                    self._redis_gone = True
                    _log.warning("Redis does not answer (%s); trying until it does", type(error).__name__)
                time.sleep(PAUSE_S)
        with contextlib.suppress(RedisError):
            if self._worker:
                self._worker.register_death()
        _log.info("worker %d stops", os.getpid())

    def _work(self) -> bool:
        """Do the next job; False where there is none."""
        worker = self._worker or self._begin()
        if time.monotonic() - self._tended > TEND_EVERY_S:
            self._tended = time.monotonic()
            worker.tend()
            if self._alone:
                worker.take_back()
        waiting = [queue for queue in worker.queues if queue.count]
        if not waiting:
            return False
        self._load()
        if self._stopping:
            return False
        # One queue at a time: so RQ moves the job to a list of begun ones, from which a killed worker's is taken back.
        found = worker.queue_class.dequeue_any(waiting[:1], None, connection=self._connection)
        if found:
            worker.execute_job(*found)
        return found is not None

    def _begin(self) -> JobWorker:
        worker = JobWorker(
            list(QUEUES),
            name=uuid4().hex,
            connection=self._connection,
            default_worker_ttl=TTL_S,
            maintenance_interval=MAINTENANCE_EVERY_S,
            log_job_description=False,
        )
        if self._alone:
            worker.forget_others()
        worker.register_birth()
        worker.set_state(WorkerStatus.IDLE)
        self._worker = worker
        return worker

    def _load(self) -> None:
        """Import Argilla with our engine, once, in the parent: forks then have it without the seconds it costs."""
        if self._loaded:
            return
        begun = time.monotonic()
        import argilla_server  # noqa: F401
        from argilla_server._version import __version__
        from argilla_server.database import async_engine, sync_engine
        from argilla_server.jobs import dataset_jobs, hub_jobs, webhook_jobs  # noqa: F401
        from argilla_server.settings import settings

        from argilla_setup import record_statuses, searcher, speedups  # the engine is registered when it is imported
        from argilla_setup.app import configure_sqlite

        os.environ[searcher.INDEX_VARIABLE] = str(self._home.index)
        if settings.database_is_sqlite:
            configure_sqlite(async_engine.sync_engine, sync_engine)
        speedups.apply(__version__)
        record_statuses.apply(__version__)
        _drop_events_of_deleted_webhooks(webhook_jobs)
        _do_once_for_all_jobs()
        # Argilla's copy of its web UI, which nobody asks a worker for.
        for item in (self._home.run / "worker-tmp").iterdir():
            shutil.rmtree(item, ignore_errors=True)
        self._loaded = True
        _log.info("Argilla is loaded (%.1f s)", time.monotonic() - begun)

    def _stop(self, *_: object) -> None:
        self._stopping = True


class JobWorker(rq.Worker):
    """RQ's worker, which forks for each job and keeps the books in Redis."""

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
                job = queue.fetch_job(job_id.decode())
                with self.connection.pipeline() as pipeline:
                    pipeline.zrem(registry.key, job_id)
                    if job:
                        queue._enqueue_job(job, pipeline=pipeline, at_front=True)
                    pipeline.execute()
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
            job = queue.fetch_job(job_id)
            with self.connection.pipeline() as pipeline:
                pipeline.zrem(registry.key, job_id)
                if job:
                    queue._enqueue_job(job, pipeline=pipeline)
                pipeline.execute()


def _do_once_for_all_jobs() -> None:
    """Here, or each fork would do it: two thirds of what a webhook's job costs."""
    import httpx
    from sqlalchemy.orm import configure_mappers

    configure_mappers()
    httpx.post = functools.partial(httpx.post, verify=httpx.create_ssl_context())
    # What is in memory now stays as it is: a fork that counted references to it would copy all of it.
    gc.collect()
    gc.freeze()


def _drop_events_of_deleted_webhooks(webhook_jobs: Any) -> None:
    """Whoever deletes a webhook while events wait for it wants none of them: that is no failure to be told."""
    from argilla_server.errors.future import NotFoundError

    notify = webhook_jobs.notify_event_job

    async def notify_event_job(*arguments: Any) -> None:
        with contextlib.suppress(NotFoundError):
            await notify(*arguments)

    webhook_jobs.notify_event_job = notify_event_job


def _name(job: Any) -> str:
    try:
        return str(job.func_name).rpartition(".")[2]
    except rq.exceptions.DeserializationError:
        return "a job that cannot be read"


def _without_secrets(error: BaseException) -> str:
    """The first line of an error, addresses without path, query and sign-in."""
    first = (str(error).splitlines() or [""])[0]
    return re.sub(r"(\w+://)(?:[^/\s@']*@)?([^/\s?']*)[^\s']*", r"\1\2/...", first)[:300]


if __name__ == "__main__":
    sys.exit(main())
