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
import functools
import gc
import logging
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import redis
from redis.exceptions import RedisError
from rq.worker import WorkerStatus

from argilla_setup.errors import LauncherError
from argilla_setup.home import Home
from argilla_setup.job_worker import JobWorker
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

        from argilla_setup.app import configure_sqlite
        from argilla_setup.patches import record_statuses, speedups  # the engine is registered when it is imported
        from argilla_setup.search import searcher

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


if __name__ == "__main__":
    sys.exit(main())
