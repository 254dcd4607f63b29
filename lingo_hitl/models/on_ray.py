"""A flow on Ray: the same steps as a distilabel Pipeline, each with several workers, on one machine or many.

    Rows -> one `Worker` step for each of the flow's, side by side where they are -> Home

Rows come and go through the desk (`ray_desk`) as in `run_flow`: lazily, in their order. The pipeline runs in an
actor of its own, since distilabel takes over the logging, the signals and the working folder of its process.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from lingo_hitl.errors import UserError
from lingo_hitl.models.engines import ray_cluster
from lingo_hitl.models.flow import Flow, load
from lingo_hitl.models.ray_desk import Desk, Parcel, packed, unpacked
from lingo_hitl.models.ray_pipeline import Job, jobs_of, pipeline_of, share_of
from lingo_hitl.models.session import Session
from lingo_hitl.progress import progress
from lingo_hitl.records import Row

WORKERS = 2
BATCH_ROWS = 64  # that a worker has under way; the last of them holds the next ones
_BATCHES = 2  # for each worker of the first step: one in work, one at the door
_LOOK_S = 1.0  # between two looks whether all workers live


def run_on_ray(
    flow: Flow, rows: Iterable[Row], session: Session, *, what: str, total: int, workers: int | None = None
) -> Iterator[Row]:
    """The rows with the columns that the flow adds, in their order; see `flow.run_flow`.

    Ray is the cluster of RAY_ADDRESS, or one on this machine for as long as this takes. Every machine of a
    cluster needs lingo-hitl, the API keys in its environment, and the files that the config names.

    Args:
        workers: processes for each step that asks a model; 2 where absent.

    Raises:
        UserError: from a step; a worker died; Ray is not installed or not reachable. What is complete is in
            the journal: a run goes on from there.
    """
    if workers is not None and workers < 1:
        raise UserError(f"workers is {workers}; expected at least 1.")
    if os.environ.get("RAY_ADDRESS", "").startswith("ray://"):
        raise UserError(
            f"RAY_ADDRESS is {os.environ['RAY_ADDRESS']}: the journal must lie on a machine of the cluster. "
            "Run the command there, with host:port of the cluster's head."
        )
    return _run(flow, iter(rows), session, what, total, workers or WORKERS)


def _run(flow: Flow, rows: Iterator[Row], session: Session, what: str, total: int, workers: int) -> Iterator[Row]:
    steps = [beside for beside in flow.steps if beside != (load,)]
    first = next(rows, None)
    if first is None:
        return
    with (
        ray_cluster() as ray,
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch,
        progress(what, total) as advance,
    ):
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        name = f"lingo-{uuid.uuid4().hex[:12]}"
        batch = max(1, min(BATCH_ROWS, math.ceil(total / (_BATCHES * workers))))
        chunk = batch * _BATCHES * workers
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        desk = ray.remote(Desk).options(name=name, num_cpus=0, scheduling_strategy=here).remote(session.plan)
        runner = ray.remote(_Runner).options(num_cpus=0, scheduling_strategy=here).remote(scratch)
        jobs, share = jobs_of(steps, session, workers), share_of(ray, steps, workers)
        running = runner.run.remote(name, jobs, workers, batch, chunk, share)
        watch = _Watch(ray, desk, name, running)
        waiting: dict[int, Row] = {}
        taken = given = 0
        more = True
        source = _chain(first, rows)
        try:
            while more or given < taken:
                # Beyond what all steps together have under way, nothing is gained.
                while more and taken - given < chunk * (len(steps) + 1):
                    parcels = [(taken + n, packed(row)) for n, row in enumerate(islice(source, chunk))]
                    taken += len(parcels)
                    more = len(parcels) == chunk
                    ray.get(desk.put.remote(parcels, not more))
                for place, row in watch.results():
                    waiting[place] = unpacked(row)
                    advance()
                while given in waiting:
                    yield waiting.pop(given)
                    given += 1
        except BaseException:
            watch.settle()
            raise
        finally:
            for tally in watch.tallies():
                session.tally.add(tally)
            for actor in (runner, desk):  # what the runner has started ends with it
                ray.kill(actor)


class _Watch:
    """The command's side of a run: results, faults, and whether everybody still lives."""

    def __init__(self, ray: Any, desk: Any, name: str, running: Any) -> None:
        self._ray, self._desk, self._name, self._running = ray, desk, name, running
        self._seen: set[str] = set()
        self._looked = 0.0  # on the monotonic clock

    def results(self) -> list[Parcel]:
        """Rows that are done; none where there were none for `_LOOK_S` seconds.

        Raises:
            UserError: a worker died.
            Exception: what a step raised.
        """
        done, fault = self._ray.get(self._desk.results.remote(_LOOK_S))
        if fault is not None:
            raise unpacked(fault)
        if time.monotonic() - self._looked > _LOOK_S:
            self._look()
        return list(done)

    def settle(self) -> None:
        """Have nothing more asked, and wait for what is under way, which is paid for."""
        from ray.exceptions import RayError

        try:
            self._ray.get(self._desk.end.remote())
            while not self._ray.get(self._desk.is_quiet.remote()):
                self._look()
                self._ray.wait([self._running], timeout=_LOOK_S / 4)
        except (RayError, UserError):  # the error that led here says more
            return

    def tallies(self) -> list[Any]:
        from ray.exceptions import RayError

        try:
            return list(self._ray.get(self._desk.tallies.remote()))
        except RayError:  # the error that led here says more
            return []

    def _look(self) -> None:
        """distilabel would wait for ever for a worker that died."""
        from ray.util import list_named_actors

        self._looked = time.monotonic()
        before = set(list_named_actors())
        present, known = self._ray.get(self._desk.workers.remote())
        now = set(list_named_actors())
        dead = (present - before - now) | (self._seen - known - now)
        self._seen |= {actor for actor in now if self._name in actor}
        if self._ray.wait([self._running], timeout=0)[0]:
            self._ray.get(self._running)  # raises what it raised
            dead.add("the pipeline")
        if dead:
            raise UserError(
                "engine 'ray': a worker process died; often the memory was full. Finished completions are kept: "
                "run again, if need be with fewer workers."
            )


class _Runner:
    """Runs the pipeline; an actor, which owns all the others of the run."""

    def __init__(self, scratch: str) -> None:
        self._scratch = scratch
        os.environ["HF_DATASETS_CACHE"] = scratch  # where distilabel's result would be laid down a second time

    def run(
        self, name: str, jobs: list[list[Job]], workers: int, batch: int, chunk: int, share: dict[str, float]
    ) -> None:
        pipeline_of(name, jobs, workers, batch, chunk, share, self._scratch).run(use_cache=False)


def _chain(first: Row, rows: Iterator[Row]) -> Iterator[Row]:
    yield first
    yield from rows
