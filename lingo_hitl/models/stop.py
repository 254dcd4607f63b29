"""How a run ends before its time: nothing more is asked, and what is under way comes home."""

from __future__ import annotations

import asyncio


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
