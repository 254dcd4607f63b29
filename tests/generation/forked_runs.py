"""Imports once what `lingo-hitl generate` needs, then starts the command anew for each line of words that it reads.

No run pays the seconds that importing takes, which makes it possible to kill twenty within as many seconds.
The process id of each is printed as it starts.
"""

from __future__ import annotations

import os
import signal
import sys

import distilabel.pipeline  # noqa: F401
import pyarrow.parquet  # noqa: F401

from lingo_hitl import cli, pipeline  # noqa: F401
from lingo_hitl.corpus import seeds  # noqa: F401
from lingo_hitl.generation import agents, dialogue, generate  # noqa: F401
from lingo_hitl.lingo_chat import run  # noqa: F401
from lingo_hitl.models import gemini, llm  # noqa: F401


def main() -> None:
    # Ended runs are not waited for: the system clears them away.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print("ready", flush=True)
    for line in sys.stdin:
        child = os.fork()
        if child:
            print(child, flush=True)
            continue
        code: object = 1
        try:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.close(0)
            os.dup2(2, 1)  # what it prints is not for whoever reads the process ids
            sys.argv = ["lingo-hitl", *line.split()]
            cli.main()
        except SystemExit as ended:
            code = ended.code
        finally:
            sys.stderr.flush()
            os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    main()
