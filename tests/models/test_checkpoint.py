"""What is finished is on disk: kill -9, torn logs, damaged values and full disks lose no batch and double none."""

from __future__ import annotations

import json
import random
import struct
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lingo_hitl.errors import UserError
from lingo_hitl.models.bulk import Computed, compute_all
from tests.models.letters import Letters, corpus

COUNT = 10_000
LETTERS = Letters()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    run(folder)
    return folder


def run(folder: Path, model: Letters = LETTERS, *, count: int = COUNT) -> Computed:
    return compute_all(pa.array(corpus(count)), model, what="letters", folder=folder)


def records(folder: Path) -> list[bytes]:
    """The whole records in a log, read by the format that is written down in checkpoint.py."""
    if not (folder / "finished.log").exists():
        return []
    content = (folder / "finished.log").read_bytes().partition(b"\n")[2]
    found = []
    while len(content) >= 20:
        size = 20 + 2 * struct.unpack("<IQI", content[:16])[0]
        if len(content) < size:
            break
        found.append(content[:size])
        content = content[size:]
    return found


def lines(path: Path) -> int:
    return path.read_text().count("\n") if path.exists() else 0


def test_kill_9_at_any_moment_and_again_ends_with_the_same_bytes_and_no_batch_twice(tmp_path, undisturbed):
    total = len(records(undisturbed))
    chance = random.Random()
    for goal in sorted(chance.sample(range(1, total - 100), 3)):
        before, trace = len(records(tmp_path)), tmp_path / f"trace{goal}"
        command = [sys.executable, "-m", "tests.models.letters", str(tmp_path), str(trace), str(COUNT), "1"]
        with subprocess.Popen(command) as process:
            while process.poll() is None and len(records(tmp_path)) < goal:
                time.sleep(0.01)
            process.kill()
        finished = len(records(tmp_path))
        assert finished >= goal
        assert lines(trace) - 1 <= finished - before <= lines(trace)
    found = run(tmp_path, Letters(trace=tmp_path / "last"))
    assert (found.resumed, found.batches) == (finished, total)
    assert lines(tmp_path / "last") == total - finished
    assert (tmp_path / "values.npy").read_bytes() == (undisturbed / "values.npy").read_bytes()


@pytest.mark.parametrize("cut", [1, 19, 20, 21])
def test_a_torn_record_at_the_end_of_the_log_is_done_again(cut, tmp_path):
    texts, log = 300, tmp_path / "finished.log"
    batches, last = run(tmp_path, count=texts).batches, records(tmp_path)[-1]
    values = (tmp_path / "values.npy").read_bytes()
    with log.open("r+b") as file:
        file.truncate(log.stat().st_size - len(last) + cut)
    found = run(tmp_path, Letters(trace=tmp_path / "trace"), count=texts)
    assert (found.resumed, found.batches, lines(tmp_path / "trace")) == (batches - 1, batches, 1)
    assert (tmp_path / "values.npy").read_bytes() == values
    assert run(tmp_path, count=texts).resumed == batches


def test_damaged_values_and_a_damaged_record_are_done_again(tmp_path):
    texts, log, values = 300, tmp_path / "finished.log", tmp_path / "values.npy"
    batches, whole = run(tmp_path, count=texts).batches, values.read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 1
    values.write_bytes(damaged)
    found = run(tmp_path, count=texts)
    assert (found.resumed, found.batches) == (batches - 1, batches)
    assert values.read_bytes() == whole

    content = bytearray(log.read_bytes())
    content[-len(b"".join(records(tmp_path)[10:])) + 3] ^= 255
    log.write_bytes(content)
    found = run(tmp_path, count=texts)
    assert (found.resumed, found.batches) == (10, batches)
    assert values.read_bytes() == whole


def test_a_finished_folder_needs_no_model(tmp_path):
    batches = run(tmp_path, count=100).batches
    found = run(tmp_path, Letters(loads=False), count=100)
    assert found.batches == found.resumed == batches


@pytest.mark.parametrize("other", [{"name": "other"}, {"width": 5}, {"count": 299}])
def test_other_texts_or_another_model_start_anew_and_leave_linked_values_alone(other, tmp_path):
    run(tmp_path, count=300)
    linked = tmp_path / "stage.npy"
    linked.hardlink_to(tmp_path / "values.npy")
    before = linked.read_bytes()
    count = other.pop("count", 300)
    found = run(tmp_path, replace(LETTERS, **other), count=count)
    assert (found.resumed, found.values.shape[0]) == (0, count)
    assert linked.read_bytes() == before
    assert np.load(tmp_path / "values.npy").tolist() == found.values.tolist()


@pytest.mark.parametrize("damage", ["values.npy", "finished.log", "header", "short"])
def test_a_missing_or_unreadable_file_starts_anew(damage, tmp_path):
    values = run(tmp_path, count=100).values.tolist()
    if damage == "header":
        (tmp_path / "finished.log").write_text(json.dumps({"format": 0}) + "\n")
    elif damage == "short":
        with (tmp_path / "values.npy").open("r+b") as file:
            file.truncate(200)
    else:
        (tmp_path / damage).unlink()
    found = run(tmp_path, count=100)
    assert found.resumed == 0
    assert found.values.tolist() == values


def test_a_failing_model_loses_no_finished_batch(tmp_path):
    texts = sorted(corpus(300), key=len)
    trace = tmp_path / "trace"
    with pytest.raises(UserError, match="too much"):
        run(tmp_path, Letters(refuses=texts[150], trace=trace), count=300)
    finished = lines(trace)
    assert finished > 0
    assert run(tmp_path, Letters(trace=trace), count=300).resumed == finished


def test_a_disk_without_room_is_told_and_mended(tmp_path):
    script = (
        "import resource, pyarrow as pa, sys\n"
        "from pathlib import Path\n"
        "from lingo_hitl.errors import UserError\n"
        "from lingo_hitl.models.bulk import compute_all\n"
        "from tests.models.letters import Letters, corpus\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))\n"
        "try: compute_all(pa.array(corpus(300)), Letters(), what='letters', folder=Path(sys.argv[1]))\n"
        "except UserError as error: print(error)\n"
    )
    said = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert f"{tmp_path / 'values.npy'}: cannot be written (File too large)" in said.stdout
    assert run(tmp_path, count=300).resumed == 0


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        run(tmp_path / "file" / "folder", count=10)


def test_two_runs_do_not_share_a_folder(tmp_path):
    class Nosy(Letters):
        def compute(self, items):
            with pytest.raises(UserError, match="another run works here"):
                run(tmp_path, count=10)
            return super().compute(items)

    assert run(tmp_path, Nosy(), count=10).resumed == 0
