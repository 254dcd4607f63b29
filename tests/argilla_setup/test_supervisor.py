"""The supervisor's books of its processes, with real processes and no server."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from argilla_setup import launcher
from argilla_setup.home import Home
from argilla_setup.processes import ProcessRecord, spawn
from argilla_setup.supervisor import Part
from tests.argilla_setup.awaiting import await_


@pytest.fixture
def home(tmp_path):
    home = Home(tmp_path / "home")
    home.prepare()
    return home


def run(home, script):
    return spawn(["/bin/sh", "-c", script], environment={}, folder=home.run, log=home.logs / "test.log")


def test_what_cannot_be_recorded_runs_on_and_is_recorded_later(home):
    """As on a full disk; a folder in the record's place has the same effect."""
    home.record("worker").mkdir()
    part = Part("worker", lambda: run(home, "exec sleep 60"), {"place": "here"})
    part.begin(home)
    try:
        assert part.process.is_running()
        assert not part.recorded
        home.record("worker").rmdir()
        assert part.record(home) is None
        assert part.recorded
        assert ProcessRecord.read(home.record("worker")) == part.process
    finally:
        part.process.stop(patience_s=5)


THREADED = """
import threading, time
held = bytearray(b"1") * 200_000_000
for _ in range(8):
    threading.Thread(target=time.sleep, args=(60,)).start()
print("ready", flush=True)
"""
# Its first thread is gone well before the last one, which gives the memory back.


def test_how_a_process_ended_is_known_whenever_it_ends(home):
    """Also between two looks, and while its threads still end."""
    for _ in range(60):
        process = run(home, "exit 3")
        while process.is_running():
            pass
        assert process.how_it_ended() == "exit code 3"
    script, log = home.run / "threaded.py", home.logs / "test.log"
    script.write_text(THREADED)
    for number in range(1, 6):
        process = run(home, f"exec '{sys.executable}' '{script}'")
        await_(lambda number=number: log.read_text().count("ready") == number, "its threads")
        os.kill(process.pid, signal.SIGKILL)
        while process.is_running():
            pass
        assert process.how_it_ended() == "signal 9"


def test_a_home_whose_server_gave_up_says_why(home):
    """The cause is a sentence of its own, and so is what to do."""
    process = run(home, "exit 3")
    while process.is_running():
        pass
    process.write(home.record("server"), url="http://127.0.0.1:1")
    home.start_log.write_text("lingo-hitl: port 1 cannot be used. Give another one.\n")
    problem = launcher.status(home.path).problem
    assert problem.endswith("it has ended: port 1 cannot be used. Give another one. Run `lingo-hitl up`.")
    # As the supervisor writes it, which lives and starts it again: here this process stands for it.
    ProcessRecord.of(os.getpid()).write(home.record("supervisor"))
    process.write(home.record("server"), url="http://127.0.0.1:1", ended="exit code 3: port 1 cannot be used")
    assert "has ended (exit code 3: port 1 cannot be used); it is started again" in problems(home)


def problems(home):
    return " ".join(launcher.status(home.path).problems)
