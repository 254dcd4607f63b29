"""What the workers of a flow on Ray share: the rows, the journal, the news that the run is over.

The desk is an actor on the machine of the command. It alone opens the journal, for SQLite must not be
written to from several machines; the workers, wherever they are, keep their completions through it.
"""

from __future__ import annotations

import asyncio
import base64
import math
import pickle
import threading
import traceback
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lingo_hitl.errors import UserError
from lingo_hitl.models.completion import Completion
from lingo_hitl.models.journal import Entry, Journal
from lingo_hitl.models.session import SessionPlan
from lingo_hitl.models.tally import Tally

Parcel = tuple[int, str]
"""A row's place, and the row, packed."""
Counts = dict[tuple[str, str, int], int]
"""Requests by the key's variable, the model and the period; see `keys.PERIOD_S`."""


class Desk:
    """Rows out, rows in; to be made an actor. Whoever waits, waits in one of its methods."""

    def __init__(self, plan: SessionPlan) -> None:
        self._journal = Journal(plan.journal)
        self._journal.run = plan.run
        self._changed = asyncio.Condition()
        self._waiting: deque[Parcel] = deque()
        self._no_more = False
        self._done: list[Parcel] = []
        self._taken = self._back = 0
        self._fault: str | None = None
        self._over = asyncio.Event()
        self._tallies: dict[str, Tally] = {}
        self._present: set[str] = set()
        self._known: set[str] = set()

    # --- rows ---

    async def put(self, parcels: Sequence[Parcel], no_more: bool) -> None:
        """Rows that are to be worked on; with the last ones `no_more`."""
        async with self._changed:
            self._waiting.extend(parcels)
            self._no_more = no_more
            self._changed.notify_all()

    async def take(self, count: int) -> tuple[list[Parcel], bool]:
        """`count` rows, fewer only at the end, and whether they are the last; none when the run is over."""
        async with self._changed:
            # One more must be there before these are known not to be the last.
            await self._changed.wait_for(lambda: self._over.is_set() or self._no_more or len(self._waiting) > count)
            if self._over.is_set():
                return [], True
            parcels = [self._waiting.popleft() for _ in range(min(count, len(self._waiting)))]
            self._taken += len(parcels)
            return parcels, not self._waiting and self._no_more

    async def deliver(self, parcels: Sequence[Parcel], lost: int) -> None:
        """Rows that went through all steps, and how many did not because the run is over."""
        async with self._changed:
            self._done += parcels
            self._back += len(parcels) + lost
            self._changed.notify_all()

    async def results(self, patience_s: float) -> tuple[list[Parcel], str | None]:
        """Rows that have come in since the last call and the packed fault of the run, if there is one.

        Waits for either, `patience_s` seconds at most.
        """
        async with self._changed:
            try:
                news = self._changed.wait_for(lambda: bool(self._done) or self._fault is not None)
                await asyncio.wait_for(news, patience_s)
            except TimeoutError:
                pass
            done, self._done = self._done, []
            return done, self._fault

    # --- the end ---

    async def end(self, fault: str | None = None) -> None:
        """Have nothing more asked; the first `fault` is the run's."""
        async with self._changed:
            self._fault = self._fault or fault
            self._over.set()
            self._changed.notify_all()

    async def over(self) -> None:
        """Returns when the run is over."""
        await self._over.wait()

    async def is_quiet(self) -> bool:
        """Whether all rows that were taken are back."""
        return self._taken == self._back

    # --- workers ---

    async def count(self, worker: str, tally: Tally) -> None:
        """What a worker has asked so far."""
        self._tallies[worker] = tally

    async def tallies(self) -> list[Tally]:
        return list(self._tallies.values())

    async def come(self, worker: str) -> None:
        """A worker begins."""
        self._present.add(worker)
        self._known.add(worker)

    async def leave(self, worker: str) -> None:
        """A worker ends as it should."""
        self._present.discard(worker)

    async def workers(self) -> tuple[set[str], set[str]]:
        """Those that have begun and not ended as they should, and all that have begun."""
        return self._present, self._known

    # --- the journal ---

    async def get(self, key: bytes) -> Completion | None:
        return self._journal.get(key)

    async def keep(self, entries: Sequence[Entry], requests: Counts, used: Sequence[bytes]) -> None:
        """Have completions, counted requests and marks of what was replayed on disk."""
        for name, count in requests.items():
            for _ in range(count):
                self._journal.count_request(*name)
        for key in used:
            self._journal.mark_used(key)
        await asyncio.to_thread(self._journal.put, entries)

    async def requests_since(self, variable: str, model: str, since: int) -> dict[int, int]:
        return self._journal.requests_since(variable, model, since=since)

    async def spent(self) -> dict[str, float]:
        return self._journal.spent()


class DistantJournal(Journal):
    """The desk's journal, as a worker sees it.

    Args:
        path: what the journal is called in errors.
        share: workers that use the same keys; each counts its share of the requests so far as its own.
    """

    def __init__(self, desk: Any, path: Path | None, *, share: int) -> None:
        self.path = path
        self.run = None
        self._desk, self._share = desk, share
        self._lock, self._counting = threading.RLock(), threading.Lock()
        self._requests, self._spent_here = Counter(), Counter()
        self._used = []
        self._writer = None

    def get(self, key: bytes) -> Completion | None:
        return _of(self._desk.get.remote(key))

    def put(self, entries: Sequence[Entry]) -> list[None]:
        with self._counting:
            requests, self._requests = self._requests, Counter()
            used, self._used = self._used, []
        with self._lock:
            for entry in entries:
                self._spent_here[entry.currency] += entry.completion.cost or 0.0  # type: ignore[assignment]  # floats
        if entries or requests or used:
            _of(self._desk.keep.remote(entries, dict(requests), used))
        return [None] * len(entries)

    def requests_since(self, variable: str, model: str, *, since: int) -> dict[int, int]:
        counts = _of(self._desk.requests_since.remote(variable, model, since))
        share = Counter({period: math.ceil(count / self._share) for period, count in counts.items()})
        return dict(share + self._uncounted(variable, model))

    def spent(self) -> dict[str, float]:
        return dict(_of(self._desk.spent.remote()))

    def close(self) -> None:
        """Nothing: the file is the desk's."""


def _of(reference: Any) -> Any:
    import ray
    from ray.exceptions import RayTaskError

    try:
        return ray.get(reference)
    except RayTaskError as error:  # e.g. a full disk, in the journal's own words
        raise error.cause from error


def packed(content: Any) -> str:
    """Anything as text, for distilabel writes what passes between its steps as JSON."""
    return base64.b64encode(pickle.dumps(content)).decode()


def unpacked(text: str) -> Any:
    return pickle.loads(base64.b64decode(text))


def packed_fault(fault: BaseException) -> str:
    """An error as text; one that is not the user's carries where it came from."""
    if not isinstance(fault, UserError):
        fault.add_note("".join(traceback.format_exception(fault)))
    try:
        unpacked(text := packed(fault))
    except Exception:  # some errors cannot be made anew from their text
        return packed(RuntimeError("".join(traceback.format_exception(fault))))
    return text
