"""Wait for what another process does."""

from __future__ import annotations

import os
import signal
import time


def await_(happened, what, found=lambda: ""):
    """Return what `happened()` returns once it is true; fail after a minute, saying what was found instead."""
    deadline = time.monotonic() + 60
    while not (value := happened()):
        assert time.monotonic() < deadline, f"waited for {what}; found {found()}"
        time.sleep(0.05)
    return value


def kill(pid):
    """kill -9, and wait until the process is gone: by its parent, or by this process where it is its child."""
    os.kill(pid, signal.SIGKILL)

    def gone():
        try:
            if os.waitpid(pid, os.WNOHANG)[0] == pid:
                return True
        except ChildProcessError:
            pass
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False

    await_(gone, f"process {pid} to end")
