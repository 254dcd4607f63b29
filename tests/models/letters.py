"""A model that is quick and exact: what it says of a text depends on the text, and on its batch."""

from __future__ import annotations

import os
import signal
import sys
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lingo_hitl.errors import UserError
from lingo_hitl.models.bulk import compute_all


@dataclass(frozen=True)
class Letters:
    """A `ModelSource` and `TextModel` in one.

    Numbers of a text: its code points, a CRC of it, how many texts share its batch, then zeros.
    `trace` is a file that gets a line for each batch computed. `refuses` is a text that the model fails
    on, `dies_at` one that kills the process.
    """

    width: int = 3
    budget: int = 64
    trace: Path | None = None
    refuses: str | None = None
    dies_at: str | None = None
    device: str | None = None
    name: str = "letters"
    loads: bool = True

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float64)

    @property
    def identity(self) -> dict[str, Any]:
        return {"model": self.name, "width": self.width}

    def on(self, device: str) -> Letters:
        return replace(self, device=device)

    def load(self) -> Letters:
        if not self.loads:
            raise UserError("the model is gone")
        return self

    def encode(self, texts: list[str]) -> list[str]:
        return texts

    def size(self, item: str) -> int:
        return len(item)

    def compute(self, items: list[str]) -> NDArray[np.float64]:
        if self.refuses in items:
            raise UserError(f"'{self.refuses}' is too much")
        if self.dies_at in items:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.trace:
            with self.trace.open("a", encoding="utf-8") as trace:
                trace.write(f"{os.getpid()} {len(items)}\n")
        values = np.zeros((len(items), self.width))
        values[:, :3] = [(len(item), zlib.crc32(item.encode()), len(items)) for item in items]
        return values


def corpus(count: int) -> list[str]:
    """Distinct Korean texts of many lengths, the same in every process."""
    generator = np.random.default_rng(count)
    return [f"{n} " + "가나다라마바사"[: n % 7] * int(generator.integers(0, 6)) for n in range(count)]


def main(folder: str, trace: str, count: int, workers: int) -> None:
    """What the tests run in a process of its own, to kill it."""
    texts = pa.array(corpus(count))
    compute_all(texts, Letters(trace=Path(trace)), what="letters", folder=Path(folder), workers=workers)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
