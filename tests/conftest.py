"""Fixtures that need a real server: one Argilla for the whole session, on a free port, gone afterwards."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from argilla_setup import launcher

CHROMIUM = next((path for name in ("chromium", "google-chrome") if (path := shutil.which(name))), None)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SHARED = Path(__file__).resolve().parents[2] / "shared"


def free_port() -> int:
    """A TCP port on the loopback that nothing listens on, below those that the system gives away by itself.

    Of a range of this process's own: two that test at the same time never choose the same.
    """
    worker = int(re.sub(r"\D", "", os.environ.get("PYTEST_XDIST_WORKER", "")) or 0)
    while True:
        port = random.randrange(20_000 + 1_000 * (worker % 12), 21_000 + 1_000 * (worker % 12))
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextlib.contextmanager
def running_home() -> Iterator[Path]:
    """The home folder of a running Argilla with an owner and two annotators, which is gone afterwards."""
    home = Path(tempfile.mkdtemp(prefix="lh-")) / "home"
    launcher.up(home, port=free_port(), say=lambda line: None)
    yield home
    launcher.remove(home)
    shutil.rmtree(home.parent, ignore_errors=True)


@pytest.fixture(scope="session")
def argilla_home() -> Iterator[Path]:
    """One for the whole session; its tests leave its accounts as they are."""
    with running_home() as home:
        yield home


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data beside the repository; the test is skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is not there: real data is not part of the repository")
    return SHARED


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium; the test is skipped where none is installed.

    One for each module: Playwright keeps an event loop running, and with it no other code of the
    process can run one of its own, as distilabel's clients do.
    """
    if CHROMIUM is None:
        say = pytest.fail if os.environ.get("CI") else pytest.skip
        say("no Chromium here: apt-get install chromium fonts-noto-cjk")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()
