"""Home folders, processes, addresses and the environment: every fault is one line that says what to do."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from argilla_setup import environment, launcher
from argilla_setup.addresses import choose_port, url_of
from argilla_setup.home import Home, read_json, write_private
from argilla_setup.launcher import LauncherError
from argilla_setup.processes import ProcessRecord, spawn
from tests.argilla_setup.refusals import refused


def fails(home, *words):
    refused(lambda: launcher.up(home, say=lambda line: None), *words)


def test_a_home_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("mine")
    fails(tmp_path / "file", "is a file", "--home")
    fails(tmp_path / "file" / "below", "is a file")


def test_a_home_with_other_files_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    fails(tmp_path, "holds other files", "--home")
    with pytest.raises(LauncherError, match="was not made by"):
        launcher.remove(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_home_that_cannot_be_written(tmp_path):
    tmp_path.chmod(0o500)
    fails(tmp_path / "home", "cannot be written")


def test_a_home_on_a_read_only_place():
    fails(Path("/proc/lingo-hitl"), "/proc")


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="mounting needs root")
def test_a_full_disk(tmp_path):
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(tmp_path)], check=False)
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        fails(tmp_path / "home", "MB are free", "Free some space")
        fills = tmp_path / "fills"
        with pytest.raises(OSError, match="No space"):
            fills.write_bytes(b"0" * 5_000_000)
        (tmp_path / "home").mkdir(exist_ok=True)
        fails(tmp_path / "home", "space")
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_what_is_not_there_is_told_not_raised(tmp_path):
    nowhere = tmp_path / "nowhere"
    assert launcher.status(nowhere) == launcher.Status(running=False, home=nowhere)
    assert launcher.down(nowhere) is False
    launcher.remove(nowhere)
    with pytest.raises(LauncherError, match="lingo-hitl up"):
        launcher.credentials(nowhere)
    assert not nowhere.exists()


def test_damaged_credentials(tmp_path):
    home = Home(tmp_path / "home")
    home.prepare()
    home.credentials.write_text("{")
    with pytest.raises(LauncherError, match="damaged"):
        launcher.credentials(home.path)


def test_default_home(monkeypatch):
    monkeypatch.setenv("LINGO_HITL_HOME", "/some/where")
    assert launcher.default_home() == Path("/some/where")
    monkeypatch.delenv("LINGO_HITL_HOME")
    assert launcher.default_home() == Path.home() / ".lingo-hitl"


def test_private_files_are_whole_and_private(tmp_path):
    path = tmp_path / "secret.json"
    for text in ('{"a": 1}', '{"a": 2}'):
        write_private(path, text)
        assert path.read_text() == text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_json(tmp_path / "none.json") == {}
    assert [item.name for item in tmp_path.iterdir()] == ["secret.json"]


def test_a_process_is_known_by_its_start_not_its_number(tmp_path):
    record = spawn(
        [sys.executable, "-c", "import time; print('ready', flush=True); time.sleep(60)"],
        environment=dict(os.environ),
        folder=tmp_path,
        log=tmp_path / "log",
    )
    assert record.is_running()
    assert not ProcessRecord(record.pid, "another start", record.boot).is_running()
    ProcessRecord(record.pid, "another start", record.boot).stop(patience_s=0)
    assert record.is_running()
    record.write(tmp_path / "record.json", url="u")
    assert ProcessRecord.read(tmp_path / "record.json") == record
    record.stop(patience_s=5)
    assert not record.is_running()
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o600


def test_a_process_that_ignores_sigterm_is_ended_all_the_same(tmp_path):
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
    record = spawn([sys.executable, "-c", code], environment=dict(os.environ), folder=tmp_path, log=tmp_path / "log")
    while not (tmp_path / "log").read_text():
        time.sleep(0.01)
    record.stop(patience_s=0.2)
    assert not record.is_running()


def test_ports(monkeypatch):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        with pytest.raises(LauncherError, match=f"port {taken} on 127.0.0.1 cannot be used"):
            choose_port("127.0.0.1", taken, None)
        assert choose_port("127.0.0.1", None, taken) != taken
    assert choose_port("127.0.0.1", None, taken) == taken
    with pytest.raises(LauncherError, match="65535"):
        choose_port("127.0.0.1", 70000, None)
    with pytest.raises(LauncherError, match="--host"):
        choose_port("203.0.113.7", None, None)
    assert url_of("0.0.0.0", 1) == "http://127.0.0.1:1"
    assert url_of("::1", 1) == "http://[::1]:1"


@pytest.fixture
def toy_environment(tmp_path, monkeypatch):
    """An environment whose requirements are none, so that building it takes a second."""
    for name in ("REQUIREMENTS", "CONSTRAINTS"):
        file = tmp_path / f"{name.lower()}.txt"
        file.write_text("")
        monkeypatch.setattr(environment, name, file)
    monkeypatch.setenv("LINGO_HITL_SERVER_ENV", str(tmp_path / "environment"))
    return tmp_path


@pytest.mark.server  # seconds: it makes a real virtual environment
def test_a_half_built_environment_is_built_anew(toy_environment):
    said = []
    place = environment.location()
    (place / "bin").mkdir(parents=True)
    (place / "pyvenv.cfg").write_text("home = nowhere")
    (place / "bin" / "python").symlink_to("/nowhere/python")
    assert environment.ensure(log=toy_environment / "log", say=said.append) == place
    assert any("half-built" in line for line in said)
    said.clear()
    assert environment.ensure(log=toy_environment / "log", say=said.append) == place
    assert said == [], "it is built once"


@pytest.mark.server  # seconds: it makes a real virtual environment
def test_a_failed_build_names_the_log_and_the_cause(toy_environment):
    (toy_environment / "requirements.txt").write_text("./no-such-package-here\n")
    with pytest.raises(LauncherError, match="failed in pip") as caught:
        environment.ensure(log=toy_environment / "log", say=lambda line: None)
    text = str(caught.value)
    assert str(toy_environment / "log") in text
    assert "no-such-package-here" in text
    assert "\n" not in text
    assert not (environment.location() / environment.COMPLETE).exists()


def test_an_environment_folder_with_other_files_is_left_alone(toy_environment):
    place = environment.location()
    place.mkdir()
    (place / "thesis.txt").write_text("mine")
    with pytest.raises(LauncherError, match="holds other files"):
        environment.ensure(log=toy_environment / "log", say=lambda line: None)
    assert (place / "thesis.txt").read_text() == "mine"
