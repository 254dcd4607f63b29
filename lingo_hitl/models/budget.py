"""No call starts that might cost more than is left.

`max_cost` is what the project may pay in all its runs together: its journal remembers what was paid, also
for completions that were pruned since. A call counts as paid for with the tokens that its reply tells; one
that is under way counts with the most it may cost. Calls that failed, and calls whose price was not
known when they were made, count nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from lingo_hitl.errors import UserError
from lingo_hitl.llm_config import BudgetConfig
from lingo_hitl.models.completion import Completion
from lingo_hitl.models.journal import Journal
from lingo_hitl.models.prices import SHIPPED, load_prices
from lingo_hitl.models.stop import Stop

READ_EVERY_S = 1.0
"""How often the journal is asked what other processes have paid: by so much they may overshoot together."""


class Budget:
    """What may be paid, what was, and what calls under way may cost; for one event loop.

    Args:
        stop: whether the run is over.
    """

    def __init__(self, config: BudgetConfig, journal: Journal, stop: Stop) -> None:
        """Read the prices.

        Raises:
            UserError: the price table cannot be read.
        """
        self.config = config
        self.max_cost = config.max_cost
        self.prices = load_prices(config.prices)
        self._journal, self._stop = journal, stop
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()
        self._calls, self._under_way = 0, 0.0  # how many, and what they may cost
        self._paid_here = 0.0
        self._before = journal.spent_here(self.prices.currency)
        self._others = 0.0
        self._read_at = 0.0

    def check(self, model: str) -> None:
        """Refuse a model whose price is not known, where there is a limit.

        Raises:
            UserError: that, or a journal whose costs are in another currency.
        """
        if self.max_cost is None:
            return
        if self.prices.of(model) is None:
            place = self.config.prices or SHIPPED
            raise UserError(
                f"{model}: its price is not in {place}, so that budget.max_cost cannot be kept. Write it into a "
                f"file that budget.prices names: 'models: {{{model}: {{input: ..., output: ...}}}}' per million "
                "tokens (0 for a server of your own)."
            )
        if strange := set(self._journal.spent()) - {self.prices.currency}:
            raise UserError(
                f"{self._journal.path}: has costs in {', '.join(sorted(strange))}, and the price table is in "
                f"{self.prices.currency}: budget.max_cost cannot be kept. Use prices in the same currency."
            )

    @asynccontextmanager
    async def room(self, model: str, *, size: int, max_new_tokens: int) -> AsyncIterator[None]:
        """While a call is under way: what it may cost at most is set aside. Waits until that fits.

        Args:
            size: bytes of all that is sent; a token has at least one.

        Raises:
            UserError: it would not fit even when all that is under way has come home.
        """
        price = self.prices.of(model)
        most = price.of(size, max_new_tokens) if price else 0.0
        if self.max_cost is None or not most:
            yield
            return
        async with self._turn:
            while not self._fits(most):
                self._stop.check()
                if not self._calls:
                    raise self._used_up(model, most)
                self._changed.clear()
                await self._changed.wait()
            self._calls, self._under_way = self._calls + 1, self._under_way + most
        try:
            yield
        finally:
            self._calls -= 1
            self._under_way = self._under_way - most if self._calls else 0.0
            self._changed.set()

    def pay(self, model: str, completion: Completion) -> Completion:
        """The completion with what it cost, which is spent now; as it is where no price is known."""
        price = self.prices.of(model)
        if price is None or not completion.lasting:
            return completion
        cost = price.of(completion.input_tokens, completion.output_tokens)
        self._paid_here += cost
        return replace(completion, cost=cost)

    def spent(self) -> float:
        """What the project has paid so far, in the currency of the prices."""
        self._read_at = asyncio.get_running_loop().time()
        self._others = self._before + self._journal.spent_by_others(self.prices.currency)
        return self._others + self._paid_here

    def _fits(self, most: float) -> bool:
        assert self.max_cost is not None
        if asyncio.get_running_loop().time() >= self._read_at + READ_EVERY_S or not self._calls:
            self.spent()
        return self._others + self._paid_here + self._under_way + most <= self.max_cost

    def _used_up(self, model: str, most: float) -> UserError:
        currency, spent = self.prices.currency, self._others + self._paid_here
        return UserError(
            f"{currency} {spent:.4f} of budget.max_cost {self.max_cost:g} are spent, and one more call of {model} may "
            f"cost {most:.4f}. What is done is kept: raise budget.max_cost and run again, the run goes on from here."
        )
