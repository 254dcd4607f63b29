"""Pipelines of models, drawn as on a whiteboard: `load >> [answer(model) for model in pool] >> group >> evolve`.

A step adds columns to a row. Each row goes through all steps by itself, many rows are under way at once,
and no row waits for another. A list of steps works on the same row side by side.
"""

from __future__ import annotations

import asyncio
import queue
import sys
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from itertools import count

from lingo_hitl.config import Engine
from lingo_hitl.llm_config import LLMSpec
from lingo_hitl.models.loop import loop, submit
from lingo_hitl.models.session import Session
from lingo_hitl.models.stop import Stopped
from lingo_hitl.progress import progress
from lingo_hitl.records import Row

WINDOW = 512
"""Rows under way at once; enough for hundreds of calls that take seconds each."""
WINDOW_BATCHES = 6
"""The same for models on this machine, in batches: more would not fill them better, and the first rows would be
finished with the last."""

Work = Callable[[Row], Awaitable[Row]]
"""From a row to the columns that are added to it."""


class Step(ABC):
    """One box on the whiteboard. Holds only what can be pickled; whatever is loaded belongs to `start`."""

    @property
    def models(self) -> tuple[LLMSpec, ...]:
        """The models that the step asks."""
        return ()

    @abstractmethod
    def start(self, session: Session) -> Work:
        """Load what the step needs, and give the function that does it.

        Raises:
            UserError: a model that cannot be had.
        """

    def __rshift__(self, after: Step | Sequence[Step]) -> Flow:
        return Flow((_side_by_side(self),)) >> after

    def __rrshift__(self, before: Sequence[Step]) -> Flow:
        return Flow((_side_by_side(before), (self,)))


@dataclass(frozen=True)
class Flow:
    """Steps in their order; those of one inner tuple work side by side."""

    steps: tuple[tuple[Step, ...], ...]

    @property
    def models(self) -> tuple[LLMSpec, ...]:
        """The models that the steps ask; one that several ask as often."""
        return tuple(spec for beside in self.steps for step in beside for spec in step.models)

    def __rshift__(self, after: Step | Sequence[Step]) -> Flow:
        return Flow((*self.steps, _side_by_side(after)))

    def start(self, session: Session) -> Work:
        """Load all steps, and give the function that takes a row through them.

        Raises:
            UserError: a model that cannot be had.
        """
        works = [[step.start(session) for step in beside] for beside in self.steps]

        async def go(row: Row) -> Row:
            for beside in works:
                row = await _through(beside, row)
            return row

        return go


@dataclass(frozen=True)
class Plain(Step):
    """A step that is a plain function at module level, from a row to new columns, and asks no model."""

    function: Callable[[Row], Row]

    def start(self, session: Session) -> Work:
        async def work(row: Row) -> Row:
            return self.function(row)

        return work


def _nothing(row: Row) -> Row:
    return {}


load = Plain(_nothing)
"""Where a flow begins: the rows as they come."""


def run_flow(
    flow: Flow | Step,
    rows: Iterable[Row],
    session: Session,
    *,
    what: str,
    total: int,
    window: int | None = None,
    engine: Engine = "local",
    workers: int | None = None,
) -> Iterator[Row]:
    """The rows with the columns that the flow adds, in their order, each as soon as it and those before are done.

    Rows are taken from `rows` only as others finish. On an error, and when the iterator is closed early,
    nothing more is asked; what is under way by then is paid for, comes home and is kept.

    Args:
        what: what is done, in words for the progress bar.
        total: how many rows there are.
        window: rows under way at once, as many as the models are good for where absent; on Ray the batches
            of its workers decide.
        engine: this process, or Ray; see `on_ray`.
        workers: on Ray the processes of each step that asks a model; 2 where absent.

    Raises:
        UserError: from a step; the run resumes where it stopped.
    """
    flow = Flow((_side_by_side(flow),)) if isinstance(flow, Step) else flow
    if engine == "ray":
        from lingo_hitl.models.on_ray import run_on_ray

        return run_on_ray(flow, rows, session, what=what, total=total, workers=workers)
    return _run(flow.start(session), rows, session, what, total, window or window_of(flow))


def window_of(flow: Flow) -> int:
    """How many rows a flow should have under way at once."""
    if not flow.models or not all(spec.runs_here for spec in flow.models):
        return WINDOW
    return WINDOW_BATCHES * max(spec.batch_size for spec in flow.models)


def _run(work: Work, rows: Iterable[Row], session: Session, what: str, total: int, window: int) -> Iterator[Row]:
    finished: queue.SimpleQueue[tuple[int, Row] | None] = queue.SimpleQueue()
    session.stop.clear()
    driver = submit(_drive(work, rows, session, window, finished))
    waiting: dict[int, Row] = {}
    place = 0
    try:
        with progress(what, total) as advance:
            while (done := finished.get()) is not None:
                advance()
                waiting[done[0]] = done[1]
                while place in waiting:
                    yield waiting.pop(place)
                    place += 1
        driver.result()
    except BaseException:
        loop().call_soon_threadsafe(session.stop.because, Stopped("nobody waits for more"))
        _wait_for_the_rest(driver, session)
        raise


def _wait_for_the_rest(driver: Future[None], session: Session) -> None:
    """What is under way is paid for: whoever is impatient only hears again how much that is."""
    patience_s: float | None = 0.5  # who waits for a key leaves at once, and is no reply on its way
    while True:
        try:
            driver.exception(patience_s)
            return
        except TimeoutError:
            patience_s = None
        except KeyboardInterrupt:
            pass
        said = f"Stopping: {session.calls_under_way} replies that are paid for are on their way."
        print(said, file=sys.stderr, flush=True)


async def _drive(
    work: Work,
    rows: Iterable[Row],
    session: Session,
    window: int,
    finished: queue.SimpleQueue[tuple[int, Row] | None],
) -> None:
    room = asyncio.Semaphore(window)
    running: set[asyncio.Task[None]] = set()

    async def one(place: int, row: Row) -> None:
        try:
            finished.put((place, await work(row)))
        except BaseException as fault:
            session.stop.because(fault)
        finally:
            room.release()

    source = iter(rows)
    take = partial(next, source, None)
    try:
        for place in count():
            await room.acquire()
            # In a thread: what makes the rows may be slow, and calls that are under way must not wait for it.
            row = await asyncio.get_running_loop().run_in_executor(None, take)
            if row is None or session.stop.fault is not None:
                break
            task = asyncio.create_task(one(place, row))
            running.add(task)
            task.add_done_callback(running.discard)
    except Exception as fault:  # of whatever makes the rows
        session.stop.because(fault)
    finally:
        if running:
            await asyncio.wait(running)
        await session.settled()
        finished.put(None)
    session.stop.check()


async def _through(beside: Sequence[Work], row: Row) -> Row:
    if len(beside) == 1:
        return {**row, **await beside[0](row)}
    results = await asyncio.gather(*(work(row) for work in beside))
    return {key: value for columns in (row, *results) for key, value in columns.items()}


def _side_by_side(steps: Step | Sequence[Step]) -> tuple[Step, ...]:
    return (steps,) if isinstance(steps, Step) else tuple(steps)
