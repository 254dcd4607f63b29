"""Who computes makes no difference: this process, several, or Ray's actors; and none is left behind."""

from __future__ import annotations

import importlib.util
import multiprocessing
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pytest

from lingo_hitl.errors import UserError
from lingo_hitl.models.bulk import Computed, compute_all
from lingo_hitl.models.causal_lm import PerplexityModel
from tests.models.letters import Letters, corpus

TEXTS = corpus(3000)
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the extra [ray] is not installed")


def run(folder: Path | None, model: Letters, **options) -> Computed:
    return compute_all(pa.array(TEXTS), model, what="letters", folder=folder, **options)


def shares(trace: Path) -> dict[str, int]:
    """Batches by the process that computed them."""
    pids = [line.split()[0] for line in trace.read_text().splitlines()]
    return {pid: pids.count(pid) for pid in pids}


def test_two_processes_give_what_one_gives(tmp_path):
    alone = run(tmp_path / "one", Letters())
    found = run(tmp_path / "two", Letters(trace=tmp_path / "trace"), workers=2)
    assert (tmp_path / "one/values.npy").read_bytes() == (tmp_path / "two/values.npy").read_bytes()
    assert found.index.tolist() == alone.index.tolist()
    assert sum(shares(tmp_path / "trace").values()) == found.batches == alone.batches
    assert not multiprocessing.active_children()


def test_a_worker_that_dies_is_told_and_what_is_done_is_kept(tmp_path):
    text = sorted(TEXTS, key=len)[1000]
    with pytest.raises(UserError, match="a worker process died"):
        run(tmp_path, Letters(dies_at=text), workers=2)
    assert not multiprocessing.active_children()
    found = run(tmp_path, Letters(trace=tmp_path / "trace"))
    assert 0 < found.resumed < found.batches
    assert sum(shares(tmp_path / "trace").values()) == found.batches - found.resumed


def test_what_a_model_says_in_a_worker_comes_home():
    with pytest.raises(UserError, match=f"'{TEXTS[7]}' is too much"):
        run(None, Letters(refuses=TEXTS[7]), workers=2)
    with pytest.raises(UserError, match="workers is 0; expected at least 1"):
        run(None, Letters(), workers=0)


@pytest.mark.model  # slow: four processes start
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_the_run(sent, tmp_path):
    trace = tmp_path / "trace"
    command = [sys.executable, "-m", "tests.models.letters", str(tmp_path / "work"), str(trace), "200000", "2"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not (trace.exists() and len(shares(trace)) == 2):
            time.sleep(0.01)
        workers = psutil.Process(process.pid).children(recursive=True)
        assert len(workers) >= 2
        process.send_signal(sent)
        assert process.wait(60) != 0
    assert not psutil.wait_procs(workers, timeout=60)[1]


@pytest.mark.model
def test_a_causal_model_scores_alike_in_two_processes(tiny_model):
    source = PerplexityModel(str(tiny_model), device="cpu")
    texts = pa.array(TEXTS[:200])
    alone = compute_all(texts, source, what="perplexity", folder=None)
    found = compute_all(texts, source, what="perplexity", folder=None, workers=2)
    assert np.allclose(found.values, alone.values, rtol=0, atol=1e-6, equal_nan=True)


@needs_ray
@pytest.mark.model
def test_two_actors_of_ray_give_what_one_process_gives(tiny_model, tmp_path):
    run(tmp_path / "one", Letters())
    found = run(tmp_path / "two", Letters(trace=tmp_path / "trace"), engine="ray", workers=2)
    assert (tmp_path / "one/values.npy").read_bytes() == (tmp_path / "two/values.npy").read_bytes()
    assert len(shares(tmp_path / "trace")) == 2
    assert sum(shares(tmp_path / "trace").values()) == found.batches

    source = PerplexityModel(str(tiny_model), device="cpu")
    texts = pa.array(TEXTS[:200])
    alone = compute_all(texts, source, what="perplexity", folder=None)
    found = compute_all(texts, source, what="perplexity", folder=None, engine="ray")
    assert np.allclose(found.values, alone.values, rtol=0, atol=1e-6, equal_nan=True)


@needs_ray
@pytest.mark.model
def test_what_goes_wrong_in_ray_is_told_in_a_line_and_what_is_done_is_kept(tmp_path):
    import ray

    text = sorted(TEXTS, key=len)[1000]
    with pytest.raises(UserError, match=f"'{text}' is too much"):
        run(tmp_path, Letters(refuses=text), engine="ray", workers=2)
    with pytest.raises(UserError, match="actor died"):
        run(tmp_path, Letters(dies_at=text), engine="ray", workers=2)
    assert not ray.is_initialized()
    found = run(tmp_path, Letters(trace=tmp_path / "trace"), engine="ray", workers=2)
    assert 0 < found.resumed < found.batches
    assert sum(shares(tmp_path / "trace").values()) == found.batches - found.resumed


@needs_ray
@pytest.mark.model
def test_a_cluster_that_runs_is_used_and_left_running(tmp_path, monkeypatch):
    import ray

    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(UserError, match="engine 'ray': no cluster"):
        run(None, Letters(), engine="ray")
    monkeypatch.delenv("RAY_ADDRESS")
    ray.init("local", num_cpus=2, include_dashboard=False, logging_level="ERROR")
    try:
        assert run(None, Letters(), engine="ray").batches > 0
        assert ray.is_initialized()
    finally:
        ray.shutdown()


@needs_ray
@pytest.mark.model
def test_a_cluster_of_its_own_is_reached_from_this_machine_only(tmp_path):
    started = time.time()

    class Looking(Letters):
        def encode(self, texts):
            listening = [
                (connection.laddr.ip, process.name())
                for process in psutil.Process().children(recursive=True)
                if process.create_time() > started - 1
                for connection in process.net_connections("inet")
                if connection.status == psutil.CONN_LISTEN and connection.family in (socket.AF_INET, socket.AF_INET6)
            ]
            (tmp_path / "seen").write_text("\n".join(f"{ip} {name}" for ip, name in listening))
            return texts

    run(None, Looking(), engine="ray", workers=2)
    seen = (tmp_path / "seen").read_text().splitlines()
    assert any("gcs_server" in line for line in seen)
    assert all(line.split()[0] in ("127.0.0.1", "::1", "::ffff:127.0.0.1") for line in seen), seen
