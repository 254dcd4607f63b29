"""API keys with their quotas, taken so that none is ever over its limit; one that is refused goes out.

Nothing here knows a provider. Everything runs on the models' event loop.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lingo_hitl.config import LLMSpec, Quota
from lingo_hitl.errors import UserError
from lingo_hitl.models.journal import Journal

MARGIN = 1.01
"""Requests are spaced this much wider than the quota asks: the provider's clock is not ours."""
BURST_S = 6.0
"""Seconds' worth of tokens that may be used at once."""
IN_FLIGHT, IN_FLIGHT_PACED = 4, 64
"""Requests under way for one key: without a quota, and with one that paces them."""
_BYTES_PER_TOKEN = 4.0  # a first guess, which every reply corrects
_HOUR_S = 3600


@dataclass
class Key:
    """One key, called by the environment variable that holds it."""

    variable: str
    secret: str = field(repr=False)
    quota: Quota = field(default_factory=Quota)
    rests_until: float = 0.0  # on the monotonic clock
    strikes: int = 0  # refusals for being over the limit, since the last success
    out: str | None = None  # why it is used no more
    next_slot: float = 0.0  # on the monotonic clock
    tokens: float = 0.0  # that may be used now; below 0: used ahead of time
    tokens_at: float = 0.0
    in_flight: int = 0
    by_hour: dict[int, int] = field(default_factory=dict)  # requests of the last day, by the hour since 1970

    @property
    def most_in_flight(self) -> int:
        return IN_FLIGHT_PACED if self.quota.requests_per_minute else IN_FLIGHT

    def ready_at(self, tokens: float, now: float) -> float:
        """When a request of so many tokens may go out, on the monotonic clock."""
        ready = max(now, self.rests_until)
        if self.quota.requests_per_minute:
            ready = max(ready, self.next_slot)
        if limit := self.quota.tokens_per_minute:
            self._fill(now)
            lacking = min(tokens, limit / 60 * BURST_S) - self.tokens
            ready = max(ready, now + lacking / (limit / 60))
        if self.quota.requests_per_day and self._today() >= self.quota.requests_per_day:
            oldest = min(self.by_hour)
            ready = max(ready, now + (oldest + 25) * _HOUR_S - time.time())
        return ready

    def reserve(self, ready: float, tokens: float) -> None:
        """Count a request that goes out at `ready`."""
        if rate := self.quota.requests_per_minute:
            interval = 60 / rate * MARGIN
            # A slot that was missed by less than one interval is not lost: late threads must not cost quota.
            self.next_slot = max(self.next_slot, ready - interval) + interval
        if self.quota.tokens_per_minute:
            self.tokens -= tokens
        if self.quota.requests_per_day:
            hour = int(time.time() // _HOUR_S)
            self.by_hour[hour] = self.by_hour.get(hour, 0) + 1

    def _fill(self, now: float) -> None:
        limit = self.quota.tokens_per_minute or 0
        most = limit / 60 * BURST_S
        self.tokens = min(most, self.tokens + (now - self.tokens_at) * limit / 60) if self.tokens_at else most
        self.tokens_at = now

    def _today(self) -> int:
        since = int(time.time() // _HOUR_S) - 24
        self.by_hour = {hour: count for hour, count in self.by_hour.items() if hour >= since}
        return sum(self.by_hour.values())


class Stopped(Exception):
    """The run was given up by whoever asked for it."""


class Stop:
    """Whether a run shall ask no more, and why. What is under way by then still comes home."""

    def __init__(self) -> None:
        self.fault: BaseException | None = None
        self._event = asyncio.Event()

    def clear(self) -> None:
        """Begin anew."""
        self.fault = None
        self._event = asyncio.Event()

    def because(self, fault: BaseException) -> None:
        """Wake all that wait for a key, and refuse whoever comes; on the models' event loop."""
        self.fault = self.fault or fault
        self._event.set()

    async def sleep(self, seconds: float) -> None:
        """Wait, or raise the fault as soon as there is one."""
        if seconds > 0 and self.fault is None:
            try:
                await asyncio.wait_for(self._event.wait(), seconds)
            except TimeoutError:
                return
        self.check()

    def check(self) -> None:
        """Raise the fault, if there is one."""
        if self.fault is not None:
            raise self.fault


class KeyPool:
    """The keys of one model, shared by all who ask it in this process."""

    def __init__(self, model: str, keys: Sequence[Key], *, patience_s: float, stop: Stop, journal: Journal) -> None:
        self.model, self.keys, self.patience_s = model, list(keys), patience_s
        self._stop, self._journal = stop, journal
        self._room = asyncio.Semaphore(sum(key.most_in_flight for key in keys))
        self._tokens_per_byte = 1 / _BYTES_PER_TOKEN
        for key in self.keys:
            if key.quota.requests_per_day:
                key.by_hour = journal.requests_by_hour(key.variable, model, since=int(time.time() // _HOUR_S) - 24)

    def expected_tokens(self, size: int, output_tokens: int) -> float:
        """Tokens that a request of `size` bytes is expected to cost, from what earlier ones did."""
        return size * self._tokens_per_byte + output_tokens

    async def take(self, tokens: float, limited_since: float | None = None) -> Key:
        """The key that is free first, once it is; to be given back.

        Args:
            tokens: what the request is expected to cost.
            limited_since: when the request first met a limit, on the monotonic clock; None if it has not.

        Raises:
            UserError: every key is out, or none is free within `patience_s` seconds of that.
        """
        await self._room.acquire()
        try:
            while True:
                self._stop.check()
                now = time.monotonic()
                key, ready = self._soonest(tokens, now)
                if ready > (limited_since or now) + self.patience_s and ready - now > 1:
                    raise self._exhausted(ready - now)
                key.reserve(ready, tokens)
                key.in_flight += 1
                try:
                    await self._stop.sleep(ready - now)
                except BaseException:
                    key.in_flight -= 1
                    raise
                if key.out is None and key.rests_until <= time.monotonic():
                    if key.quota.requests_per_day:
                        self._journal.count_request(key.variable, self.model, int(time.time() // _HOUR_S))
                    return key
                key.in_flight -= 1
                key.tokens += tokens if key.quota.tokens_per_minute else 0
        except BaseException:
            self._room.release()
            raise

    def give_back(self, key: Key, *, expected: float, used: int | None, size: int) -> None:
        """The request with `key` has ended; `used` tokens, None where nobody knows."""
        key.in_flight -= 1
        self._room.release()
        if used is not None:
            if key.quota.tokens_per_minute:
                key.tokens += expected - used
            if size:
                self._tokens_per_byte += 0.05 * (min(used / size, 2.0) - self._tokens_per_byte)

    def rest(self, key: Key, seconds: float | None, *, backoff_s: float) -> None:
        """Leave `key` alone for as long as the provider says, else ever longer with each refusal in a row."""
        key.strikes += 1
        pause = seconds if seconds is not None else min(60.0, backoff_s * 2.0 ** min(key.strikes, 10))
        key.rests_until = max(key.rests_until, time.monotonic() + pause)

    def worked(self, key: Key) -> None:
        key.strikes = 0

    def put_out(self, key: Key, reason: str) -> None:
        key.out = key.out or reason

    def without_secrets(self, text: str) -> str:
        """`text` in one line of at most 200 characters, with the name of its variable for each key."""
        for key in self.keys:
            text = text.replace(key.secret, f"${key.variable}")
        return " ".join(text.split())[:200]

    def _soonest(self, tokens: float, now: float) -> tuple[Key, float]:
        alive = [key for key in self.keys if key.out is None]
        if not alive:
            reasons = "; ".join(f"{key.variable}: {key.out}" for key in self.keys)
            raise UserError(
                f"{self.model}: no API key is left ({reasons}). Set one that works and run again: "
                "the run resumes where it stopped."
            )
        ready = {key.variable: key.ready_at(tokens, now) for key in alive}
        key = min(alive, key=lambda key: (ready[key.variable], key.in_flight))
        return key, ready[key.variable]

    def _exhausted(self, seconds: float) -> UserError:
        names = ", ".join(key.variable for key in self.keys if key.out is None)
        wait = f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 3600:.1f} h"
        return UserError(
            f"{self.model}: over the limit of every API key ({names}), the next one is free in {wait}. "
            "Run again then: the run resumes where it stopped."
        )


def keys_from_environment(spec: LLMSpec, *, default: str, quotas: Mapping[str, Quota]) -> list[Key]:
    """The keys that `api_key_env` names (`default` where it names none); unset ones are passed over.

    Raises:
        UserError: not one of them is set.
    """
    names = list(dict.fromkeys(spec.api_key_env or [default]))
    found = {name: secret for name in names if (secret := os.environ.get(name, "").strip())}
    if not found:
        raise UserError(
            f"{spec.model}: no API key in the environment (looked for {', '.join(names)}). "
            f"Set {names[0]}, or write it into the .env beside the config."
        )
    first = {secret: name for name, secret in reversed(found.items())}  # two names for one key share its quota
    return [Key(name, secret, quotas.get(name, Quota())) for name, secret in found.items() if first[secret] == name]


def request_size(messages: Sequence[Mapping[str, str]]) -> int:
    """Bytes of text in a conversation."""
    return sum(len(message["content"].encode()) for message in messages)


def in_seconds(text: str) -> float | None:
    """A pause such as "17.5s" or "3" in seconds, None where it is none."""
    try:
        value = float(text.removesuffix("s"))
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None
