"""Runs in the server environment: imports Argilla once, then starts the real application anew for each line it reads.

`serve` forks a server that runs `argilla_setup.app` as the launcher would; `statuses DATASET` forks what a worker does
after a dataset's distribution changed. Neither pays the seconds that importing takes, which makes it possible to kill a
server fifty times in a minute. The process id of each fork is printed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from uuid import UUID

from argilla_setup import app
from argilla_setup.home import Home
from argilla_setup.settings import configure


def main() -> None:
    """Arguments: the home folder, the port, the URL of Redis."""
    home, port, redis = sys.argv[1:]
    os.umask(0o077)
    configure(Home(Path(home)), redis_url=redis)
    import alembic.command
    import alembic.runtime.migration  # noqa: F401
    import argilla_server
    import uvicorn  # noqa: F401

    from argilla_setup.accounts import accounts  # noqa: F401
    from argilla_setup.patches import speedups  # noqa: F401
    from argilla_setup.search import search_engine  # noqa: F401
    from argilla_setup.security import hardening

    # The web UI is 14 MB that each start would copy and correct again; nobody looks at it here.
    hardening.web_ui.harden = lambda app, version: ()
    router = argilla_server.app.router
    router.routes = [route for route in router.routes if route.name != "static"]
    # Ended children are not waited for: the system clears them away.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print("ready", flush=True)
    for line in sys.stdin:
        child = os.fork()
        if child:
            print(child, flush=True)
            continue
        code = 1
        try:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.close(0)
            what, *words = line.split()
            if what == "serve":
                code = app.main(["--home", home, "--port", port, "--redis", redis])
            else:
                code = _recompute_statuses(Home(Path(home)), UUID(words[0]))
        finally:
            sys.stderr.flush()
            os._exit(code)


def _recompute_statuses(home: Home, dataset_id: UUID) -> int:
    """The job that Argilla's worker runs, in a process of its own beside the server."""
    from argilla_server.jobs.dataset_jobs import update_dataset_records_status_job

    from argilla_setup.search import searcher

    os.environ[searcher.INDEX_VARIABLE] = str(home.index)
    asyncio.run(update_dataset_records_status_job(dataset_id))
    return 0


if __name__ == "__main__":
    main()
