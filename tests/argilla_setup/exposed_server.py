"""Runs in the server environment: imports Argilla once, then does in a fork of its own what each line it reads asks.

A start is `argilla_setup.app` as the launcher starts it. Whatever the process asks of the network is written down.
Lines are JSON: {"start": host, "environment": {...}}, answered by the process id; {"end": pid}, answered by its exit
code; {"mismatches": true}, answered by what is said about an Argilla that the patches were not written for.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from argilla_setup import app
from argilla_setup.home import Home
from argilla_setup.settings import configure


def main() -> None:
    """Arguments: the home folder, the port, the URL of Redis, the file for what is asked of the network."""
    home, port, redis, asked = sys.argv[1:]
    note = os.open(asked, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def hear(event: str, arguments: tuple[object, ...]) -> None:
        if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
            os.write(note, f"{event} {arguments}\n".encode())

    sys.addaudithook(hear)
    os.umask(0o077)
    configure(Home(Path(home)), redis_url=redis)
    # Where Argilla puts a copy of its web UI when it is imported: not where each start clears away.
    tempfile.tempdir = tempfile.mkdtemp(dir=Path(asked).parent)
    import argilla_server
    import uvicorn  # noqa: F401

    from argilla_setup.accounts import accounts  # noqa: F401
    from argilla_setup.patches import speedups  # noqa: F401
    from argilla_setup.search import search_engine  # noqa: F401
    from argilla_setup.security import hardening, web_ui  # noqa: F401

    [served] = web_ui._static_folders(argilla_server.app)
    released = served.with_name("released")
    shutil.copytree(served, released)
    started: set[int] = set()
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        if "end" in order:
            if order.get("stop"):
                os.kill(order["end"], signal.SIGTERM)
            print(end_of(order["end"]), flush=True)
            started.discard(order["end"])
        elif "start" in order:
            # A start corrects the files, which it expects as they were released.
            shutil.rmtree(served)
            shutil.copytree(released, served)
            child = os.fork()
            if child == 0:
                os.close(0)
                os.environ.update(order.get("environment", {}))
                place = ["--home", home, "--host", order["start"], "--port", port, "--redis", redis]
                os._exit(app.main([*place, "--annotator", "annotator1", "--annotator", "annotator2"]))
            started.add(child)
            print(child, flush=True)
        else:
            print(json.dumps(mismatches(Path(home))), flush=True)
    for child in started:
        os.kill(child, signal.SIGKILL)


def end_of(child: int) -> int:
    """The exit code of a process, which is ended after a minute: a start that should be refused may serve instead."""
    for _ in range(600):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def mismatches(home: Path) -> list[str]:
    """What is said about another version, and about this one without the route for signing in."""
    from argilla_server import app as argilla
    from argilla_server.api.routes import api_v1

    from argilla_setup.security import hardening, sign_in

    said = []
    for attempt in (
        lambda: hardening.hardened(argilla, "2.8.1", Home(home)),
        lambda: hardening.hardened(object(), "2.8.0", Home(home)),
        lambda: sign_in.apply("2.8.1"),
    ):
        try:
            attempt()
            said.append("nothing")
        except (hardening.HardeningError, sign_in.SignInMismatchError) as error:
            said.append(str(error))
    routes = list(api_v1.router.routes)
    api_v1.router.routes = [route for route in routes if route.path != "/status"]
    try:
        sign_in.apply("2.8.0")
        said.append("nothing")
    except sign_in.SignInMismatchError as error:
        said.append(str(error))
    api_v1.router.routes = routes
    return said


if __name__ == "__main__":
    main()
