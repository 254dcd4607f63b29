"""What the stages of `run` leave in their folder `out`, and reading it back without holding more than is asked for."""

from __future__ import annotations

import filecmp
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lingo_hitl.config import Corpus, KoQualityConfig
from lingo_hitl.curation.koquality import Selection, choose
from lingo_hitl.curation.pool import Cells, Ints, Pool
from lingo_hitl.errors import UserError
from lingo_hitl.stages import Manifest, link_or_copy, read_manifest

STAGES = ("prepare", "perplexity", "embedding", "clusters", "sampling")
PUBLISHED = ("rows.parquet", "selected.parquet", "report.html", "manifest.json")
"""What the last stage makes, linked into `out` itself."""

ROWS = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("instruction", pa.large_string()),  # a million long texts are more than the 2 GB that a string column holds
        ("output", pa.large_string()),
        ("length", pa.int32()),  # code points of the instruction
        ("n_tokens", pa.int32()),
        ("ppl", pa.float64()),  # null: nothing to predict
        ("len_group", pa.int32()),  # 0 for the shortest; null: lost, as the original loses it
        ("cluster", pa.int32()),  # in its length group; -1: no vector
        ("selected", pa.bool_()),
        ("reason", pa.string()),
    ]
)
"""What `rows.parquet` and `selected.parquet` hold."""

_TEXTS = ("id", "source", "instruction", "output", "length")
_BATCH = 20_000  # rows


def check_ours(out: Path, corpora: Sequence[Corpus]) -> None:
    """Refuse to write over what somebody else put there, or over a corpus that is to be read.

    Raises:
        UserError: `out` holds a file of a published name that no earlier run made, or a corpus is one of its own.
    """
    theirs = [name for name in PUBLISHED if (out / name).exists()]
    published = out / "manifest.json"
    ours = "manifest.json" in theirs and '"stage": "sampling"' in published.read_text(
        encoding="utf-8", errors="replace"
    )
    for name in () if ours else theirs:
        made = out / "sampling" / name
        if not (made.is_file() and filecmp.cmp(made, out / name, shallow=False)):
            raise UserError(
                f"{out / name} is there, and no earlier run made it. Choose another --out, or move it away."
            )
    own = {(out / name).resolve() for name in PUBLISHED} | {(out / name).resolve() for name in STAGES}
    for corpus in corpora:
        path = Path(corpus.path).resolve()
        if path in own or own & set(path.parents):
            raise UserError(f"{corpus.path} is a result in {out} and would be written over. Choose another --out.")


def inputs_of(out: Path, *needs: str) -> dict[str, str]:
    """A hash of all that each stage left, after a look whether it is there and newer than what it was made from.

    Raises:
        UserError: a stage has not run in `out`, or not since one before it ran again.
    """
    hashes: dict[str, str] = {}
    for name in needs:
        command = f"{name} --input FILE --out {out}" if name == "prepare" else f"{name} {out}"
        manifest, rows = read_manifest(out, name), out / name / "rows.parquet"
        if manifest is None or not rows.is_file():
            raise UserError(f"{rows} is not there. Run `lingo-hitl curate {command}` first.")
        for earlier, sha256 in manifest.inputs.items():
            if hashes.get(earlier, sha256) != sha256:
                raise UserError(
                    f"{out / name} was made before the last run of '{earlier}'. "
                    f"Run `lingo-hitl curate {command}` first."
                )
        hashes[name] = _hash(manifest)
    return hashes


def _hash(manifest: Manifest) -> str:
    """Of the rows and of whatever lies beside them: other vectors must not pass for the same ones."""
    made = [manifest.output_sha256, sorted(manifest.files.items())]
    return hashlib.sha256(json.dumps(made).encode()).hexdigest()


def columns(out: Path, stage: str, names: Sequence[str]) -> pa.Table:
    """Some columns of what a stage left.

    Raises:
        UserError: its file is missing or damaged.
    """
    path = out / stage / "rows.parquet"
    try:
        return pq.read_table(path, columns=list(names))
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error


def whole(out: Path, name: str) -> pa.LargeStringArray:
    """A text column of the prepared rows in one piece."""
    return columns(out, "prepare", [name])[name].cast(pa.large_string()).combine_chunks()


def read_pool(out: Path) -> Pool:
    """What the stages before `clusters` left, as columns; vectors stay on disk.

    Raises:
        UserError: a file is missing or damaged.
    """
    rows = columns(out, "prepare", ["id", "length", "quality"])
    path = out / "embedding" / "vectors.npy"
    try:
        vectors = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error
    return Pool(
        ids=rows["id"].combine_chunks(),
        texts=whole(out, "instruction"),
        lengths=rows["length"].to_numpy().astype(np.int64),
        perplexity=columns(out, "perplexity", ["ppl"])["ppl"].to_numpy(),
        vectors=vectors,
        vector_of=columns(out, "embedding", ["vector"])["vector"].to_numpy(),
        quality=None if rows["quality"].null_count == rows.num_rows else rows["quality"].to_numpy(),
    )


def read_selection(out: Path, config: KoQualityConfig) -> Selection:
    """What `config` picks from the clusters in `out`, which must be up to date (`inputs_of`)."""
    found = columns(out, "clusters", ["len_group", "cluster", "duplicate_group"])
    groups, labels = (found[name].fill_null(-1).to_numpy().astype(np.int64) for name in ("len_group", "cluster"))
    repeats = found["duplicate_group"]
    pool = replace(read_pool(out), duplicate_group=None if repeats.null_count else repeats.to_numpy())
    return choose(pool, Cells(groups, labels), config)


def or_null(labels: Ints) -> pa.Array:
    """Labels as int32, those below 0 as null."""
    return pa.array(labels, pa.int32(), mask=labels < 0)


def write_rows(path: Path, out: Path, selection: Selection) -> None:
    """Write all rows with all that was found out about them (`ROWS`) to `path`.

    Method exact: in the order of the original's files. Else as they came, and then texts go through in
    batches: a corpus' outputs may be larger than the memory.
    """
    found = _found_out(out, selection)
    with pq.ParquetWriter(path, ROWS, compression="zstd") as file:
        if selection.config.method == "exact":
            texts = columns(out, "prepare", _TEXTS)
            table = _beside(texts, found).take(pa.array(selection.order))
            file.write_table(table)
            return
        for start, texts in _batches(out):
            file.write_table(_beside(texts, found.slice(start, texts.num_rows)))


def sampled_rows(out: Path, selection: Selection) -> pa.Table:
    """The sampled rows, as `ROWS`, by (length group, cluster, perplexity, length, id)."""
    found = _found_out(out, selection)
    parts = []
    for start, texts in _batches(out):
        inside = pa.array(selection.selected[start : start + texts.num_rows])
        parts.append(_beside(texts.filter(inside), found.slice(start, texts.num_rows).filter(inside)))
    place = np.cumsum(selection.selected) - 1
    return pa.concat_tables([ROWS.empty_table(), *parts]).take(pa.array(place[selection.sample_order]))


def _found_out(out: Path, selection: Selection) -> pa.Table:
    """The columns of `ROWS` behind the texts, in the order of the prepared rows."""
    groups = selection.groups
    made = {
        "n_tokens": columns(out, "perplexity", ["n_tokens"])["n_tokens"],
        "ppl": pa.array(selection.perplexity, from_pandas=True),
        "len_group": or_null(groups),
        "cluster": pa.array(selection.clusters, pa.int32(), mask=groups < 0),
        "selected": pa.array(selection.selected),
        "reason": selection.reasons,
    }
    return pa.table(made)


def _beside(texts: pa.Table, found: pa.Table) -> pa.Table:
    made: dict[str, Any] = {name: texts[name] for name in texts.column_names}
    return pa.table({**made, **{name: found[name] for name in found.column_names}}).cast(ROWS)


def _batches(out: Path) -> Iterator[tuple[int, pa.Table]]:
    """The prepared rows' texts piece by piece, each with the position of its first row."""
    path = out / "prepare" / "rows.parquet"
    start = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH, columns=list(_TEXTS)):
                yield start, pa.Table.from_batches([batch]).select(_TEXTS)
                start += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error


def publish(out: Path) -> None:
    """Link what the last stage made into `out` itself, the manifest last."""
    for name in PUBLISHED:
        fresh = out / f".{name}.new"
        fresh.unlink(missing_ok=True)
        link_or_copy(out / "sampling" / name, fresh)
        fresh.replace(out / name)


def _damaged(path: Path, error: Exception) -> UserError:
    first = next(iter(str(error).splitlines()), type(error).__name__)
    return UserError(f"{path} is missing or damaged ({first}). Delete {path.parent} and run the stage again.")
