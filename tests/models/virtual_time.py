"""An event loop whose clock jumps to the next thing that is due: hours of waiting in milliseconds, to the order."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any


class VirtualTime(asyncio.SelectorEventLoop):
    """The loop of the standard library with another clock; for coroutines that wait for timers alone."""

    def __init__(self) -> None:
        super().__init__(_Jumping(self))
        self.now = 1000.0

    def time(self) -> float:
        return self.now


class _Jumping(selectors.SelectSelector):
    def __init__(self, loop: VirtualTime) -> None:
        super().__init__()
        self.loop = loop

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("everything waits, and nothing is due")
        # A little more, for a loop that adds small numbers to large ones might never come there.
        self.loop.now += timeout + 1e-6 if timeout > 0 else 0
        return super().select(0)


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of `work`, in virtual time."""
    with asyncio.Runner(loop_factory=VirtualTime) as runner:
        return runner.run(work)
