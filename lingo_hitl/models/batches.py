"""Texts in batches and token lists as rectangles, which is what a transformer takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lingo_hitl.models.bulk import SLAB_TEXTS, TextModel, cut
from lingo_hitl.progress import progress

ENOUGH_ON_CPU = 256  # tokens from which larger matrix products of one thread are hardly faster
BUDGET_ON_CPU = 2048  # tokens whose hidden states still lie in the cache
_BUDGET_ON_GPU = 65_536
_ACTIVATIONS_ON_GPU = 2**26  # tokens x hidden size: 2 to 5 GB, which any GPU with room for the model has


def budget_of(device: str, hidden_size: int) -> int:
    """Tokens, padding counted, that go through a model at once.

    On a GPU it depends on the model alone and not on the memory that happens to be free, so that the
    same texts come in the same batches, and give the same bits, in every run.
    """
    return BUDGET_ON_CPU if device == "cpu" else min(_BUDGET_ON_GPU, _ACTIVATIONS_ON_GPU // hidden_size)


def encodable(text: str) -> str:
    """`text` with "?" for lone surrogates: tokenizers take UTF-8 only, in which those cannot be written."""
    return text.encode("utf-8", "replace").decode()


def alike(lengths: Sequence[int], *, enough: int, most: int) -> Iterator[list[int]]:
    """Positions of `lengths` in groups that are computed together, longest first.

    A group has lists of one length only, and thus no padding, unless it would have fewer than `enough`
    tokens; it has at most `most` tokens, padding counted, unless one list has more.

    >>> list(alike([3, 5, 3, 2, 5], enough=6, most=100))
    [[1, 4], [0, 2], [3]]
    """
    group: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        if group:
            width = lengths[group[0]]
            other = lengths[place] != width and len(group) * width >= enough
            if other or (len(group) + 1) * width > most:
                yield group
                group = []
        group.append(place)
    if group:
        yield group


def padded(tokens: Sequence[list[int]], pad: int = 0) -> NDArray[np.int64]:
    """int64 [n, longest]: each list followed by `pad`."""
    width = max(map(len, tokens))
    rectangle = np.full((len(tokens), width), pad, dtype=np.int64)
    for row, ids in enumerate(tokens):
        rectangle[row, : len(ids)] = ids
    return rectangle


def compute_here(model: TextModel, texts: Sequence[str], what: str) -> NDArray[Any]:
    """What `model` makes of each text, [n, width], in this process and its memory; `what` names the progress bar.

    Identical texts are computed once, and batches are formed from the texts sorted by length: the order of
    `texts` never changes a bit of the result.
    """
    distinct = sorted(set(texts), key=lambda text: (len(text), text))
    values = np.empty((len(distinct), model.width), model.dtype)
    with progress(what, len(distinct)) as advance:
        for start in range(0, len(distinct), SLAB_TEXTS):
            items = model.encode(distinct[start : start + SLAB_TEXTS])
            sizes = np.array([model.size(item) for item in items], dtype=np.int64)
            for batch in cut(sizes, model.budget):
                values[start + batch] = model.compute([items[place] for place in batch])
                advance(len(batch))
    row = {text: i for i, text in enumerate(distinct)}
    return values[np.array([row[text] for text in texts], dtype=np.int64)]
