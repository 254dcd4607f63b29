"""Filling Elasticsearch: what keeps it from being done is one line, and changes nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from argilla_setup import environment
from argilla_setup.home import Home

ROOT = Path(__file__).parents[2]


def refused(home, *, python=sys.executable, **variables):
    command = [str(python), "-m", "argilla_setup.reindex", "--home", str(home)]
    given = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    done = subprocess.run(command, cwd=home.parent, env=given, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("lingo-hitl: ")
    return line


def test_a_wrong_path_makes_no_home(tmp_path):
    assert f"{tmp_path / 'wrong'} is no home of a server" in refused(tmp_path / "wrong")
    assert not (tmp_path / "wrong").exists()


@pytest.mark.server
def test_a_search_engine_that_does_not_answer(tmp_path):
    home = tmp_path / "home"
    Home(home).prepare()
    python = environment.python_of(environment.ensure(log=tmp_path / "log", say=lambda line: None))
    address = "http://elastic:hidden@127.0.0.1:9"
    said = refused(home, python=python, ARGILLA_SEARCH_ENGINE="elasticsearch", ARGILLA_ELASTICSEARCH=address)
    assert "elasticsearch does not do as it is asked" in said
    assert "hidden" not in said
