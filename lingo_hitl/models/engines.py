"""Who computes the batches of a corpus: this process, several processes, or the actors of a Ray cluster.

Whoever computes only computes: the calling process cuts the batches and keeps what comes back, so no two
processes ever write one file. Results come in any order.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from numpy.typing import NDArray

from lingo_hitl.config import Engine
from lingo_hitl.errors import UserError

if TYPE_CHECKING:
    from lingo_hitl.models.bulk import Batch, ModelSource, TextModel

Result = tuple["Batch", NDArray[Any]]

IN_FLIGHT = 3  # batches that a worker process has or that wait at its door
WINDOW_BYTES = 256_000_000  # of items that are in Ray's object store at once; the actors are made anew for each window
_RAY_WORKERS = 2
_BATCHES_IN_BLOCK = 4
_RESTARTS = 2  # of an actor that died, as on a machine that was taken away; Ray would try for ever


def run(
    engine: Engine, source: ModelSource, model: TextModel, batches: Iterator[Batch], workers: int | None
) -> Generator[Result, None, None]:
    """Each batch with its values, [len(batch.places), width], as soon as they are there; in any order.

    `model` is the one of this process. `workers`: see `bulk.compute_all`. Close the iterator to stop early.

    Raises:
        UserError: a worker died, Ray is not installed or not reachable, or what the model itself raises.
    """
    if workers is not None and workers < 1:
        raise UserError(f"workers is {workers}; expected at least 1.")
    if engine == "ray":
        return _on_ray(source, batches, workers)
    devices = _devices(source, workers)
    return _in_processes(source, batches, devices) if len(devices) > 1 else _here(model, batches)


def _here(model: TextModel, batches: Iterator[Batch]) -> Generator[Result, None, None]:
    for batch in batches:
        yield batch, model.compute(batch.items)


# --- several processes of this machine ---------------------------------------------------------------


def _devices(source: ModelSource, workers: int | None) -> list[str | None]:
    """For each worker the device that it is told to use: the GPUs in turn, where a GPU is not ruled out."""
    gpus = _gpus() if workers != 1 and source.device in (None, "cuda") else 0
    return [f"cuda:{n % gpus}" if gpus > 1 else None for n in range(workers or max(1, gpus))]


def _gpus() -> int:
    torch = sys.modules.get("torch")  # a model that computes with it has imported it by now
    return int(torch.cuda.device_count()) if torch else 0


def _in_processes(
    source: ModelSource, batches: Iterator[Batch], devices: list[str | None]
) -> Generator[Result, None, None]:
    # Never fork: neither CUDA nor the threads of torch and Arrow survive it.
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    for device in devices:
        queue.put(device)
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        len(devices), context, initializer=_begin, initargs=(source, queue, max(1, _cores() // len(devices)))
    )
    away: dict[Future[NDArray[Any]], Batch] = {}
    try:
        for batch in batches:
            away[pool.submit(_compute, batch.items)] = batch
            if len(away) >= IN_FLIGHT * len(devices):
                yield from _returned(away)
        while away:
            yield from _returned(away)
        pool.shutdown()
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process died; often the memory was full. Finished batches are kept: "
            "run again, if need be with fewer workers."
        ) from error
    finally:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        pool.shutdown(cancel_futures=True)


def _returned(away: dict[Future[NDArray[Any]], Batch]) -> Generator[Result, None, None]:
    """Wait until something is back, and take it out of `away`."""
    returned = wait(away, return_when=FIRST_COMPLETED).done
    for future in sorted(returned, key=lambda future: future.exception() is not None):  # what is done is kept first
        yield away.pop(future), future.result()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Worker:
    """What a worker process knows; its model is loaded with the first batch, so that an error has a way home."""

    source: ModelSource
    model: TextModel | None = None


def _begin(source: ModelSource, devices: Any, threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the parent ends this one
    threading.Thread(target=_end_with_parent, daemon=True).start()
    device = devices.get()
    _Worker.source = source.on(device) if device else source
    _use_threads(threads)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os._exit(1)


def _use_threads(count: int) -> None:
    """Threads for all that computes in this process; workers that each take every core get in each other's way."""
    from threadpoolctl import threadpool_limits

    count = min(count, int(os.environ.get("OMP_NUM_THREADS", count)))
    os.environ["OMP_NUM_THREADS"] = str(count)  # read by torch when it is imported
    threadpool_limits(count)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)


def _compute(items: list[Any]) -> NDArray[Any]:
    if _Worker.model is None:
        _Worker.model = _Worker.source.load()
    return _Worker.model.compute(items)


# --- Ray ---------------------------------------------------------------------------------------------


class _Actor:
    """A worker of a Ray Data pipeline: loads its model with the first block, then computes whatever comes."""

    def __init__(self, source: ModelSource) -> None:
        self._source = source
        self._model: TextModel | None = None

    def __call__(self, block: pa.Table) -> pa.Table:
        """From `number` and `items` to `number`, `values` and `error`: what the user did wrong, or null."""
        values: list[bytes | None] = []
        error = None
        try:
            self._model = self._model or self._source.load()
            for items in block["items"]:
                values.append(pickle.dumps(self._model.compute(pickle.loads(items.as_py()))))
        except UserError as seen:  # as data, for Ray would wrap it in a traceback
            error = str(seen)
        values += [None] * (len(block) - len(values))
        columns = {
            "values": pa.array(values, pa.large_binary()),
            "error": pa.repeat(pa.scalar(error, pa.string()), len(block)),
        }
        return pa.table({"number": block["number"], **columns})


def _on_ray(source: ModelSource, batches: Iterator[Batch], workers: int | None) -> Generator[Result, None, None]:
    """The batches as Ray datasets, one after the other, for all of them might not fit in its object store."""
    with ray_cluster() as ray:
        gpus = ray.cluster_resources().get("GPU", 0) if source.device in (None, "cuda") else 0
        workers = workers or int(gpus) or _RAY_WORKERS
        most = max(node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"])
        cpus = min(most, ray.cluster_resources().get("CPU", 0) / workers)  # more than a machine has is never granted
        # Ray gives a worker as many threads as it was promised CPUs.
        share = {"num_gpus": min(1, gpus / workers)} if gpus else {"num_cpus": int(cpus) or cpus}
        for window in _windows(batches):
            # A block costs Ray some 10 ms, and its batches come back together.
            blocks = max(min(len(window), 8 * workers), len(window) // _BATCHES_IN_BLOCK)
            rows = [{"number": n, "items": items} for n, (_, items) in enumerate(window)]
            dataset = ray.data.from_items(rows, override_num_blocks=blocks)
            for block in _mapped(dataset, source, workers, share).iter_batches(batch_size=None, batch_format="pyarrow"):
                for row in block.to_pylist():
                    if row["values"] is None:
                        raise UserError(row["error"])
                    yield window[row["number"]][0], pickle.loads(row["values"])


def _mapped(dataset: Any, source: ModelSource, workers: int, share: dict[str, float]) -> Any:
    with warnings.catch_warnings():
        # Ray 2.60 deprecates every way to limit restarts; without a limit a batch that kills its actor hangs the run.
        warnings.filterwarnings("ignore", message=".*ray_remote_args")
        return dataset.map_batches(
            _Actor,
            fn_constructor_args=(source,),
            batch_size=None,
            batch_format="pyarrow",
            concurrency=workers,
            max_restarts=_RESTARTS,
            max_task_retries=_RESTARTS,
            **share,
        )


def _windows(batches: Iterator[Batch]) -> Iterator[list[tuple[Batch, bytes]]]:
    """Batches with their items pickled instead, as many as `WINDOW_BYTES` hold."""
    window: list[tuple[Batch, bytes]] = []
    size = 0
    for batch in batches:
        items = pickle.dumps(batch.items)
        window.append((replace(batch, items=[]), items))
        size += len(items)
        if size >= WINDOW_BYTES:
            yield window
            window, size = [], 0
    if window:
        yield window


@contextmanager
def ray_cluster() -> Iterator[Any]:
    """Ray, connected: to the session's cluster, that of RAY_ADDRESS, or one of its own on the loopback only."""
    address = os.environ.get("RAY_ADDRESS")
    settings = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}
    if not address:
        # What Ray does on a desktop system: else its ports, which run whatever they are sent, face the network.
        settings["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update({name: value for name, value in settings.items() if before[name] is None})
    try:
        import ray
        import ray.data
    except ImportError:
        raise UserError("engine 'ray': Ray is not installed. Run `pip install 'lingo-hitl[ray]'`.") from None
    ours = not ray.is_initialized()
    try:
        if ours:
            try:
                if address:
                    _knock(address)
                ray.init(address or "local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
            except (OSError, RuntimeError, ValueError) as error:
                raise UserError(
                    f"engine 'ray': no cluster at '{address or 'this machine'}' ({error}). "
                    "Expected RAY_ADDRESS to be host:port of one that runs, or unset for one on this machine."
                ) from error
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        ray.data.DataContext.get_current().enable_progress_bars = False
        yield ray
    except ray.exceptions.RayTaskError:  # not the user's: a traceback is right
        raise
    except ray.exceptions.RayError as error:
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserError(
            f"engine 'ray': {first[:300]} Finished batches are kept: run again, if need be with fewer workers."
        ) from error
    finally:
        if ours:
            ray.shutdown()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)


def _knock(address: str) -> None:
    """Raise OSError if nobody answers there; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()
