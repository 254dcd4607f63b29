"""`lingo-hitl` as ever, and then what it cost: CPU seconds and the most memory, as JSON in a file.

python -m benchmarks.watched COST.json generate project.yaml
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks.alone import cpu_seconds, peak_bytes
from lingo_hitl import cli


def main() -> None:
    out, *words = sys.argv[1:]
    sys.argv = ["lingo-hitl", *words]
    try:
        cli.main()
    finally:
        Path(out).write_text(json.dumps({"cpu": cpu_seconds(), "peak": peak_bytes()}), encoding="utf-8")


if __name__ == "__main__":
    main()
