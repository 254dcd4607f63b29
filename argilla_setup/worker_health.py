"""Whether a worker gave a sign of life: `python -m argilla_setup.worker_health`, for a container's health check."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, timedelta

import redis
import rq

from argilla_setup.secret_files import read_secrets

LATEST = timedelta(minutes=2)
"""A worker that does a long job gives none meanwhile but for RQ's own, once in 90 seconds."""


def main() -> int:
    """0 where one of the workers of this Redis was heard of within two minutes."""
    read_secrets(os.environ)
    connection = redis.from_url(os.environ["ARGILLA_REDIS_URL"])
    heard = [worker.last_heartbeat for worker in rq.Worker.all(connection=connection)]
    now = datetime.now(UTC)
    alive = [time for time in heard if time and now - time.replace(tzinfo=UTC) < LATEST]
    if not alive:
        print(f"{len(heard)} workers are known, and none was heard of within {LATEST}", file=sys.stderr)
    return 0 if alive else 1


if __name__ == "__main__":
    sys.exit(main())
