"""A stage's folder: whole or absent, skipped when done, locked while it is written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lingo_hitl.errors import UserError
from lingo_hitl.records import dropped
from lingo_hitl.stages import Outcome, RowFile, read_manifest, read_rows, run_stage


def numbers(*values: int) -> Outcome:
    lost = [dropped({"id": "x", "task": "instruction"}, "odd")]
    return Outcome(pa.table({"n": list(values)}), lost, {"sum": sum(values)})


def test_a_stage_leaves_rows_dropped_rows_and_a_manifest(tmp_path):
    manifest = run_stage("judge", lambda: numbers(1, 2), workdir=tmp_path, config={"a": 1}, inputs={"generate": "00"})
    assert read_rows(tmp_path, "judge")["n"].to_pylist() == [1, 2]
    assert pq.read_table(tmp_path / "judge" / "dropped.parquet")["reason"].to_pylist() == ["odd"]
    told = json.loads((tmp_path / "judge" / "manifest.json").read_text())
    assert (told["rows_in"], told["rows_out"], told["drops"]) == (3, 2, {"odd": 1})
    assert told["inputs"] == {"generate": "00"}
    assert told["versions"]["pyarrow"]
    assert not manifest.skipped


def test_the_same_work_is_done_once_and_again_when_anything_changed(tmp_path):
    def run(config, source):
        return run_stage("map", lambda: numbers(1), workdir=tmp_path, config=config, inputs={"judge": source}).skipped

    assert [run({"a": 1}, "00"), run({"a": 1}, "00"), run({"a": 2}, "00"), run({"a": 2}, "01")] == [
        False,
        True,
        False,
        False,
    ]


def test_work_that_met_a_passing_fault_is_done_anew(tmp_path):
    def run(*, unfinished):
        def work():
            return Outcome(pa.table({"n": [1]}), unfinished=unfinished)

        return run_stage("generate", work, workdir=tmp_path, config={}, inputs={}).skipped

    assert [run(unfinished=True), run(unfinished=False), run(unfinished=False)] == [False, False, True]


def test_a_damaged_folder_is_made_again(tmp_path):
    def run():
        return run_stage("map", lambda: numbers(1), workdir=tmp_path, config={}, inputs={})

    run()
    (tmp_path / "map" / "rows.parquet").write_bytes(b"")
    assert not run().skipped
    assert read_rows(tmp_path, "map").num_rows == 1


def test_a_failing_stage_leaves_the_last_good_folder(tmp_path):
    run_stage("map", lambda: numbers(1), workdir=tmp_path, config={}, inputs={})
    with pytest.raises(ZeroDivisionError):
        run_stage("map", lambda: numbers(1 // 0), workdir=tmp_path, config={"new": 1}, inputs={})
    assert read_rows(tmp_path, "map")["n"].to_pylist() == [1]


def test_rows_on_their_way_again_leave_those_that_a_stage_has_alone(tmp_path):
    def work():
        with RowFile(tmp_path / ".map.rows", pa.schema([("n", pa.int64())])) as out:
            out.add({"n": 1})
            return Outcome(out.close())

    run_stage("map", work, workdir=tmp_path, config={}, inputs={})
    with RowFile(tmp_path / ".map.rows", pa.schema([("n", pa.int64())])):
        assert read_rows(tmp_path, "map")["n"].to_pylist() == [1]
    assert run_stage("map", work, workdir=tmp_path, config={}, inputs={}).skipped


def test_a_stage_that_has_not_run_is_named(tmp_path):
    with pytest.raises(UserError, match="lingo-hitl judge CONFIG"):
        read_rows(tmp_path, "judge")
    assert read_manifest(tmp_path, "judge") is None


HOLDER = """
import sys, time
from pathlib import Path
import pyarrow as pa
from lingo_hitl.stages import Outcome, run_stage
def work():
    print("working", flush=True)
    time.sleep(60)
    return Outcome(pa.table({"n": [2]}))
run_stage("map", work, workdir=Path(sys.argv[1]), config={"second": True}, inputs={})
"""


def test_killed_in_the_middle_the_old_folder_stands_and_the_next_run_works(tmp_path):
    run_stage("map", lambda: numbers(1), workdir=tmp_path, config={}, inputs={})
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"working\n"
        with pytest.raises(UserError, match=f"pid {holder.pid}"):
            run_stage("map", lambda: numbers(3), workdir=tmp_path, config={}, inputs={})
        os.kill(holder.pid, signal.SIGKILL)
    assert read_rows(tmp_path, "map")["n"].to_pylist() == [1]
    run_stage("map", lambda: numbers(3), workdir=tmp_path, config={"third": True}, inputs={})
    assert read_rows(tmp_path, "map")["n"].to_pylist() == [3]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".map")]


def test_killed_between_the_two_renames_the_old_folder_comes_back(tmp_path):
    run_stage("map", lambda: numbers(1), workdir=tmp_path, config={}, inputs={})
    (tmp_path / "map").rename(tmp_path / ".map.old")
    assert run_stage("map", lambda: numbers(9), workdir=tmp_path, config={}, inputs={}).skipped
    assert read_rows(tmp_path, "map")["n"].to_pylist() == [1]
