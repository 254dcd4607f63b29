"""What all models of a run share: the journal, the API keys with their quotas, and the counts."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lingo_hitl.errors import UserError
from lingo_hitl.llm_config import BudgetConfig, LLMSpec, Quota
from lingo_hitl.models.budget import Budget
from lingo_hitl.models.completion import Completion
from lingo_hitl.models.journal import Entry, Journal, Run
from lingo_hitl.models.keys import Key, KeyPool
from lingo_hitl.models.loop import submit
from lingo_hitl.models.stop import Stop, Stopped
from lingo_hitl.models.tally import Tally

if TYPE_CHECKING:
    from lingo_hitl.models.chat import ChatModel, Request, Sampling

MOST_THREADS = 512
"""Calls that wait in threads at once; a thread is started only where all others wait."""


@dataclass(frozen=True)
class SessionPlan:
    """How a session is made anew in another process."""

    journal: Path | None
    quotas: Mapping[str, Quota]
    budget: BudgetConfig
    offline: bool
    run: Run | None

    def open(self) -> Session:
        """The session of this process for this plan; one, however many ask."""
        name = f"{os.getpid()} {self}"
        if (found := _opened.get(name)) is None:
            found = _opened[name] = self.on(Journal(self.journal))
        return found

    def on(self, journal: Journal) -> Session:
        """A session like that, on a journal that is open."""
        journal.run = self.run
        return Session(journal, quotas=self.quotas, budget=self.budget, offline=self.offline)


class Session:
    """The journal, keys and counts of a run.

    Equal calls that are under way at the same time are one call. Pickled, it carries its plan, and is one
    session again in each process.

    Args:
        quotas: by the environment variable of a key: what it may be used for in a minute and a day, for each model.
        budget: what may be paid, and the prices.
        offline: replay only; what the journal does not have is an error.

    Raises:
        UserError: the price table cannot be read.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        quotas: Mapping[str, Quota] | None = None,
        budget: BudgetConfig | None = None,
        offline: bool = False,
    ) -> None:
        self.journal = journal
        self.quotas = dict(quotas or {})
        self.offline = offline
        self.tally = Tally()
        self.stop = Stop()
        self.budget = Budget(budget or BudgetConfig(), journal, self.stop)
        self.threads = ThreadPoolExecutor(MOST_THREADS, thread_name_prefix="calls")
        self._under_way: dict[bytes, asyncio.Task[Completion]] = {}
        self._keys: dict[tuple[str, str], Key] = {}
        self._pools: dict[tuple[str, tuple[str, ...]], KeyPool] = {}

    @classmethod
    def in_memory(cls) -> Session:
        return cls(Journal.in_memory())

    def llm(self, spec: LLMSpec) -> ChatModel:
        """A loaded model; see `llm.load_llm`.

        Raises:
            UserError: as there, or its price is not known where the budget has a limit.
        """
        from lingo_hitl.models.llm import load_llm

        if not self.offline:
            self.budget.check(spec.model)
        return load_llm(spec, session=self)

    def pool(self, model: str, keys: list[Key], *, patience_s: float, endpoint: str | None = None) -> KeyPool:
        """The pool of these keys for a model at an endpoint: one, however many specs name them.

        A key that other specs for the model name among other keys has one quota for all of them.
        """
        # Told apart by what cannot be read: an endpoint may hold what is nobody's business.
        counted_as = f"{model} {hashlib.sha256(endpoint.encode()).hexdigest()[:12]}" if endpoint else model
        keys = [self._keys.setdefault((counted_as, key.variable), key) for key in keys]
        name = (counted_as, tuple(key.variable for key in keys))
        if name not in self._pools:
            self._pools[name] = KeyPool(
                counted_as, keys, patience_s=patience_s, stop=self.stop, journal=self.journal, shown_as=model
            )
        return self._pools[name]

    async def once(self, key: bytes, model: ChatModel, request: Request, sampling: Sampling) -> Completion:
        """The completion under `key`: replayed, or asked for and on disk before this returns."""
        if (under_way := self._under_way.get(key)) is None:
            if (known := self.journal.get(key)) is not None:
                self.tally.of(model.spec.portable).replayed += 1
                self.journal.mark_used(key)
                return known
            if self.offline:
                raise UserError(
                    f"{model.spec.model}: the journal {self.journal.path} lacks a completion that this run needs. "
                    "Run without --offline, or with the journal that has it."
                )
            under_way = self._under_way[key] = asyncio.create_task(self._keep(key, model, request, sampling))
            under_way.add_done_callback(lambda _: self._under_way.pop(key, None))
        # Whoever waits may be cancelled; what is paid for still comes home.
        return await asyncio.shield(under_way)

    @property
    def calls_under_way(self) -> int:
        """Calls that are waited for, for a key or for a reply."""
        return len(self._under_way)

    async def settled(self) -> None:
        """Wait until no call is under way."""
        while self._under_way:
            await asyncio.wait(list(self._under_way.values()))

    def close(self) -> None:
        """Ask nothing more, and wait for what is under way: it is paid for, and the journal must still be open."""

        async def end() -> None:
            self.stop.because(Stopped("the session is closed"))
            await self.settled()

        ended = submit(end())
        while not ended.done():
            with suppress(KeyboardInterrupt):
                ended.result()
        self.threads.shutdown(wait=False)

    def report(self) -> dict[str, Any]:
        """What was asked by model and by the variable of each key, for a stage's manifest."""
        return {"models": self.tally.models(), "keys": self.tally.keys(), "currency": self.budget.prices.currency}

    async def _keep(self, key: bytes, model: ChatModel, request: Request, sampling: Sampling) -> Completion:
        self.stop.check()
        completion = await model.answer(request, sampling)
        if completion.cost is None:
            completion = self.budget.pay(model.spec.model, completion)
        await self.journal.keep(Entry(key, model.spec.portable, completion, self.budget.prices.currency))
        return completion

    @property
    def plan(self) -> SessionPlan:
        """How this session is made anew elsewhere."""
        path = self.journal.path and self.journal.path.absolute()
        return SessionPlan(path, self.quotas, self.budget.config, self.offline, self.journal.run)

    def __reduce__(self) -> tuple[Callable[[SessionPlan], Session], tuple[SessionPlan]]:
        return _reopened, (self.plan,)


_opened: dict[str, Session] = {}


def _reopened(plan: SessionPlan) -> Session:
    return plan.open()
