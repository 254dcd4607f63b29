"""API keys with their quotas, taken so that none is ever over its limit; one that is refused goes out.

Nothing here knows a provider. Everything runs on the models' event loop.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lingo_hitl.errors import UserError
from lingo_hitl.llm_config import LLMSpec, Quota
from lingo_hitl.models.journal import Journal
from lingo_hitl.models.stop import Stop

MARGIN = 1.01
"""Windows are taken this much longer than the quota says: the provider's clock is not ours."""
IN_FLIGHT, IN_FLIGHT_PACED, IN_FLIGHT_MOST = 4, 64, 512
"""Requests under way for one key: without a quota, and the fewest and the most with one that paces them."""
CALL_S = 5.0
"""How long calls may take before too few are under way to use up a quota of requests a minute."""
READ_EVERY_S = 1.0
"""How often the journal is asked what other processes used of a day's requests."""
BYTES_PER_TOKEN = 4.0
"""A first guess, which replies correct: Korean and English alike in the tokenizers of today's models."""
PERIOD_S = 300
"""A day's requests are counted by periods since 1970: a request counts for at most so much longer than 24 hours."""
LOOK_AGAIN_S = 0.25
"""How long whoever is next waits for a key before all keys are looked at anew."""
_WINDOW_S = 60 * MARGIN
_DAY = 24 * 3600 // PERIOD_S  # periods


@dataclass(eq=False)
class Sent:
    """One request that went out with a key, when on the pool's clock, and what it cost or is expected to."""

    at: float
    tokens: float
    in_window: bool = True


@dataclass
class Key:
    """One key, called by the environment variable that holds it.

    Two rules hold it to its quota: no window of a minute has more requests or tokens than allowed, and
    requests are spread evenly over it. A single request of more tokens than a minute allows goes out in
    a window of its own.
    """

    variable: str
    secret: str = field(repr=False)
    quota: Quota = field(default_factory=Quota)
    allowed_in_flight: int | None = None  # requests under way at once, where the config says how many
    rests_until: float = 0.0  # on the pool's clock
    strikes: int = 0  # refusals for being over the limit, since the last success
    out: str | None = None  # why it is used no more
    next_slot: float = 0.0  # on the pool's clock
    sent: deque[Sent] = field(default_factory=deque)  # in the last minute
    sent_tokens: float = 0.0  # their sum
    in_flight: int = 0
    by_period: dict[int, int] = field(default_factory=dict)  # requests of the last day, by period

    @property
    def most_in_flight(self) -> int:
        """How many requests may be under way at once."""
        if self.allowed_in_flight:
            return self.allowed_in_flight
        if not (self.quota.requests_per_minute or self.quota.tokens_per_minute):
            return IN_FLIGHT
        needed = math.ceil((self.quota.requests_per_minute or 0) / 60 * CALL_S)
        return max(IN_FLIGHT_PACED, min(IN_FLIGHT_MOST, needed))

    def free_at(self, now: float) -> float:
        """When the key may be used again at all: after a refusal, or a day's requests."""
        free = max(now, self.rests_until)
        if self.quota.requests_per_day and self._today() >= self.quota.requests_per_day:
            oldest = min(self.by_period)
            free = max(free, now + (oldest + _DAY + 1) * PERIOD_S - time.time())
        return free

    def ready_at(self, tokens: float, now: float) -> float:
        """When a request of so many tokens may go out."""
        ready = max(self.free_at(now), self.next_slot)
        self._forget(now)
        count, tokens = len(self.sent), tokens + self.sent_tokens
        for sent in self.sent:
            if self._fits(count, tokens):
                break
            ready = max(ready, sent.at + _WINDOW_S)
            count, tokens = count - 1, tokens - sent.tokens
        return ready

    def send(self, tokens: float, now: float) -> Sent:
        """Count a request that goes out now."""
        interval = self._interval(tokens)
        # A slot that was missed by less than one interval is not lost: a late loop must not cost quota.
        self.next_slot = max(self.next_slot, now - interval) + interval
        sent = Sent(now, tokens)
        if self.quota.requests_per_minute or self.quota.tokens_per_minute:
            self.sent.append(sent)
            self.sent_tokens += tokens
        if self.quota.requests_per_day:
            period = _period()
            self.by_period[period] = self.by_period.get(period, 0) + 1
        return sent

    def correct(self, sent: Sent, tokens: float) -> None:
        """A request has cost other tokens than expected."""
        if limit := self.quota.tokens_per_minute:
            self.next_slot += (tokens - sent.tokens) / limit * _WINDOW_S
        if sent.in_window:
            self.sent_tokens += tokens - sent.tokens
        sent.tokens = tokens

    def _forget(self, now: float) -> None:
        while self.sent and self.sent[0].at + _WINDOW_S <= now:
            old = self.sent.popleft()
            old.in_window = False
            self.sent_tokens = self.sent_tokens - old.tokens if self.sent else 0.0

    def _fits(self, others: int, tokens: float) -> bool:
        quota = self.quota
        return not others or (
            others + 1 <= max(1.0, quota.requests_per_minute or math.inf)
            and tokens <= (quota.tokens_per_minute or math.inf)
        )

    def _interval(self, tokens: float) -> float:
        quota = self.quota
        return _WINDOW_S * max(
            1 / quota.requests_per_minute if quota.requests_per_minute else 0.0,
            tokens / quota.tokens_per_minute if quota.tokens_per_minute else 0.0,
        )

    def _today(self) -> int:
        since = _period() - _DAY
        self.by_period = {period: count for period, count in self.by_period.items() if period >= since}
        return sum(self.by_period.values())


class KeyPool:
    """The keys of one model, shared by all who ask it in this process; its clock is that of the event loop."""

    def __init__(
        self,
        model: str,
        keys: Sequence[Key],
        *,
        patience_s: float,
        stop: Stop,
        journal: Journal,
        shown_as: str | None = None,  # what errors call the model; `model` where absent
    ) -> None:
        self.model, self.keys, self.patience_s = model, list(keys), patience_s
        self._shown_as = shown_as or model
        self._stop, self._journal = stop, journal
        self._room = asyncio.Semaphore(sum(key.most_in_flight for key in keys))
        self._turn = asyncio.Lock()
        self._read_at = -math.inf
        self._tokens_per_byte = 1 / BYTES_PER_TOKEN
        self.worked_at = -math.inf

    def expected_tokens(self, size: int) -> float:
        """Tokens that a prompt of `size` bytes is expected to have, from what earlier ones had."""
        return size * self._tokens_per_byte

    async def take(self, tokens: float, limited_since: float | None = None) -> tuple[Key, Sent]:
        """The key that is free first, once it is, and what is counted of the request; to be given back.

        Whoever comes first goes first. Only one waits for a key at a time, so that no turn is given away
        ahead and lost where the key is refused meanwhile.

        Args:
            tokens: what the prompt is expected to have.
            limited_since: when the request first met a limit, on the loop's clock; None if it has not.

        Raises:
            UserError: every key is out, or none may be used within `patience_s` seconds of that.
        """
        await self._room.acquire()
        try:
            async with self._turn:
                while True:
                    self._stop.check()
                    now = asyncio.get_running_loop().time()
                    self._read_today(now)
                    key, ready = self._soonest(tokens, now, limited_since)
                    if ready <= now:
                        break
                    # Prompts that were shorter than expected may make a key free before that.
                    await self._stop.sleep(min(ready - now, LOOK_AGAIN_S))
        except BaseException:
            self._room.release()
            raise
        key.in_flight += 1
        if key.quota.requests_per_day:
            self._journal.count_request(key.variable, self.model, _period())
        return key, key.send(tokens, now)

    def give_back(self, key: Key, sent: Sent, *, used: int | None, size: int) -> None:
        """The request with `key` has ended; its prompt had `used` tokens, None where nobody knows."""
        key.in_flight -= 1
        self._room.release()
        if used:
            key.correct(sent, used)
            if size:
                self._tokens_per_byte += 0.05 * (min(used / size, 2.0) - self._tokens_per_byte)

    def rest(self, key: Key, sent: Sent, seconds: float | None, *, backoff_s: float) -> None:
        """Leave `key` alone for as long as the provider says, else ever longer with each refusal in a row.

        Requests that went out before the last rest ended are of the burst that it was for.
        """
        if seconds is None:
            if sent.at < key.rests_until:
                return
            key.strikes += 1
            seconds = min(60.0, backoff_s * 2.0 ** min(key.strikes, 10))
        key.rests_until = max(key.rests_until, asyncio.get_running_loop().time() + seconds)

    def worked(self, key: Key) -> None:
        key.strikes = 0
        self.worked_at = asyncio.get_running_loop().time()

    def put_out(self, key: Key, reason: str) -> None:
        key.out = key.out or reason

    def without_secrets(self, text: str) -> str:
        """`text` in one line of at most 200 characters, with the name of its variable for each key."""
        for key in self.keys:
            text = text.replace(key.secret, f"${key.variable}")
        return " ".join(text.split())[:200]

    def _soonest(self, tokens: float, now: float, limited_since: float | None) -> tuple[Key, float]:
        alive = [key for key in self.keys if key.out is None]
        if not alive:
            reasons = "; ".join(f"{key.variable}: {key.out}" for key in self.keys)
            raise UserError(
                f"{self._shown_as}: no API key is left ({reasons}). Set one that works and run again: "
                "the run resumes where it stopped."
            )
        free = min(key.free_at(now) for key in alive)
        if free > (limited_since or now) + self.patience_s and free - now > 1:
            raise self._exhausted(free - now)
        ready = {key.variable: key.ready_at(tokens, now) for key in alive}
        key = min(alive, key=lambda key: (ready[key.variable], key.in_flight))
        return key, ready[key.variable]

    def _read_today(self, now: float) -> None:
        """Other processes may use the same keys: the journal knows of them."""
        if now < self._read_at + READ_EVERY_S:
            return
        self._read_at = now
        since = _period() - _DAY
        for key in self.keys:
            if key.quota.requests_per_day:
                key.by_period = self._journal.requests_since(key.variable, self.model, since=since)

    def _exhausted(self, seconds: float) -> UserError:
        names = ", ".join(key.variable for key in self.keys if key.out is None)
        wait = f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 3600:.1f} h"
        return UserError(
            f"{self._shown_as}: over the limit of every API key ({names}), the next one is free in {wait}. "
            "Run again then: the run resumes where it stopped."
        )


def _period() -> int:
    return int(time.time() // PERIOD_S)


def keys_from_environment(spec: LLMSpec, *, default: str, quotas: Mapping[str, Quota]) -> list[Key]:
    """The keys that `api_key_env` names (`default` where it names none).

    Raises:
        UserError: one of them is not set, or is no key.
    """
    names = list(dict.fromkeys(spec.api_key_env or [default]))
    found = {name: secret for name in names if (secret := os.environ.get(name, "").strip())}
    if missing := [name for name in names if name not in found]:
        others = f" (there: {', '.join(found)})" if found else ""
        raise UserError(
            f"{spec.model}: no API key in the environment (looked for {', '.join(missing)}){others}. "
            f"Set {missing[0]}, or write it into the .env beside the config."
        )
    for name, secret in found.items():
        if not (secret.isascii() and secret.isprintable() and " " not in secret):
            raise UserError(
                f"{name} holds characters that no API key has, such as a space or a letter beyond ASCII. "
                "Copy the key anew."
            )
    first = {secret: name for name, secret in reversed(found.items())}  # two names for one key share its quota
    return [
        Key(name, secret, quotas.get(name, Quota()), allowed_in_flight=spec.in_flight)
        for name, secret in found.items()
        if first[secret] == name
    ]


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
