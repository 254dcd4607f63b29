"""The file formats that a corpus may come in, each read as a stream of plain rows.

A fault of the file stops the run and says where it is; whether a row is any good is for `corpus` to say.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from lingo_hitl.config import Corpus
from lingo_hitl.errors import UserError
from lingo_hitl.sample import CORPORA

if TYPE_CHECKING:
    from datasets import Dataset

RawRow = dict[str, Any]
HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
CELL_LIMIT = 100_000_000  # bytes; Python's csv module stops at 131,072 of its own accord
BATCH_ROWS = 1000
BEYOND = "(beyond the header)"
"""Key under which a CSV row keeps cells for which the header has no name."""
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Reading:
    """An opened corpus: its rows, and about how many there are (for a progress bar)."""

    rows: Iterator[RawRow]
    total: int


def local_path(corpus: Corpus, *, key: str = "corpus.path in the config") -> Path | None:
    """Where the corpus lies on disk; None for a hub id. `key` says where it was named, in words for the error.

    Raises:
        UserError: nothing there, and not something that could be a hub id either.
    """
    if corpus.path.startswith("sample:"):
        if corpus.path not in CORPORA:
            raise UserError(f"corpus '{corpus.path}' is not known. Shipped with lingo-hitl: {', '.join(CORPORA)}.")
        return CORPORA[corpus.path]
    path = Path(corpus.path).expanduser()
    if path.exists():
        return path
    if path.is_absolute() or path.suffix.lower() in READERS or not HUB_ID.fullmatch(corpus.path):
        raise UserError(f"{path}: no such file or folder. Check {key}.")
    return None


def open_corpus(corpus: Corpus, *, key: str = "corpus.path in the config") -> Reading:
    """Open a corpus whatever its format. `key` says where it was named, in words for the error.

    Raises:
        UserError: missing, of an unknown kind, or empty; later, while its rows are read: broken.
    """
    path = local_path(corpus, key=key)
    if path is None:
        return _hub(corpus)
    if path.is_dir():
        return _datasets_folder(path, corpus.split)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(
            f"{path}: ending '{path.suffix}' is not known; expected {', '.join(READERS)}, "
            "a folder of datasets.save_to_disk, or a hub id."
        )
    try:
        if path.stat().st_size == 0:
            raise UserError(f"{path}: is empty. Expected rows with an instruction each.")
        return reader(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}).") from error


def _jsonl(path: Path) -> Reading:
    return Reading(_jsonl_rows(path), _line_count(path))


def _jsonl_rows(path: Path) -> Iterator[RawRow]:
    with path.open("rb") as file:
        # Lines are split on bytes: str.splitlines would also break at U+2028, which JSON allows in texts.
        for number, line in enumerate(file, start=1):
            text = _utf8(line.removeprefix(_BOM) if number == 1 else line, path, f":{number}")
            if not text.strip():
                continue
            try:
                row = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise UserError(f"{path}:{number}: not valid JSON ({_fault(error)}). Mend the line.") from error
            yield _mapping(row, f"{path}:{number}")


def _json(path: Path) -> Reading:
    text = _utf8(path.read_bytes().removeprefix(_BOM), path)
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        hint = " A file with one object a line must end in .jsonl." if error.msg == "Extra data" else ""
        raise UserError(f"{path}:{error.lineno}: not valid JSON ({_fault(error)}).{hint}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({_fault(error)}).") from error
    if isinstance(content, dict):
        lists = [value for value in content.values() if isinstance(value, list)]
        content = lists[0] if len(lists) == 1 else content
    if not isinstance(content, list):
        raise UserError(f"{path}: expected a list of objects, or an object with one list in it.")
    rows = (_mapping(row, f"{path}: item {number}") for number, row in enumerate(content, start=1))
    return Reading(rows, len(content))


def _csv(path: Path) -> Reading:
    return Reading(_separated(path, ","), _line_count(path) - 1)


def _tsv(path: Path) -> Reading:
    return Reading(_separated(path, "\t"), _line_count(path) - 1)


def _separated(path: Path, delimiter: str) -> Iterator[RawRow]:
    csv.field_size_limit(CELL_LIMIT)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, delimiter=delimiter, strict=True, restkey=BEYOND)
        try:
            yield from reader
        except UnicodeDecodeError:
            _not_utf8(path.read_bytes(), path)
        except csv.Error as error:
            raise UserError(f"{path}:{reader.line_num}: not valid CSV ({error}). Check the quotes there.") from error


def _parquet(path: Path) -> Reading:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a Parquet file ({str(error).splitlines()[0]}).") from error

    def rows() -> Iterator[RawRow]:
        try:
            for batch in file.iter_batches(batch_size=BATCH_ROWS):
                yield from batch.to_pylist()
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: broken Parquet file ({str(error).splitlines()[0]}).") from error

    return Reading(rows(), file.metadata.num_rows)


READERS: dict[str, Callable[[Path], Reading]] = {
    ".jsonl": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _tsv,
    ".parquet": _parquet,
}


def _datasets_folder(path: Path, split: str) -> Reading:
    import datasets

    try:
        found = datasets.load_from_disk(str(path))
    except Exception as error:  # datasets raises a different class for each way in which a folder can be wrong
        raise UserError(
            f"{path}: not a folder of datasets.save_to_disk ({_first_line(error)}). "
            "For files in a folder, name each as a corpus of its own."
        ) from error
    if isinstance(found, datasets.DatasetDict):
        if split not in found:
            raise UserError(f"{path}: has no split '{split}'; it has {', '.join(found)}. Set corpus.split.")
        found = found[split]
    return _dataset(found, str(path))


def _hub(corpus: Corpus) -> Reading:
    import datasets

    try:
        found = datasets.load_dataset(corpus.path, split=corpus.split)
    except Exception as error:  # network, hub, data set script: each with classes of its own
        raise UserError(
            f"corpus '{corpus.path}': neither a file here nor a hub data set that can be loaded "
            f"({type(error).__name__}: {_first_line(error)})."
        ) from error
    return _dataset(found, corpus.path)


def _dataset(found: Dataset, name: str) -> Reading:
    if not found.num_rows:
        raise UserError(f"{name}: is empty. Expected rows with an instruction each.")

    def rows() -> Iterable[RawRow]:
        for batch in found.with_format("arrow").iter(BATCH_ROWS):
            yield from batch.to_pylist()

    return Reading(iter(rows()), found.num_rows)


def _mapping(row: Any, place: str) -> RawRow:
    if not isinstance(row, dict):
        raise UserError(f"{place}: expected an object like {{...}} with the columns, found {type(row).__name__}.")
    return row


def _utf8(data: bytes, path: Path, place: str = "") -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        _not_utf8(data, path, place)


def _not_utf8(data: bytes, path: Path, place: str = "") -> NoReturn:
    for encoding in ("cp949", "utf-16"):
        try:
            data.decode(encoding)
        except UnicodeDecodeError:
            continue
        raise UserError(
            f"{path}{place}: is not UTF-8; it looks like {encoding}. "
            f"Convert it: iconv -f {encoding} -t utf-8 {path} > {path.stem}.utf8{path.suffix}"
        ) from None
    raise UserError(f"{path}{place}: is not UTF-8 text. Save the file as UTF-8.") from None


def _fault(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at column {error.colno}"
    return "nested too deep" if isinstance(error, RecursionError) else _first_line(error)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _line_count(path: Path) -> int:
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b"")) + 1
