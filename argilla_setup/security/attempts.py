"""How many wrong passwords and keys may be tried, and by whom. Counts only: who asks is decided in sign_in.py.

Guesses of one name at one address are counted apart from everything else, so that somebody who guesses at a colleague's
password shuts out neither the team behind the same address nor the colleague who signs in from another one. A browser
that has signed in before is counted by itself (OWASP calls its proof a device cookie): there nobody waits for anything
but their own mistakes, whoever types their name elsewhere, and also where all come through one proxy.

All of it is in memory: a restart forgets it. Nobody but the operator can restart a server.
"""

from __future__ import annotations

import hashlib
import ipaddress
import time
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

REMEMBERED = 20_000
"""Names, addresses and pairs, and as many keys, that are remembered at most; the oldest are forgotten first."""


class Limit(NamedTuple):
    """So many failures in so many seconds."""

    failures: int
    seconds: float


PAIR = Limit(5, 5 * 60)
"""One name at one address, or in one browser that is known."""
NAME = Limit(200, 60 * 60)
"""One name at all addresses, in browsers that are not known. More than one address alone comes to by PAIR."""
ADDRESS = Limit(60, 15 * 60)
"""All names, or all API keys, at one address, in browsers that are not known and with keys that are not."""


class Attempts:
    """Counts failures, and says how long to wait. Times are seconds of `clock`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, remembered: int = REMEMBERED) -> None:
        self._clock = clock
        self._remembered = remembered
        self._failures: OrderedDict[bytes, deque[float]] = OrderedDict()
        self._keys: OrderedDict[bytes, bool] = OrderedDict()
        """Whether a key was right when it was tried last."""

    def __len__(self) -> int:
        """How many names, addresses, pairs and keys are remembered."""
        return len(self._failures) + len(self._keys)

    def start(self, name: str, address: str, *, browser: str | None = None) -> float:
        """Count a password as wrong until it proves right (`succeed`); or the seconds to wait, and count nothing.

        `browser` tells apart those in which this name has signed in before. Counting first keeps a hundred guesses at
        the same moment from all being tried.
        """
        limits = _limits(name, address, browser)
        wait = self._wait(limits)
        if not wait:
            self._count(counted for counted, _limit in limits)
        return wait

    def succeed(self, name: str, address: str, *, browser: str | None = None) -> None:
        """The password that `start` counted was right."""
        (own, _limit), *others = _limits(name, address, browser)
        self._failures.pop(own, None)
        for counted, _limit in others:
            if self._failures.get(counted):
                self._failures[counted].pop()

    def wait_for_key(self, key: str, address: str) -> float:
        """The seconds to wait before an API key may be tried; 0 for one that was right before."""
        if self._keys.get(_digest("key", key)):
            return 0.0
        return self._wait([(_digest("keys", _network(address)), ADDRESS)])

    def fail_key(self, key: str, address: str) -> None:
        """The key is nobody's. It is counted once: trying it again tells nothing, and a script may have an old one."""
        if self._keys.get(_digest("key", key)) is not False:
            self._remember_key(key, right=False)
            self._count([_digest("keys", _network(address))])

    def succeed_key(self, key: str) -> None:
        """The key is somebody's: whoever has it need not wait for others' guesses."""
        if not self._keys.get(_digest("key", key)):
            self._remember_key(key, right=True)

    def _remember_key(self, key: str, *, right: bool) -> None:
        self._keys[_digest("key", key)] = right
        self._keys.move_to_end(_digest("key", key))
        while len(self._keys) > self._remembered:
            # Wrong ones can be made up without end, and must not drive out the others.
            wrong = next((known for known, right in self._keys.items() if not right), None)
            self._keys.pop(wrong if wrong is not None else next(iter(self._keys)))

    def _count(self, counted: Iterable[bytes]) -> None:
        for each in counted:
            self._failures.setdefault(each, deque(maxlen=256)).append(self._clock())
            self._failures.move_to_end(each)
        while len(self._failures) > self._remembered:
            self._failures.popitem(last=False)

    def _wait(self, limits: list[tuple[bytes, Limit]]) -> float:
        now = self._clock()
        waits = [0.0]
        for counted, limit in limits:
            failures = self._failures.get(counted, deque())
            while failures and failures[0] <= now - limit.seconds:
                failures.popleft()
            if len(failures) >= limit.failures:
                waits.append(failures[-limit.failures] + limit.seconds - now)
        return max(waits)


def _limits(name: str, address: str, browser: str | None) -> list[tuple[bytes, Limit]]:
    """What an attempt is counted by; the first is its own."""
    if browser is not None:
        return [(_digest("browser", name, browser), PAIR)]
    network = _network(address)
    others = [(_digest("name", name), NAME), (_digest("address", network), ADDRESS)]
    return [(_digest("pair", name, network), PAIR), *others]


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
