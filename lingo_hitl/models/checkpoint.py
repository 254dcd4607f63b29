"""What a model has computed is on disk: the values in one array, and a log of the batches that are in it.

    folder/values.npy     [distinct, width]; a row means something once a batch in the log names it
    folder/finished.log   a line of JSON (`Header`), then a record for each finished batch (`_pack`)

A batch's values are written before its record. After kill -9 the log ends with a whole record or a torn
one, which is cut off. After a power cut a record may have reached the disk before its values: the CRC of
the values tells, and that batch is computed again. Plain writes, for a memory map would count as memory,
and kill the process where the disk is full.
"""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from lingo_hitl.errors import UserError

VALUES = "values.npy"
LOG = "finished.log"
FSYNC_EVERY_S = 5.0
_FORMAT = 1
_HEAD = struct.Struct("<IQI")  # places in the batch, the lowest of them, CRC of its values
_CRC = struct.Struct("<I")  # of the record, itself left out
_SPAN = 1 << 16  # places in a batch lie this close to its first
_CHECKED_AT_ONCE = 64  # batches whose values are mapped together

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Header:
    """What the files are about; other texts or another model have another fingerprint."""

    fingerprint: str
    rows: int
    width: int
    dtype: str
    format: int = _FORMAT


@contextmanager
def open_checkpoint(folder: Path | None, fingerprint: str, rows: int) -> Iterator[InMemory]:
    """What is finished of `rows` distinct texts, in `folder` (made where absent) or in memory.

    Raises:
        UserError: the folder cannot be written, or another run works there.
    """
    if folder is None:
        yield InMemory(rows)
        return
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{folder}: another run works here. Wait for it, or use another folder.") from None
        with _writing(folder):
            kept = InFolder(folder, fingerprint, rows)
        with closing(kept):
            yield kept
    finally:
        os.close(lock)


class InMemory:
    """The values of a corpus' distinct texts, and which of them are there. Gone with the process."""

    def __init__(self, rows: int) -> None:
        self.done = np.zeros(rows, dtype=bool)
        self.batches = 0
        self.resumed = 0
        self._array: NDArray[Any] | None = None

    @property
    def complete(self) -> bool:
        """Whether nothing is left to compute, so that no model is needed."""
        return self._array is not None and bool(self.done.all())

    def prepare(self, width: int, dtype: np.dtype[Any]) -> None:
        """Make room for values [rows, width]; to be called before the first `put`."""
        self._array = np.zeros((len(self.done), width), dtype)

    def put(self, places: Ints, values: NDArray[Any]) -> None:
        """Keep the values [len(places), width] of one batch."""
        assert self._array is not None, "prepare() comes first"
        self._array[places] = _checked(values, (len(places), self._array.shape[1]), self._array.dtype)
        self._count(places)

    def values(self) -> NDArray[Any]:
        """All values [rows, width], read-only."""
        assert self._array is not None, "prepare() comes first"
        self._array.setflags(write=False)
        return self._array

    def _count(self, places: Ints) -> None:
        self.done[places] = True
        self.batches += 1


class InFolder(InMemory):
    """The same in files, for as long as they are about the same texts and model (`fingerprint`)."""

    def __init__(self, folder: Path, fingerprint: str, rows: int) -> None:
        super().__init__(rows)
        self._path, self._log_path = folder / VALUES, folder / LOG
        self._fingerprint = fingerprint
        self._header: Header | None = None
        self._files: tuple[int, int] | None = None
        self._offset = 0  # of the first value in values.npy
        self._synced = time.monotonic()
        self._resume()

    @property
    def complete(self) -> bool:
        return self._header is not None and bool(self.done.all())

    def prepare(self, width: int, dtype: np.dtype[Any]) -> None:
        header = Header(self._fingerprint, len(self.done), width, np.dtype(dtype).str)
        if self._header != header:
            with _writing(self._path):
                self._start(header)

    def put(self, places: Ints, values: NDArray[Any]) -> None:
        assert self._files and self._header, "prepare() comes first"
        file, log = self._files
        values = _checked(values, (len(places), self._header.width), np.dtype(self._header.dtype))
        order = np.argsort(places)
        with _writing(self._path):
            for run in np.split(order, np.flatnonzero(np.diff(places[order]) != 1) + 1):
                _write(file, values[run].tobytes(), self._offset + int(places[run[0]]) * values.strides[0])
        with _writing(self._log_path):
            _write(log, _pack(places, _crc(values)))
            self._count(places)
            if time.monotonic() - self._synced >= FSYNC_EVERY_S:
                self._sync()

    def values(self) -> NDArray[Any]:
        with _writing(self._path):
            self._sync()
        array: NDArray[Any] = np.load(self._path, mmap_mode="r")
        return array

    def close(self) -> None:
        """Let go of the files; what was put is kept."""
        for file in self._files or ():
            os.close(file)
        self._files = None

    def _sync(self) -> None:
        for file in self._files or ():
            os.fsync(file)
        self._synced = time.monotonic()

    def _start(self, header: Header) -> None:
        """Anew. Files that were there are replaced, never written to: they may be linked from elsewhere."""
        self.close()
        self.done[:] = False
        self.batches = self.resumed = 0
        self._log_path.unlink(missing_ok=True)
        self._path.unlink(missing_ok=True)
        shape = (header.rows, header.width)
        with self._path.open("wb") as file:
            described = {"descr": header.dtype, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, described)
            _reserve(file, file.tell() + math.prod(shape) * np.dtype(header.dtype).itemsize)
            os.fsync(file.fileno())
        fresh = self._log_path.with_suffix(".new")
        with fresh.open("wb") as log:
            log.write(json.dumps(asdict(header)).encode() + b"\n")
            log.flush()
            os.fsync(log.fileno())
        fresh.replace(self._log_path)
        self._open(header)

    def _open(self, header: Header) -> None:
        self._files = (os.open(self._path, os.O_RDWR), os.open(self._log_path, os.O_WRONLY | os.O_APPEND))
        self._offset = self._path.stat().st_size - header.rows * header.width * np.dtype(header.dtype).itemsize
        self._header = header

    def _resume(self) -> None:
        """Take over what an earlier run has finished, if it was about the same."""
        try:
            first, _, content = self._log_path.read_bytes().partition(b"\n")
            header = Header(**json.loads(first))
            found = np.load(self._path, mmap_mode="r")
        except (FileNotFoundError, ValueError, TypeError, EOFError):
            return
        same = (header.fingerprint, header.rows, header.format) == (self._fingerprint, len(self.done), _FORMAT)
        if not same or found.shape != (header.rows, header.width) or found.dtype.str != header.dtype:
            return
        self._open(header)
        records = list(_unpack(content, header.rows))
        os.truncate(self._log_path, len(first) + 1 + (records[-1].end if records else 0))
        records.sort(key=lambda record: int(record.places.min()))
        for start in range(0, len(records), _CHECKED_AT_ONCE):
            found = np.load(self._path, mmap_mode="r")  # anew, so that what was looked at leaves the memory
            for record in records[start : start + _CHECKED_AT_ONCE]:
                if _crc(found[record.places]) == record.crc and not self.done[record.places].all():
                    self._count(record.places)
        self.resumed = self.batches


@dataclass(frozen=True)
class _Record:
    """A finished batch: which rows of the values it filled, and the CRC-32 of these, in that order."""

    places: Ints
    crc: int
    end: int  # where in the log the next record starts


def _pack(places: Ints, crc: int) -> bytes:
    """A record: its head, and how far each place lies above the first, 2 bytes each."""
    first = int(places.min())
    above = places - first
    assert above.max() < _SPAN, "the places of a batch lie in one slab"
    tail = above.astype("<u2").tobytes()
    head = _HEAD.pack(len(places), first, crc)
    return head + _CRC.pack(zlib.crc32(head + tail)) + tail


def _unpack(content: bytes, rows: int) -> Iterator[_Record]:
    """The records in `content` up to the first that is not whole."""
    start, size = 0, _HEAD.size + _CRC.size
    while start + size <= len(content):
        head = content[start : start + _HEAD.size]
        count, first, crc = _HEAD.unpack(head)
        [own_crc] = _CRC.unpack_from(content, start + _HEAD.size)
        end = start + size + 2 * count
        tail = content[start + size : end]
        if end > len(content) or zlib.crc32(head + tail) != own_crc:
            return
        places = first + np.frombuffer(tail, "<u2").astype(np.int64)
        if not count or places.max() >= rows:
            return
        yield _Record(places, crc, end)
        start = end


def _crc(values: NDArray[Any]) -> int:
    return zlib.crc32(values.data.cast("B") if values.size else b"")


def _checked(values: NDArray[Any], shape: tuple[int, int], dtype: np.dtype[Any]) -> NDArray[Any]:
    if values.shape != shape:
        raise ValueError(f"the model gave an array of shape {values.shape}; expected {shape}")
    return np.ascontiguousarray(values, dtype)


def _write(file: int, content: bytes, offset: int | None = None) -> None:
    """All of `content` at `offset`, or at the end; a nearly full disk may take only a part at once."""
    left = memoryview(content)
    while left:
        written = os.write(file, left) if offset is None else os.pwrite(file, left, offset)
        left = left[written:]
        offset = None if offset is None else offset + written


def _reserve(file: IO[bytes], size: int) -> None:
    """Make the file `size` bytes long, and have the disk say now whether it has room for them."""
    file.flush()
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except (AttributeError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise
        file.truncate(size)  # not every file system can reserve; there `put` tells that the disk is full


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror or error}). Expected a folder with room for the model's "
            "values. Mend that and run again: finished batches are kept."
        ) from error
