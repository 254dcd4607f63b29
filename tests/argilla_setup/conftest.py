"""A home folder of a test's own: short, for unix sockets, and gone afterwards."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path

import pytest

from argilla_setup import launcher
from tests.argilla_setup.team_server import Team


@pytest.fixture(scope="session")
def team():
    """A team's server with PostgreSQL and Redis, an owner and two annotators; one for the whole session."""
    with contextlib.ExitStack() as stack:
        team = Team(stack)
        team.start()
        yield team


@pytest.fixture
def home():
    folder = Path(tempfile.mkdtemp(prefix="lh-"))
    yield folder / "home"
    if (folder / "home" / ".lingo-hitl-home").exists():
        launcher.remove(folder / "home")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def start(home):
    """Start the server of `home`, quietly, on a port that the system chose or the home had before."""
    from tests.conftest import free_port

    ports = []

    def start_(**more):
        if not ports:
            ports.append(free_port())
        return launcher.up(home, port=more.pop("port", ports[0]), say=lambda line: None, **more)

    return start_
