"""A loopback provider as a process of its own: prints its URL, and serves until its standard input ends.

python -m tests.providers --latency 0.5 3 --faults 0.05 --requests-per-minute 60 --scale 20 --log calls.jsonl
"""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path

from tests.providers.brain import speak
from tests.providers.conditions import LASTING, PASSING, Faults, Latency, Quotas
from tests.providers.provider import Provider, running
from tests.providers.wire import gemini_error


def main(options: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.providers", description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, nargs=2, default=(0.0, 0.0), metavar=("LOW", "HIGH"))
    parser.add_argument("--stragglers", type=float, nargs=2, default=(0.0, 0.0), metavar=("SHARE", "SECONDS"))
    parser.add_argument("--faults", type=float, default=0.0, help="share of the calls that meet one")
    parser.add_argument("--kinds", nargs="+", choices=[*PASSING, *LASTING], help="of fault; all that pass, no stall")
    parser.add_argument("--requests-per-minute", type=int)
    parser.add_argument("--tokens-per-minute", type=int)
    parser.add_argument("--requests-per-day", type=int)
    parser.add_argument("--scale", type=float, default=1.0, help="how much faster the quotas' time passes")
    parser.add_argument("--refused", nargs="+", default=[], help="keys that get a 403")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path, help="a file to which every call is appended")
    parser.add_argument("--bodies", type=Path, help="a file to which what every call sent is appended")
    given = parser.parse_args(options)
    kinds = tuple(given.kinds or (kind for kind in PASSING if kind != "stall"))
    with ExitStack() as files:
        log, bodies = (
            files.enter_context(path.open("a", encoding="utf-8", buffering=1 << 16)) if path else None
            for path in (given.log, given.bodies)
        )
        provider = Provider(
            speak=speak,
            quotas=Quotas(
                given.requests_per_minute, given.tokens_per_minute, given.requests_per_day, scale=given.scale
            ),
            faults=Faults.spread(given.faults, kinds, given.seed),
            latency=Latency(*given.latency, *given.stragglers),
            bad_keys={key: gemini_error(403, "PERMISSION_DENIED", "not yours") for key in given.refused},
            out=log,
            bodies_out=bodies,
            remember=False,
        )
        with running(provider, given.port):
            print(provider.url, flush=True)
            sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1:])
