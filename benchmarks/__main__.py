"""Which benchmark runs.

    python -m benchmarks                        the main job: map, push, search, sync
    python -m benchmarks koquality [--quick]    KoQuality beside the original's loops
    python -m benchmarks argilla_server [--quick]    the Argilla server beside its stock code; a team on it
    python -m benchmarks dialogue_quality       the figures of dialogue quality: what they find, what they cost
    python -m benchmarks generation [--quick]    a loopback Gemini: quotas used, cost of a call, memory
    python -m benchmarks judging [--quick]       ratings on the wrong text: our parser beside distilabel's

`make bench` and `make bench WHAT="koquality --quick"` do the same. `--help` behind a name tells its options.
"""

from __future__ import annotations

import importlib
import sys

BENCHMARKS = {
    "main": "benchmarks.main_job",
    "koquality": "benchmarks.koquality",
    "argilla_server": "benchmarks.argilla_server",
    "dialogue_quality": "benchmarks.dialogue_quality",
    "generation": "benchmarks.generation",
    "judging": "benchmarks.judging",
}


def main(words: list[str]) -> None:
    name, *options = words or ["main"]
    if name not in BENCHMARKS:
        sys.exit(f"benchmark '{name}' is not known; expected one of {', '.join(BENCHMARKS)}.")
    importlib.import_module(BENCHMARKS[name]).main(options)


if __name__ == "__main__":
    main(sys.argv[1:])
