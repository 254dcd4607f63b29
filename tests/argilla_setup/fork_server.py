"""Runs in the server environment: imports Argilla once, then starts the real application anew for each line it reads.

Each start is a fork that runs `argilla_setup.app` as the launcher would, without the seconds that importing takes; its
process id is printed. That makes it possible to kill a server fifty times in a minute.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from argilla_setup import app
from argilla_setup.home import Home
from argilla_setup.settings import configure


def main() -> None:
    """Arguments: the home folder, the port, the URL of Redis."""
    home, port, redis = sys.argv[1:]
    os.umask(0o077)
    configure(Home(Path(home)), redis_url=redis)
    import argilla_server  # noqa: F401
    import uvicorn  # noqa: F401

    from argilla_setup import accounts, hardening, search_engine, speedups  # noqa: F401

    # Ended children are not waited for: the system clears them away.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print("ready", flush=True)
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.close(0)
            os._exit(app.main(["--home", home, "--port", port, "--redis", redis]))
        print(child, flush=True)


if __name__ == "__main__":
    main()
