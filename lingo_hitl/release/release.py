"""The dataset that leaves the house: written whole or not at all, and never changed afterwards.

NAME-VERSION/preference/train.jsonl, test.jsonl    pairs for DPO
             sft/train.jsonl, test.jsonl           conversations
             dropped.parquet                       every row that is in neither, with its reason
             README.md, manifest.json
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lingo_hitl.config import Corpus, ReleaseConfig
from lingo_hitl.errors import UserError
from lingo_hitl.records import DROPPED, Row, to_table
from lingo_hitl.release.card import FEATURES, Card, Sets, render
from lingo_hitl.release.examples import Examples, examples_of
from lingo_hitl.release.manifest import MANIFEST, read_manifest, verify, write_manifest
from lingo_hitl.release.people import anonymous, content_of, people_of
from lingo_hitl.release.splits import groups_of, held_out


@dataclass(frozen=True)
class ReleaseReport:
    """What a release holds; its text is what the command line shows.

    Attributes:
        counts: set -> split -> rows.
        rows: rows that came in, those that curation dropped among them: released and dropped together.
        released: rows that gave a pair or an example; one row can give both.
        drops: reason -> rows.
        already: the version was there before, with the same content.
    """

    folder: Path
    version: str
    counts: dict[str, dict[str, int]]
    rows: int
    released: int
    dropped: int
    drops: dict[str, int]
    already: bool

    def __str__(self) -> str:
        state = "already released, unchanged" if self.already else "released"
        lines = [f"{self.folder}  ({state}; {self.released} of {self.rows} rows)"]
        for name in FEATURES:
            splits = self.counts.get(name)
            told = ", ".join(f"{count} {split}" for split, count in splits.items()) if splits else "none"
            lines.append(f"  {name:11} {told}")
        lines += [f"  left out    {count}: {reason}" for reason, count in self.drops.items()]
        return "\n".join(lines)


def release(
    rows: pa.Table,
    dropped_before: Sequence[Row],
    config: ReleaseConfig,
    *,
    project: str,
    corpora: Sequence[Corpus],
    out: Path,
    inputs: Mapping[str, str] | None = None,
) -> ReleaseReport:
    """Write the release to `out`. The same input gives the same bytes, in whatever order the rows come.

    Args:
        rows: what `curate` left.
        dropped_before: rows of `records.DROPPED` that curation left out; they are told on the card.
        project: its name, which the dataset has too unless the config gives one.
        corpora: where the texts came from; their licences are told on the card.
        inputs: hashes of what the rows were made from (corpus files, ledger), for the manifest.

    Raises:
        UserError: no row makes a pair or an example; the version is there with other content, or was
            changed after its release. Nothing is written then.
    """
    texts: list[Row] = sorted(rows.drop_columns(["vector"]).to_pylist(), key=lambda row: row["id"])
    examples = examples_of(texts, config)
    dropped = sorted([*dropped_before, *examples.dropped], key=lambda d: (str(d["id"]), d["reason"], str(d["row"])))
    drops = dict(sorted(Counter(row["reason"] for row in dropped).items(), key=lambda item: (-item[1], item[0])))
    if not examples.pairs and not examples.conversations:
        raise UserError(_nothing(project, len(texts) + len(dropped_before), drops))
    sets = _split(texts, examples, config)
    card = Card(
        name=config.name or project,
        config=config,
        sets=sets,
        corpora=corpora,
        people=people_of([*texts, *(content_of(row) for row in dropped_before)]),
        drops=drops,
        judges=sorted({row["judge"] for row in texts if row["judge"]}),
    )
    counts = {name: {split: len(part) for split, part in splits.items()} for name, splits in sets.items()}
    released = len(texts) - len(examples.dropped)
    about = {
        "project": project,
        "config": config.model_dump(mode="json"),
        "inputs": {
            **(inputs or {}),
            "rows_sha256": _sha256(texts),
            "dropped_before_sha256": _sha256(dropped_before),
        },
        "rows": {"in": len(texts) + len(dropped_before), "released": released, "dropped": len(dropped)},
        "counts": counts,
        "drops": drops,
    }
    with _alone(out.parent):
        already = _write(out, card, dropped, about)
    rows_in = len(texts) + len(dropped_before)
    return ReleaseReport(out, config.version, counts, rows_in, released, len(dropped), drops, already)


def _split(rows: Sequence[Row], examples: Examples, config: ReleaseConfig) -> Sets:
    group = groups_of(rows)
    whole = {"preference": examples.pairs, "sft": examples.conversations}
    test = held_out(
        [[group[row["id"]] for row in part] for part in whole.values()],
        fraction=config.test_fraction,
        seed=config.seed,
    )
    sets: dict[str, dict[str, list[Row]]] = {}
    for name, part in whole.items():
        for row in part:
            split = "test" if group[row["id"]] in test else "train"
            sets.setdefault(name, {}).setdefault(split, []).append(row)
    # Training first, whichever row came first.
    return {name: dict(sorted(splits.items(), reverse=True)) for name, splits in sets.items()}


def _write(out: Path, card: Card, dropped: Sequence[Row], about: Mapping[str, Any]) -> bool:
    """Write the folder beside its place, then rename it; True where the same is there already."""
    fresh = out.with_name(f".{out.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        for name, splits in card.sets.items():
            (fresh / name).mkdir(parents=True)
            for split, rows in splits.items():
                (fresh / name / f"{split}.jsonl").write_text(_lines(rows, name), encoding="utf-8", newline="\n")
        pq.write_table(
            to_table([anonymous(row) for row in dropped], DROPPED), fresh / "dropped.parquet", compression="zstd"
        )
        (fresh / "README.md").write_text(render(card), encoding="utf-8", newline="\n")
        manifest = write_manifest(fresh, about=about)
        if not out.exists():
            fresh.rename(out)
            return False
        _refuse_changes(out, fresh, manifest, card.config.version)
        return True
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _refuse_changes(out: Path, fresh: Path, manifest: Mapping[str, Any], version: str) -> None:
    """Nothing where `out` holds what `fresh` does; else the error that tells which files differ."""
    raise_it = f"raise release.version above {version}, or give --version"
    before = read_manifest(out)
    if before is None:
        raise UserError(
            f"{out} exists and has no readable {MANIFEST}, so it is no release: move it away, or {raise_it}."
        )
    problems = verify(out)
    if problems:
        raise UserError(
            f"{out} was changed after its release ({problems[0]}{', ...' if len(problems) > 1 else ''}). "
            f"Put the original back, or {raise_it}."
        )
    changed = [
        name
        for name in sorted({*before["files"], *manifest["files"]})
        if before["files"].get(name) != manifest["files"].get(name) and not _same_rows(out / name, fresh / name)
    ]
    if changed:
        raise UserError(
            f"{out} is released already with other content ({', '.join(changed)}). A released version never "
            f"changes: {raise_it}."
        )


def _same_rows(one: Path, other: Path) -> bool:
    """Whether two Parquet files hold the same: a newer pyarrow writes the same rows in other bytes."""
    if one.suffix != ".parquet" or not (one.exists() and other.exists()):
        return False
    return bool(pq.read_table(one).equals(pq.read_table(other)))


def _lines(rows: Sequence[Row], name: str) -> str:
    return "".join(
        json.dumps({column: row[column] for column in FEATURES[name]}, ensure_ascii=False) + "\n" for row in rows
    )


def _nothing(project: str, rows: int, drops: Mapping[str, int]) -> str:
    told = "; ".join(f"{count} {reason}" for reason, count in drops.items()) or "there are no rows"
    return (
        f"nothing to release from '{project}': none of its {rows} rows makes a pair or an example ({told}). "
        "Have more records answered, then sync and curate again; or lower curate.min_answers or release.margin."
    )


def _sha256(rows: Sequence[Mapping[str, Any]]) -> str:
    """SHA-256 of rows in the order of their content, vectors left out."""
    lines = sorted(json.dumps(row, sort_keys=True, default=str) for row in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Waits until no other release writes into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
