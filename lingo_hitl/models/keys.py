"""API keys taken in turn: one that is over its limit rests, one that is refused goes out.

Nothing here knows a provider. Quotas and budgets belong into `KeyRing.take`, through which every
request passes.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from lingo_hitl.config import LLMSpec
from lingo_hitl.errors import UserError


@dataclass
class Key:
    """One key, called by the environment variable that holds it."""

    variable: str
    secret: str = field(repr=False)
    rests_until: float = 0.0  # on the monotonic clock
    strikes: int = 0  # refusals for being over the limit, since the last success
    out: str | None = None  # why it is used no more


class KeyRing:
    """The keys of one model, shared by its threads."""

    def __init__(self, model: str, keys: Sequence[Key], *, patience_s: float) -> None:
        self.model = model
        self.keys = list(keys)
        self.patience_s = patience_s
        self._changed = threading.Condition()
        self._turn = 0

    def take(self, stop: threading.Event, limited_since: float | None = None) -> Key | None:
        """The next key that may be used; waits while all rest, and gives None once `stop` is set.

        Args:
            limited_since: when the request first met a limit, on the monotonic clock; None if it has not.

        Raises:
            UserError: every key is out, or all rest until more than `patience_s` seconds after that.
        """
        patience = (limited_since or time.monotonic()) + self.patience_s
        with self._changed:
            while not stop.is_set():
                alive = [key for key in self.keys if key.out is None]
                if not alive:
                    reasons = "; ".join(f"{key.variable}: {key.out}" for key in self.keys)
                    raise UserError(
                        f"{self.model}: no API key is left ({reasons}). Set one that works and run again: "
                        "the run resumes where it stopped."
                    )
                now = time.monotonic()
                ready = [key for key in alive if key.rests_until <= now]
                if ready:
                    self._turn += 1
                    return ready[self._turn % len(ready)]
                next_ready = min(key.rests_until for key in alive)
                if next_ready > patience:
                    names = ", ".join(key.variable for key in alive)
                    raise UserError(
                        f"{self.model}: over the limit of every API key ({names}), the next one is free in "
                        f"{next_ready - now:.0f} s. Run again later: the run resumes where it stopped."
                    )
                self._changed.wait(min(next_ready - now, 1.0))
        return None

    def rest(self, key: Key, seconds: float | None, *, backoff_s: float) -> None:
        """Leave `key` alone for as long as the provider says, else ever longer with each refusal in a row."""
        with self._changed:
            key.strikes += 1
            pause = seconds if seconds is not None else min(60.0, backoff_s * 2.0**key.strikes)
            key.rests_until = max(key.rests_until, time.monotonic() + pause)

    def worked(self, key: Key) -> None:
        with self._changed:
            key.strikes = 0

    def put_out(self, key: Key, reason: str) -> None:
        with self._changed:
            key.out = key.out or reason
            self._changed.notify_all()

    def without_secrets(self, text: str) -> str:
        """`text` in one line of at most 200 characters, with the name of its variable for each key."""
        for key in self.keys:
            text = text.replace(key.secret, f"${key.variable}")
        return " ".join(text.split())[:200]


def keys_from_environment(spec: LLMSpec, *, default: str) -> list[Key]:
    """The keys that `api_key_env` names (`default` where it names none); unset ones are passed over.

    Raises:
        UserError: not one of them is set.
    """
    names = spec.api_key_env or [default]
    keys = [Key(name, secret) for name in names if (secret := os.environ.get(name, "").strip())]
    if not keys:
        raise UserError(
            f"{spec.model}: no API key in the environment (looked for {', '.join(names)}). "
            f"Set {names[0]}, or write it into the .env beside the config."
        )
    return keys
