"""One event loop for everything that waits on models, in a thread of its own.

Callers are plain functions and may themselves run inside another event loop: nothing here minds.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

LONGEST_WAIT = 16
"""Batches of other groups after which a group comes first, however small it is."""

_lock = threading.Lock()
_started: dict[int, asyncio.AbstractEventLoop] = {}  # by process: a fork has a copy of the loop, but not its thread


def loop() -> asyncio.AbstractEventLoop:
    """The loop of this process, started at the first call."""
    with _lock:
        if os.getpid() not in _started:
            fresh = _started[os.getpid()] = asyncio.new_event_loop()
            threading.Thread(target=fresh.run_forever, name="models", daemon=True).start()
        return _started[os.getpid()]


def submit(work: Coroutine[Any, Any, Result]) -> Future[Result]:
    """Start `work` on the loop; from any other thread."""
    return asyncio.run_coroutine_threadsafe(work, loop())


class Batcher(Generic[Item, Result]):
    """Brings together what many coroutines ask for one by one, and works on it in a thread, some at a time.

    While a batch is worked on the next one gathers, so that the busier it is the larger the batches are. Of
    several groups the one that fills a batch best comes first, or one that has waited `LONGEST_WAIT` batches.

    Args:
        work: from a list of items to a list of results in the same order.
        most: items in one batch.
        patience_s: how long a first item waits for company.
        group: what all items of a batch have in common.
    """

    def __init__(
        self,
        work: Callable[[list[Item]], Sequence[Result]],
        *,
        most: int,
        patience_s: float = 0.0,
        group: Callable[[Item], Hashable] = lambda item: None,
    ) -> None:
        self._work, self._most, self._patience_s, self._group = work, most, patience_s, group
        self._waiting: dict[Hashable, deque[tuple[Item, asyncio.Future[Result], int]]] = {}
        self._batches = 0
        self._worker: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batches")

    async def __call__(self, item: Item) -> Result:
        """The result for one item.

        Raises:
            Exception: whatever `work` raised for the batch that it was in.
        """
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(self._group(item), deque()).append((item, future, self._batches))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._go_on())
        return await future

    async def _go_on(self) -> None:
        while self._waiting:
            await asyncio.sleep(self._patience_s)
            batch = self._next_batch()
            try:
                results = await asyncio.get_running_loop().run_in_executor(
                    self._thread, self._work, [item for item, _ in batch]
                )
            except Exception as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)

    def _next_batch(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        oldest = min(self._waiting, key=lambda group: self._waiting[group][0][2])
        fullest = max(self._waiting, key=lambda group: min(len(self._waiting[group]), self._most))
        late = self._batches - self._waiting[oldest][0][2] >= LONGEST_WAIT
        group = oldest if late else fullest
        items = self._waiting[group]
        batch = [items.popleft()[:2] for _ in range(min(self._most, len(items)))]
        if not items:
            del self._waiting[group]
        self._batches += 1
        return batch
