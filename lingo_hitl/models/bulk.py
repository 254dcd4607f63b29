"""A model over a whole corpus: each distinct text once, in batches of like length, on disk as soon as done.

What a model is (`TextModel`) and how a worker gets one (`ModelSource`) is said here. `checkpoint` keeps
finished batches; `engines` says who computes: this process, several of them, or Ray's actors.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lingo_hitl.config import Engine
from lingo_hitl.models import checkpoint, engines
from lingo_hitl.progress import progress

# Texts that are tokenized and sorted by tokens together. Many, because a batch of texts that have as many
# characters but not as many tokens is padded: on 30,000 real Korean questions 4,096 texts and 2,048 tokens
# a batch pad 2.4 %, 16,384 texts 1.0 %. Few enough that their tokens fit in memory.
SLAB_TEXTS = 16_384
SLAB_CHARACTERS = 2_000_000

Ints = NDArray[np.int64]


class TextModel(Protocol):
    """Turns texts into `width` numbers each, a batch at a time.

    The process that cuts the batches is often not one that computes: a model is best loaded so that
    `encode`, `size`, `budget`, `width` and `dtype` do without the weights, and `compute` reads them first
    when it is first called. `encode` may run in one thread while `compute` runs in another.
    """

    @property
    def width(self) -> int: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    @property
    def budget(self) -> int:
        """Tokens that a batch may have, padding counted."""
        ...

    def encode(self, texts: list[str]) -> list[Any]:
        """What `compute` takes for each text, such as its token ids; it must survive pickling."""
        ...

    def size(self, item: Any) -> int:
        """Tokens that an item takes in a batch."""
        ...

    def compute(self, items: list[Any]) -> NDArray[Any]:
        """The numbers of each item, [len(items), width]. Items come longest first and are of similar size."""
        ...


class ModelSource(Protocol):
    """How to load a model; small and picklable, for it travels to worker processes and Ray's actors."""

    def load(self) -> TextModel: ...

    def on(self, device: str) -> ModelSource:
        """The same model on another device, such as "cuda:1"."""
        ...

    @property
    def identity(self) -> dict[str, Any]:
        """What the numbers depend on, as JSON values. Under another identity finished batches count for nothing."""
        ...

    @property
    def device(self) -> str | None:
        """Where it is to be loaded; None lets each process choose."""
        ...


@dataclass(frozen=True)
class Computed:
    """What a model made of a corpus.

    Attributes:
        values: [distinct, width], read-only, memory-mapped where it lies in a folder; the distinct texts
            are in order of (code points, text).
        index: the row of `values` for each text, int64 [n].
        batches: how many it took, those included that an earlier run had finished.
        resumed: how many of them an earlier run had finished.
    """

    values: NDArray[Any]
    index: Ints
    batches: int
    resumed: int


@dataclass(frozen=True)
class Batch:
    """Items for one call of `compute`, and the place of each among the distinct texts, int64 [len(items)]."""

    places: Ints
    items: list[Any]


def compute_all(
    texts: pa.StringArray | pa.LargeStringArray | pa.ChunkedArray,
    source: ModelSource,
    *,
    what: str,
    folder: Path | None,
    engine: Engine = "local",
    workers: int | None = None,
) -> Computed:
    """Let the model of `source` compute all `texts`; their order never matters to a result.

    Args:
        texts: without nulls; equal ones are computed once.
        what: names the progress bar, which counts distinct texts.
        folder: where `values.npy` and the log of finished batches are kept. The same call after a crash,
            kill -9 included, goes on from there and ends with the same bytes; for other texts or another
            model it starts anew. None keeps the values in memory.
        engine: "local" for this machine, "ray" for the cluster of RAY_ADDRESS, or one on this machine.
        workers: processes that compute. Absent: one for each GPU, else this process; with Ray one for each
            GPU of the cluster, else 2.

    Raises:
        UserError: a model that cannot be loaded, a folder that cannot be written or that another run uses,
            a worker that died, Ray not installed or not reachable. Finished batches are kept.
        ValueError: a null among the texts.
    """
    distinct = Distinct.of(texts)
    fingerprint = _fingerprint(distinct, source)
    with checkpoint.open_checkpoint(folder, fingerprint, len(distinct)) as kept:
        if not kept.complete:
            model = source.load()
            kept.prepare(model.width, model.dtype)
            batches = _batches(distinct, model, kept.done)
            with progress(what, len(distinct)) as advance:
                advance(int(kept.done.sum()))
                with closing(engines.run(engine, source, model, batches, workers)) as results:
                    for batch, values in results:
                        kept.put(batch.places, values)
                        advance(len(batch.places))
        return Computed(kept.values(), distinct.index, kept.batches, kept.resumed)


@dataclass(frozen=True)
class Distinct:
    """Each text of a corpus once, in order of (code points, text), without a copy of them in that order.

    Attributes:
        texts: the distinct texts, as they came.
        order: positions in `texts`, int64 [distinct].
        lengths: code points of each text, in order; int64 [distinct].
        index: for each text of the corpus its place in `order`, int64 [n].
    """

    texts: pa.LargeStringArray
    order: Ints
    lengths: Ints
    index: Ints

    @classmethod
    def of(cls, texts: pa.StringArray | pa.LargeStringArray | pa.ChunkedArray) -> Distinct:
        if texts.null_count:
            raise ValueError(f"{texts.null_count} of {len(texts)} texts are null; expected none")
        chunks = texts if isinstance(texts, pa.ChunkedArray) else pa.chunked_array([texts])
        # 64-bit offsets: a million texts can have more than 2 GB together.
        coded = chunks.cast(pa.large_string()).dictionary_encode().unify_dictionaries()
        known = coded.chunk(0).dictionary if coded.num_chunks else pa.array([], pa.large_string())
        lengths = pc.utf8_length(known)
        # Arrow compares strings by their UTF-8 bytes, which is the order of their code points.
        keys = pa.table({"length": lengths, "text": known})
        order = pc.sort_indices(keys, sort_keys=[("length", "ascending"), ("text", "ascending")])
        order = order.to_numpy().astype(np.int64)
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        codes = [place[chunk.indices.to_numpy()] for chunk in coded.chunks]
        index = np.concatenate([np.empty(0, np.int64), *codes])
        return cls(known, order, lengths.to_numpy().astype(np.int64)[order], index)

    def __len__(self) -> int:
        return len(self.order)

    def part(self, start: int, stop: int) -> pa.LargeStringArray:
        """The texts from `start` to before `stop`, in order."""
        return self.texts.take(pa.array(self.order[start:stop]))

    def slabs(self) -> Iterator[tuple[int, int]]:
        """(start, stop) of the parts that are tokenized together, longest texts first.

        The longest come first so that a model for which they are too much says so at once, and so that
        several workers end together.
        """
        before = np.concatenate([[0], np.cumsum(self.lengths)])
        stop = len(self)
        while stop:
            fitting = int(np.searchsorted(before, before[stop] - SLAB_CHARACTERS))
            start = min(max(fitting, stop - SLAB_TEXTS, 0), stop - 1)
            yield start, stop
            stop = start


def cut(sizes: Ints, budget: int) -> list[Ints]:
    """Positions of `sizes` (int64 [n]) batch by batch, largest first: each at most `budget` padded tokens.

    A size above the budget is a batch of its own.

    >>> [batch.tolist() for batch in cut(np.array([3, 9, 3, 4]), 9)]
    [[1], [3, 0], [2]]
    """
    order = np.argsort(-sizes, kind="stable")
    batches, start = [], 0
    while start < len(order):
        count = max(1, budget // max(1, int(sizes[order[start]])))
        batches.append(order[start : start + count])
        start += count
    return batches


def _batches(distinct: Distinct, model: TextModel, done: NDArray[np.bool_]) -> Iterator[Batch]:
    """What is left to compute, the same batches in every run. The next slab is tokenized meanwhile."""

    def encode(start: int, stop: int) -> list[Any]:
        return model.encode(distinct.part(start, stop).to_pylist())

    left = [(start, stop) for start, stop in distinct.slabs() if not done[start:stop].all()]
    with ThreadPoolExecutor(1) as aside:
        coming = [aside.submit(encode, *slab) for slab in left[:1]]
        for number, (start, _) in enumerate(left, start=1):
            items = coming.pop().result()
            coming += [aside.submit(encode, *slab) for slab in left[number : number + 1]]
            sizes = np.array([model.size(item) for item in items], dtype=np.int64)
            for batch in cut(sizes, model.budget):
                missing = batch[~done[start + batch]]
                if len(missing):
                    yield Batch(start + missing, [items[n] for n in missing])


def _fingerprint(distinct: Distinct, source: ModelSource) -> str:
    """SHA-256 over the distinct texts in order and what the model's numbers depend on."""
    plan = {"model": source.identity, "slab": [SLAB_TEXTS, SLAB_CHARACTERS], "texts": len(distinct)}
    digest = hashlib.sha256(json.dumps(plan, sort_keys=True, ensure_ascii=False).encode())
    for start, stop in distinct.slabs():
        part = distinct.part(start, stop)
        _, offsets, content = part.buffers()
        ends = np.frombuffer(offsets, np.int64)[: len(part) + 1]
        digest.update(ends.tobytes())
        digest.update(memoryview(content or b"")[: ends[-1]])
    return digest.hexdigest()
