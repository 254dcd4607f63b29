"""How many calls, tokens, how much money and time a stage will take, scaled up from a rehearsal of some rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from lingo_hitl.config import BudgetConfig, Quota
from lingo_hitl.errors import UserError
from lingo_hitl.models.flow import Flow
from lingo_hitl.models.journal import Journal
from lingo_hitl.models.keys import Key
from lingo_hitl.models.prices import LOCAL, Price, load_prices
from lingo_hitl.models.rehearsal import ASSUMED_SECONDS, ENOUGH, Asked, Rehearsal, Rehearsed
from lingo_hitl.models.remote import RemoteModel
from lingo_hitl.records import Row

REHEARSED = 24
"""Rows of each flow that are rehearsed."""
_DAY_MIN = 24 * 60


@dataclass(frozen=True)
class Plan:
    """A flow with the rows that a stage would take through it."""

    what: str
    flow: Flow
    rows: Callable[[], Iterable[Row]]
    total: int

    def spread(self, count: int) -> list[int]:
        """Places of `count` rows, evenly spread."""
        return [i * self.total // count for i in range(count)] if self.total > count else list(range(self.total))

    def taken(self, places: Sequence[int]) -> Iterator[Row]:
        """The rows at these places, in their order."""
        wanted = set(places)
        return (row for place, row in enumerate(self.rows()) if place in wanted)


@dataclass(frozen=True)
class ModelEstimate:
    """What is still to be asked of one model."""

    model: str
    calls: float
    input_tokens: float
    output_tokens: float
    cost: float | None  # None: its price is not known
    minutes: float | None  # None: a model on this machine that the journal does not know
    bound_by: str  # what keeps it from being faster
    lengths: str  # where the lengths of its replies come from: "journal" or "assumed"


@dataclass(frozen=True)
class Estimate:
    """What a stage is still to ask, in the currency of the price table.

    Attributes:
        rows: rows that go through a flow of models.
        rows_left: about how many of them ask for something that the journal does not have.
        measured: rows whose replies are all in the journal, and that the estimate was taken from; 0: it
            was taken from made-up replies.
        minutes: for all models; they work side by side.
    """

    rows: int
    rows_left: float
    measured: int
    models: list[ModelEstimate]
    minutes: float
    currency: str
    cost: float
    spent: float
    max_cost: float | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def estimate(
    plans: Sequence[Plan],
    journal: Journal,
    *,
    quotas: Mapping[str, Quota],
    budget: BudgetConfig,
    asked: int = 0,
) -> Estimate:
    """What the plans will still take. No call is made.

    Args:
        asked: so many rows of each plan, evenly spread, were asked for real before.

    Raises:
        UserError: a model that is not known; a price table that cannot be read.
    """
    prices = load_prices(budget.prices)
    parts = [_part(plan, Rehearsal(journal, quotas=quotas, budget=budget), asked) for plan in plans]
    models = [
        _summed([part.models[name] for part in parts if name in part.models], prices.of(name))
        for name in dict.fromkeys(name for part in parts for name in part.models)
    ]
    return Estimate(
        rows=sum(plan.total for plan in plans),
        rows_left=sum(part.left for part in parts),
        measured=sum(part.measured for part in parts),
        models=models,
        # Models of a flow work side by side, flows one after another.
        minutes=sum(max((one.minutes or 0.0 for one in part.models.values()), default=0.0) for part in parts),
        currency=prices.currency,
        cost=sum(model.cost or 0.0 for model in models),
        spent=journal.spent().get(prices.currency, 0.0),
        max_cost=budget.max_cost,
    )


@dataclass(frozen=True)
class _Part:
    """What one plan takes."""

    left: float
    measured: int
    models: dict[str, ModelEstimate]


def _part(plan: Plan, session: Rehearsal, asked: int) -> _Part:
    places = sorted({*plan.spread(asked), *plan.spread(REHEARSED)}) if asked else plan.spread(REHEARSED)
    session.run(plan.flow, plan.taken(places))  # the lengths of what is known, for what is not
    rehearsed = session.run(plan.flow, plan.taken(places))
    left, of_row, measured = _scaled(plan, places, asked, rehearsed)
    models = {}
    for name, one in of_row.items():
        calls, tokens = one.calls * left, one.input_tokens * left
        minutes, bound_by = _minutes(rehearsed, session, name, one, calls)
        lengths = "journal" if session.knows(name) else "assumed"
        models[name] = ModelEstimate(name, calls, tokens, one.output_tokens * left, None, minutes, bound_by, lengths)
    return _Part(left, measured, models)


def _summed(parts: Sequence[ModelEstimate], price: Price | None) -> ModelEstimate:
    tokens = (sum(part.input_tokens for part in parts), sum(part.output_tokens for part in parts))
    times = [part.minutes for part in parts if part.minutes is not None]
    return replace(
        max(parts, key=lambda part: part.calls),
        calls=sum(part.calls for part in parts),
        input_tokens=tokens[0],
        output_tokens=tokens[1],
        cost=None if price is None else price.of(*tokens),
        minutes=sum(times) if len(times) == len(parts) else None,
    )


def _scaled(plan: Plan, places: Sequence[int], asked: int, rehearsed: Rehearsed) -> tuple[float, dict[str, Asked], int]:
    """Rows that are still to be asked, what one of them asks in the mean, and how many known ones that is from."""
    done = set(plan.spread(asked)) if asked else set()
    known = rehearsed.known()
    chance = [not is_known for place, is_known in zip(places, known, strict=True) if place not in done]
    left = (plan.total - len(done)) * (sum(chance) / len(chance) if chance else 0.0)
    whole = [row for row, is_known in zip(rehearsed.rows, known, strict=True) if is_known and row]
    if len(whole) >= min(ENOUGH, asked or ENOUGH):
        return left, _mean(whole, new=False), len(whole)
    fresh = [row for row, is_known in zip(rehearsed.rows, known, strict=True) if not is_known]
    return left, _mean(fresh, new=True), 0


def _mean(rows: Sequence[dict[str, Asked]], *, new: bool) -> dict[str, Asked]:
    sums: dict[str, Asked] = {}
    for row in rows:
        for model, one in row.items():
            sum_ = sums.setdefault(model, Asked())
            sum_.calls += one.calls - one.known if new else one.calls
            sum_.input_tokens += one.new_input_tokens if new else one.input_tokens
            sum_.output_tokens += one.new_output_tokens if new else one.output_tokens
    return {
        model: Asked(one.calls / len(rows), 0, one.input_tokens / len(rows), one.output_tokens / len(rows))
        for model, one in sums.items()
    }


def _minutes(
    rehearsed: Rehearsed, session: Rehearsal, model: str, of_row: Asked, calls: float
) -> tuple[float | None, str]:
    """How long a model's calls take with all its keys, and what keeps it from being faster."""
    if not calls:
        return 0.0, ""
    seconds = session.seconds(model)
    if model.startswith(LOCAL):
        return (None if seconds is None else calls * seconds / 60), "this machine"
    seconds = ASSUMED_SECONDS if seconds is None else seconds
    keys = _keys(rehearsed, session, model)
    rates = [_rate(key, seconds, of_row.input_tokens / of_row.calls) for key in keys]
    took, bound = calls / sum(rate for rate, _ in rates), min(rates)[1]
    if (chain := of_row.calls * seconds / 60) > took:
        took, bound = chain, "the calls of a row, one after another"
    daily = [key.quota.requests_per_day for key in keys]
    if all(daily) and calls > (of_day := sum(limit or 0 for limit in daily)):
        took, bound = max(took, (math.ceil(calls / of_day) - 1) * _DAY_MIN), "requests a day"
    return took, bound


def _keys(rehearsed: Rehearsed, session: Rehearsal, model: str) -> list[Key]:
    """The keys that are there; where none is, as if the one that is named first were."""
    remote = rehearsed.models[model]
    assert isinstance(remote, RemoteModel)
    try:
        return remote.keys()
    except UserError:
        names = remote.spec.api_key_env or list(session.quotas) or [""]
        return [Key(names[0], "", session.quotas.get(names[0], Quota()))]


def _rate(key: Key, seconds: float, tokens: float) -> tuple[float, str]:
    """Calls a minute with one key, and what bounds them."""
    return min(
        (key.quota.requests_per_minute or math.inf, "requests a minute"),
        (
            key.quota.tokens_per_minute / tokens if key.quota.tokens_per_minute and tokens else math.inf,
            "tokens a minute",
        ),
        (key.most_in_flight * 60 / max(seconds, 0.001), "how long a call takes"),
    )
