"""How many wrong passwords and keys may be tried, and by whom. Counts only: who asks is decided in sign_in.py.

Guesses of one name at one address are counted apart from everything else, so that somebody who guesses at a colleague's
password shuts out neither the team behind the same address nor the colleague who signs in from another one. Who has
signed in from an address before is asked to wait there for nobody's guesses but those of their own name at it.

All of it is in memory: a restart forgets it. Nobody but the operator can restart a server.
"""

from __future__ import annotations

import hashlib
import ipaddress
import time
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

REMEMBERED = 20_000
"""Names, addresses and pairs that are remembered at most; the oldest are forgotten first."""


class Limit(NamedTuple):
    """So many failures in so many seconds."""

    failures: int
    seconds: float


PAIR = Limit(5, 5 * 60)
"""One name at one address."""
NAME = Limit(60, 60 * 60)
"""One name at all addresses, for those who have not signed in from theirs before."""
ADDRESS = Limit(60, 15 * 60)
"""All names, or all API keys, at one address; for those who have not signed in from it before."""


class Attempts:
    """Counts failures, and says how long to wait. Times are seconds of `clock`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, remembered: int = REMEMBERED) -> None:
        self._clock = clock
        self._remembered = remembered
        self._failures: OrderedDict[bytes, deque[float]] = OrderedDict()
        self._known: OrderedDict[bytes, None] = OrderedDict()

    def __len__(self) -> int:
        """How many names, addresses, pairs and keys are remembered."""
        return len(self._failures) + len(self._known)

    def start(self, name: str, address: str) -> float:
        """Count a password as wrong until it proves right (`succeed`); or the seconds to wait, and count nothing.

        Counting first keeps a hundred guesses at the same moment from all being tried.
        """
        return self._count(self._password_limits(name, address))

    def succeed(self, name: str, address: str) -> None:
        """The password that `start` counted was right."""
        self._remember(_digest("pair", name, address))
        self._failures.pop(_digest("pair", name, address), None)
        for counted, _limit in self._password_limits(name, address, everyone=True):
            self._forgive(counted)

    def start_key(self, key: str, address: str) -> float:
        """As `start`, for an API key. Keys that were right before are not counted."""
        if _digest("key", key) in self._known:
            return 0.0
        return self._count([(_digest("keys", _network(address)), ADDRESS)])

    def succeed_key(self, key: str, address: str) -> None:
        """The key that `start_key` counted was right."""
        if _digest("key", key) not in self._known:
            self._remember(_digest("key", key))
            self._forgive(_digest("keys", _network(address)))

    def _password_limits(self, name: str, address: str, *, everyone: bool = False) -> list[tuple[bytes, Limit]]:
        pair = _digest("pair", name, address)
        for_strangers = [(_digest("name", name), NAME), (_digest("address", _network(address)), ADDRESS)]
        if pair in self._known and not everyone:
            return [(pair, PAIR)]
        return [(pair, PAIR), *for_strangers]

    def _count(self, limits: list[tuple[bytes, Limit]]) -> float:
        now = self._clock()
        wait = max(self._wait(counted, limit, now) for counted, limit in limits)
        if not wait:
            for counted, _limit in limits:
                self._failures.setdefault(counted, deque(maxlen=256)).append(now)
                self._failures.move_to_end(counted)
            while len(self._failures) > self._remembered:
                self._failures.popitem(last=False)
        return wait

    def _wait(self, counted: bytes, limit: Limit, now: float) -> float:
        failures = self._failures.get(counted)
        if failures is None:
            return 0.0
        while failures and failures[0] <= now - limit.seconds:
            failures.popleft()
        if len(failures) < limit.failures:
            return 0.0
        return failures[-limit.failures] + limit.seconds - now

    def _forgive(self, counted: bytes) -> None:
        if self._failures.get(counted):
            self._failures[counted].pop()

    def _remember(self, known: bytes) -> None:
        self._known[known] = None
        self._known.move_to_end(known)
        while len(self._known) > self._remembered:
            self._known.popitem(last=False)


def _digest(*parts: str) -> bytes:
    """Names and keys are not kept, however long they are."""
    return hashlib.blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _network(address: str) -> str:
    """An address, or the network that one holder of IPv6 addresses has to choose from."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network(f"{parsed}/64", strict=False)) if parsed.version == 6 else str(parsed)
