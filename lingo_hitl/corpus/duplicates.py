"""Texts that nearly repeat each other: Jaccard similarity of their character n-grams, found by MinHash and LSH.

Texts are compared in NFKC, case folded, without white space, as sets of three-character pieces: for Korean, where
spacing is loose and particles hang on words, characters tell more than words. MinHash sketches (Broder 1997, here
Dahlgaard, Knudsen and Thorup's Fast Similarity Sketching, 2017, by the rensa library) are cut into bands; texts
that share a band are candidates (Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, section 3.4). Each
candidate pair is then measured on the pieces themselves: no pair below the threshold is ever joined.

The buckets of a band are found by sorting, not by rensa's own index, which lists all pairs of a bucket: a corpus with
one text in 100,000 slightly different forms would need 5,000,000,000 of them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Words = NDArray[np.uint64]

GRAM = 3  # characters in a piece; a text of at most as many repeats only its equal
SKETCH = 128  # numbers in a MinHash sketch
MISS = 0.005  # largest chance that a pair exactly at the threshold shares no band
NEIGHBOURS = 15  # members that each member of a bucket is compared with, beside the bucket's first
BATCH_CHARACTERS = 2_000_000
BATCH_TEXTS = 10_000
SEED = 42
_POINT_BITS = np.uint64(21)  # a code point is below 0x110000: three of them fill 63 bits
_ODD = np.uint64(0x9E3779B97F4A7C15)


def near_duplicate_groups(
    texts: pa.StringArray | pa.ChunkedArray | Sequence[str], similarity: float = 0.8
) -> NDArray[np.int64]:
    """Which texts belong together, as a number for each: the position of the first text in its group; int64 [n].

    Groups are the connected components of the pairs that were found to have a Jaccard similarity of at least
    `similarity`: two texts of one group may be less alike than that. Texts that are equal once normalised are always
    together, and those of at most three characters with nothing else. The partition depends on the texts alone, not
    on their order.

    A pair at the threshold is overlooked with a chance of at most 0.5 % (less when more alike), and in a bucket of
    more than 16 texts also when no chain of neighbours in the texts' own order leads from one to the other.
    """
    if not 0 < similarity <= 1:
        raise ValueError(f"similarity is {similarity}; expected above 0 and at most 1")
    distinct, place = _distinct(texts)
    label = _components(distinct, similarity)[place]
    first = np.full(len(distinct), len(place), np.int64)
    np.minimum.at(first, label, np.arange(len(place)))
    return first[label]


def bands_of(similarity: float, sketch: int = SKETCH) -> tuple[int, int]:
    """Number of bands and rows in each: the longest bands that miss a pair at the threshold with chance <= `MISS`."""
    for rows in range(sketch, 1, -1):
        if (1 - similarity**rows) ** (sketch // rows) <= MISS:
            return sketch // rows, rows
    return sketch, 1


def normalised(text: str | None) -> str:
    """The text in NFKC, case folded, without white space: what near-duplicates are compared by."""
    return "".join(unicodedata.normalize("NFKC", text or "").casefold().split())


def _distinct(texts: Any) -> tuple[pa.LargeBinaryArray, Ints]:
    """The distinct normalised texts in their own order, UTF-8; and for each given text its place among them."""
    chunks = [
        pa.array([normalised(text).encode("utf-8", "surrogatepass") for text in batch], pa.large_binary())
        for batch in _batches(texts)
    ]
    encoded = pa.chunked_array(chunks, pa.large_binary()).combine_chunks().dictionary_encode()
    order = pc.sort_indices(encoded.dictionary).to_numpy()
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return encoded.dictionary.take(pa.array(order)), rank[encoded.indices.to_numpy()]


def _batches(texts: Any) -> Iterator[list[str | None]]:
    if isinstance(texts, pa.ChunkedArray):
        for chunk in texts.chunks:
            yield from _batches(chunk)
        return
    for start in range(0, len(texts), BATCH_TEXTS):
        part = texts[start : start + BATCH_TEXTS]
        yield part.to_pylist() if isinstance(part, pa.Array) else list(part)


def _components(texts: pa.LargeBinaryArray, similarity: float) -> Ints:
    """For each of the distinct texts the place of the first one in its component."""
    lengths = _lengths(texts)
    long = np.flatnonzero(lengths > GRAM)
    label = np.arange(len(texts))
    if not len(long):
        return label
    buckets = _buckets(_band_keys(texts.take(pa.array(long)), similarity))
    candidates = np.unique(np.concatenate([members for members, _ in buckets]))
    if not len(candidates):
        return label
    links = _Links(_Pieces.of(texts.take(pa.array(long[candidates]))), similarity)
    for members, bucket in buckets:
        links.compare_within(np.searchsorted(candidates, members), bucket)
    label[long[candidates]] = long[candidates][links.label]
    return label


def _band_keys(texts: pa.LargeBinaryArray, similarity: float) -> Words:
    """One number for each band of each text's sketch; uint64 [bands, n]."""
    from rensa import RMinHash

    bands, rows = bands_of(similarity)
    keys = np.empty((bands, len(texts)), np.uint64)
    for start, stop in _spans(_lengths(texts)):
        grams, offsets = _grams(texts[start:stop])
        # Neighbouring code points differ in few bits; rensa expects hashes.
        sketches = RMinHash.digest_matrix_from_flat_token_hashes(_mixed(grams), offsets, bands * rows, SEED)
        numbers = np.array(sketches.to_rows(), np.uint64).reshape(stop - start, bands, rows)
        key = np.zeros((stop - start, bands), np.uint64)
        for row in range(rows):
            key = _mixed(key ^ numbers[:, :, row])
        keys[:, start:stop] = key.T
    return keys


def _buckets(keys: Words) -> list[tuple[Ints, Ints]]:
    """For each band: the texts that share its key with another, bucket by bucket, and each one's bucket's number."""
    found = []
    for band in keys:
        order = np.argsort(band, kind="stable")
        same = band[order][1:] == band[order][:-1]
        shared = np.append(same, False) | np.append(False, same)
        starts = np.append(True, ~same)
        found.append((order[shared], np.cumsum(starts)[shared]))
    return found


@dataclass(frozen=True)
class _Pieces:
    """The distinct n-grams of texts, each text's in ascending order: `grams[offsets[i]:offsets[i + 1]]`."""

    grams: Words
    offsets: Ints

    @classmethod
    def of(cls, texts: pa.LargeBinaryArray) -> _Pieces:
        grams, sizes = [], []
        for start, stop in _spans(_lengths(texts)):
            found, offsets = _grams(texts[start:stop])
            row = np.repeat(np.arange(stop - start), np.diff(offsets))
            order = np.lexsort((found, row))
            found, row = found[order], row[order]
            fresh = np.append(True, (found[1:] != found[:-1]) | (row[1:] != row[:-1]))
            grams.append(found[fresh])
            sizes.append(np.bincount(row[fresh], minlength=stop - start))
        return cls(np.concatenate(grams), np.append(0, np.cumsum(np.concatenate(sizes))))


class _Links:
    """Components of texts, joined pair by pair where the pieces of two overlap enough."""

    def __init__(self, pieces: _Pieces, similarity: float) -> None:
        from scipy.sparse import csr_array

        n = len(pieces.offsets) - 1
        self.label: Ints = np.arange(n)  # the smallest text of each one's component
        self._sizes = np.diff(pieces.offsets)
        self._similarity = similarity
        # A sparse row for each text, an n-gram's code points being its column: scipy intersects sorted rows in C.
        data = np.ones(len(pieces.grams), np.int8)
        self._rows = csr_array((data, pieces.grams.view(np.int64), pieces.offsets), shape=(n, np.iinfo(np.int64).max))
        self._rows.has_canonical_format = True

    def compare_within(self, members: Ints, bucket: Ints) -> None:
        """Join the texts of each bucket; a bucket's texts stand together, in ascending order."""
        start = np.append(True, bucket[1:] != bucket[:-1])
        self._join(members[np.maximum.accumulate(np.where(start, np.arange(len(members)), 0))], members)
        for step in range(1, NEIGHBOURS + 1):
            together = bucket[step:] == bucket[:-step]
            if not together.any():
                break
            self._join(members[:-step][together], members[step:][together])

    def _join(self, left: Ints, right: Ints) -> None:
        small, large = (
            np.minimum(self._sizes[left], self._sizes[right]),
            np.maximum(self._sizes[left], self._sizes[right]),
        )
        open_ = (self.label[left] != self.label[right]) & (small >= self._similarity * large)
        left, right = left[open_], right[open_]
        for start, stop in _spans(self._sizes[left] + self._sizes[right], most=None):
            self._link(left[start:stop], right[start:stop])

    def _link(self, left: Ints, right: Ints) -> None:
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        common = np.diff(self._rows[left].multiply(self._rows[right]).indptr)
        alike = common >= self._similarity * (self._sizes[left] + self._sizes[right] - common)
        if not alike.any():
            return
        ends = np.concatenate([self.label[left[alike]], self.label[right[alike]]])
        known, ends = np.unique(ends, return_inverse=True)
        a, b = np.split(ends, 2)
        graph = coo_array((np.ones(len(a), np.int8), (a, b)), shape=(len(known), len(known)))
        _, part = connected_components(graph, directed=False)
        smallest = np.full(len(known), len(self.label), np.int64)
        np.minimum.at(smallest, part, known)
        renamed = np.arange(len(self.label))
        renamed[known] = smallest[part]
        self.label = renamed[self.label]


def _mixed(values: Words) -> Words:
    """splitmix64's finaliser (Steele, Lea and Flood 2014): equal values stay equal, near ones part."""
    values = values + _ODD
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _spans(sizes: Ints, most: int | None = BATCH_TEXTS) -> Iterator[tuple[int, int]]:
    """Cuts a sequence where a part would pass `BATCH_CHARACTERS` in all or `most` items; one item at least."""
    ends = np.cumsum(sizes)
    start = 0
    while start < len(sizes):
        before = ends[start - 1] if start else 0
        stop = max(int(np.searchsorted(ends, before + BATCH_CHARACTERS, side="right")), start + 1)
        stop = stop if most is None else min(stop, start + most)
        yield start, stop
        start = stop


def _lengths(texts: pa.LargeBinaryArray) -> Ints:
    """Code points of each text; int64 [n]."""
    lengths: Ints = pc.utf8_length(texts.view(pa.large_string())).to_numpy()
    return lengths


def _grams(texts: pa.LargeBinaryArray) -> tuple[Words, Ints]:
    """The n-grams of each text in a row, three code points in 63 bits; and where each text's begin; [n + 1]."""
    lengths = _lengths(texts)
    text = b"".join(texts.to_pylist()).decode("utf-8", "surrogatepass").encode("utf-32-le", "surrogatepass")
    points = np.frombuffer(text, np.uint32).astype(np.uint64)
    counts = np.maximum(lengths - GRAM + 1, 0)
    offsets = np.append(0, np.cumsum(counts))
    starts = np.append(0, np.cumsum(lengths))[:-1]
    at = np.repeat(starts - offsets[:-1], counts) + np.arange(offsets[-1])
    grams = points[at]
    for further in range(1, GRAM):
        grams = (grams << _POINT_BITS) | points[at + further]
    return grams, offsets
