"""One function in a process of its own, so that its threads, seconds and memory are nobody else's.

    alone(stage, threads=1, rows=20_000)

gives what `stage(rows=20_000)` gives. Arguments and result travel as JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

_POOLS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "RAYON_NUM_THREADS")


def alone(function: Callable[..., Any], *, threads: int | None = None, **arguments: Any) -> Any:
    """Call a function of a module in a fresh interpreter; `threads` bounds every pool it may start.

    Raises:
        RuntimeError: it failed; what it wrote last, most often a traceback, is in the message.
    """
    # Set before anything is imported: most pools read these once.
    bounds = {name: str(threads) for name in _POOLS} if threads else {}
    if threads == 1:
        bounds["TOKENIZERS_PARALLELISM"] = "false"
    with tempfile.TemporaryDirectory(prefix="lh-alone-") as folder:
        result = Path(folder, "result.json")
        name = f"{function.__module__}:{function.__qualname__}"
        ended = subprocess.run(
            [sys.executable, "-m", "benchmarks.alone", name, json.dumps(arguments), str(result)],
            cwd=Path(__file__).resolve().parents[1],
            env={**os.environ, **bounds, "LINGO_HITL_BENCH_THREADS": str(threads or 0)},
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        if ended.returncode:
            raise RuntimeError(f"{name} ended with {ended.returncode}: {ended.stderr[-3000:]}")
        return json.loads(result.read_text(encoding="utf-8"))


def cpu_seconds() -> float:
    """User and system seconds of this process so far, and of its children that have ended."""
    return sum(os.times()[:4])


def peak_bytes() -> int:
    """The most memory that this process held at once, mapped files counted.

    Linux tells it for the program alone; `ru_maxrss` begins with what the process had before it became
    this program.
    """
    status = Path("/proc/self/status")
    if status.is_file() and (found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(found[1]) * 1024
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def _main(name: str, arguments: str, result: str) -> None:
    import pyarrow as pa
    import torch

    if threads := int(os.environ["LINGO_HITL_BENCH_THREADS"]):
        torch.set_num_threads(threads)
        pa.set_cpu_count(threads)
    module, _, function = name.partition(":")
    found = getattr(importlib.import_module(module), function)(**json.loads(arguments))
    Path(result).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    _main(*sys.argv[1:])
