"""What a provider is like on a given day: how slow, how faulty, and how much each key may ask."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Literal

Fault = Literal[
    "429", "500", "502", "503", "reset", "cut", "truncated", "stall", "empty", "safety", "max_tokens", "blocked"
]
PASSING: tuple[Fault, ...] = ("429", "500", "502", "503", "reset", "cut", "truncated", "stall")
"""Faults of one try; the next may be answered. cut: the connection ends in the middle of the reply; truncated:
the reply arrives whole but is half a JSON text; stall: half a reply, then not a byte more."""
LASTING: tuple[Fault, ...] = ("empty", "safety", "max_tokens", "blocked")
"""What a provider says to the same question each time."""


@dataclass(frozen=True)
class Latency:
    """Seconds from request to reply: uniform from `low` to `high`, and now and then a straggler's."""

    low: float = 0.0
    high: float = 0.0
    stragglers: float = 0.0  # share of the calls
    straggler_s: float = 0.0

    def draw(self, chance: Random) -> float:
        straggles = self.stragglers > 0 and chance.random() < self.stragglers
        return self.straggler_s if straggles else chance.uniform(self.low, self.high)


@dataclass
class Faults:
    """Which share of the calls meets which fault.

    The same question meets the same faults in the same order in every run: a fault is drawn from the
    question and how often it has been asked, one of `LASTING` from the question alone.
    """

    shares: Mapping[Fault, float] = field(default_factory=dict)
    seed: int = 0
    asked: Counter[str] = field(default_factory=Counter)

    @classmethod
    def spread(cls, share: float, over: tuple[Fault, ...], seed: int = 0) -> Faults:
        """`share` of the calls in equal parts `over` several faults."""
        return cls({fault: share / len(over) for fault in over}, seed)

    def meet(self, digest: str) -> tuple[Fault | None, Random]:
        """The fault that this call meets, and the chance that its other draws come from."""
        self.asked[digest] += 1
        chance = Random(f"{self.seed} {digest} {self.asked[digest]}")
        if fault := self._drawn(LASTING, Random(f"{self.seed} {digest}")):
            return fault, chance
        return self._drawn(PASSING, chance), chance

    def _drawn(self, faults: tuple[Fault, ...], chance: Random) -> Fault | None:
        drawn = chance.random()
        for fault in faults:
            drawn -= self.shares.get(fault, 0.0)
            if drawn < 0:
                return fault
        return None


@dataclass(frozen=True)
class Limit:
    """A 429's cause: which quota is used up, and for how many seconds."""

    quota: str
    seconds: float


@dataclass
class Quotas:
    """What each key may ask: requests and tokens of prompts in any minute, requests in a day. None: no limit.

    `scale` makes time pass that much faster: at 20 a "minute" is 3 seconds. A refused request counts for
    nothing.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    requests_per_day: int | None = None
    scale: float = 1.0
    _requests: dict[str, deque[float]] = field(default_factory=dict)
    _tokens: dict[str, deque[tuple[float, int]]] = field(default_factory=dict)
    _today: Counter[str] = field(default_factory=Counter)
    _began: float | None = None

    def admit(self, key: str, now: float, tokens: int) -> Limit | None:
        """Count a request of `tokens` tokens at `now` (seconds), or say why it is refused."""
        minute, day = 60 / self.scale, 86_400 / self.scale
        if self._began is None or now - self._began >= day:
            self._began = now
            self._today.clear()
        if self.requests_per_day is not None and self._today[key] >= self.requests_per_day:
            return Limit("GenerateRequestsPerDayPerProjectPerModel", self._began + day - now)
        requests = self._requests.setdefault(key, deque())
        while requests and requests[0] <= now - minute:
            requests.popleft()
        if self.requests_per_minute is not None and len(requests) >= self.requests_per_minute:
            return Limit("GenerateRequestsPerMinutePerProjectPerModel", requests[0] + minute - now)
        spent = self._tokens.setdefault(key, deque())
        while spent and spent[0][0] <= now - minute:
            spent.popleft()
        used = sum(count for _, count in spent)
        if self.tokens_per_minute is not None and spent and used + tokens > self.tokens_per_minute:
            return Limit("GenerateContentInputTokensPerModelPerMinute", spent[0][0] + minute - now)
        requests.append(now)
        if self.tokens_per_minute is not None:
            spent.append((now, tokens))
        self._today[key] += 1
        return None
