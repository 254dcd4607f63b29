"""The main job from end to end, as `make demo` runs it, and again; then undone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from datasets import load_dataset

from argilla_setup import launcher
from lingo_hitl.demo import SIMULATED
from lingo_hitl.ledger import Ledger
from lingo_hitl.release.manifest import verify

pytestmark = [pytest.mark.model, pytest.mark.server, pytest.mark.timeout(1800)]


def demo(workdir: Path, home: Path, *options: str) -> str:
    result = subprocess.run(
        [sys.executable, "-m", "lingo_hitl.cli", "demo", "--workdir", str(workdir), "--home", str(home), *options],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "100"},
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture
def places():
    folder = Path(tempfile.mkdtemp(prefix="lh-"))
    yield folder / "work", folder / "home"
    launcher.remove(folder / "home")
    shutil.rmtree(folder, ignore_errors=True)


def test_the_whole_loop_and_back(places, tmp_path):
    workdir, home = places
    told = demo(workdir, home)
    for word in ("generate", "judge", "map", "push", "sync", "curate", "preference", "http://127.0.0.1", "annotator1"):
        assert word in told

    rows = pq.read_table(workdir / "map" / "rows.parquet").to_pylist()
    assert {row["task"] for row in rows} == {"dialogue", "preference", "instruction"}
    assert {row["language"] for row in rows} == {"ko", "en"}
    assert sum(row["language"] == "ko" for row in rows) >= 200
    assert len({row["cluster"] for row in rows}) > 5

    server = launcher.status(home)
    assert server.running
    assert server.records == len(rows)
    with Ledger(workdir / "ledger.sqlite") as ledger:
        answers = ledger.answers()
        assert {answer.person for answer in answers} == set(SIMULATED)
        assert len(rows) < len(answers) < 2 * len(rows), "most are answered by two, some wait for the newcomer"
        assert ledger.verify() is None

    [released] = (workdir / "release").iterdir()
    assert verify(released) == []
    pairs = load_dataset(str(released), "preference", cache_dir=str(tmp_path))
    assert pairs["train"].num_rows > 10
    assert all(row["chosen"] != row["rejected"] for row in pairs["train"])
    assert "모의" in (released / "README.md").read_text(encoding="utf-8")

    again = demo(workdir, home, "--down")
    assert "done before" in again
    assert "already released" in again
    assert not launcher.status(home).running

    demo(workdir, home, "--remove")
    assert not workdir.exists()
    assert not home.exists()
