"""`lingo-hitl backup`, `restore` and `migrate-server`: parse, call, print."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from argilla_setup.backup import backup as taking
from argilla_setup.backup import proof as snapshot_proof
from argilla_setup.backup import restore as restoring
from argilla_setup.backup.snapshot import MANIFEST, Tell, described
from argilla_setup.migration import migrate as migration
from lingo_hitl.home_option import Home, home_of
from lingo_hitl.progress import Advance, progress
from lingo_hitl.project_file import expanded

END = "A home folder, sqlite:///PATH, a PostgreSQL URL without a password, or env:NAME or file:PATH that hold a URL."
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
SnapshotFolder = Annotated[
    Path, typer.Argument(metavar="SNAPSHOT", help="A folder lingo-hitl-<time>.", show_default=False)
]


def backup(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="The folder for snapshots; with --verify, a snapshot too.", show_default=False
        ),
    ],
    home: Home = None,
    with_credentials: Annotated[
        bool, typer.Option("--with-credentials", help="With passwords and the secret that signs sessions.")
    ] = False,
    keep: Annotated[
        int | None, typer.Option(help="Delete this home's older snapshots but for the newest N.", metavar="N")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Prove that the snapshot restores, by a real server.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Take a snapshot into DIR while people label; --verify it, or an earlier one, by restoring it."""
    place, folder = home_of(home), expanded(folder).absolute()
    with _shown_progress() as tell:
        if verify and (folder / MANIFEST).is_file():
            _show_proof(snapshot_proof.verify(folder, place, tell=tell), as_json=as_json)
            return
        taken = taking.backup(place, folder, with_credentials=with_credentials, verify=verify, keep=keep, tell=tell)
    if as_json:
        print(json.dumps(_as_json(taken), ensure_ascii=False))
        return
    _show_notes(taken.notes)
    deleted = f"; {len(taken.deleted)} older deleted" if taken.deleted else ""
    size = f"{taken.bytes / 2**20:,.1f} MB in {taken.seconds:.1f} s"
    print(f"Backup {taken.path}: {described(taken.manifest.counts)}; {size}{deleted}")
    if taken.proof:
        _show_proof(taken.proof)


def restore(snapshot: SnapshotFolder, home: Home = None, as_json: AsJson = False) -> None:
    """Make a home from a snapshot, on this or another machine."""
    with _shown_progress() as tell:
        restored = restoring.restore(expanded(snapshot), home_of(home), tell=tell)
    manifest = restored.manifest
    if as_json:
        shown = {"home": str(restored.home), "of": manifest.created_at, "counts": manifest.counts}
        print(json.dumps({**shown, "set_aside": [str(file) for file in restored.set_aside]}))
        return
    print(f"Restored {restored.home} as of {manifest.created_at}: {described(manifest.counts)}")
    if not restored.kept_credentials:
        print("Everybody's password and API key are as they were; credentials.json holds the owner's key alone.")
    _show_set_aside(restored.set_aside)
    print(f"Start it: lingo-hitl up --home {restored.home}")


def migrate_server(
    source: Annotated[str, typer.Option("--from", help=END, show_default=False)],
    target: Annotated[str, typer.Option("--to", help="The same; empty or new.", show_default=False)],
    live: Annotated[
        bool, typer.Option("--live", help="Copy a server that runs: what comes in meanwhile stays behind.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only check both, and say what would be copied.")] = False,
    as_json: AsJson = False,
) -> None:
    """Copy one Argilla to another, SQLite or PostgreSQL: users, datasets, records, answers, vectors."""
    with _shown_progress() as tell:
        done = migration.migrate(source, target, live=live, dry_run=dry_run, tell=tell)
    if as_json:
        print(json.dumps(asdict(done), ensure_ascii=False))
        return
    table = Table(
        "table",
        Column("rows", justify="right"),
        *[] if dry_run else ["digest, equal in both"],
        box=None,
        pad_edge=False,
    )
    for moved in done.tables:
        table.add_row(moved.name, f"{moved.rows:,}", *([] if dry_run else [str(moved.digest)[:16]]))
    Console().print(table)
    if done.changed:
        print(
            f"{done.source} was written to meanwhile: {', '.join(done.changed)}. What came in is not in {done.target}."
        )
    if dry_run:
        print(f"Nothing was changed: this was a dry run from {done.source} to {done.target}.")
        return
    print(f"Copied {done.source} to {done.target}; {done.source} is as it was.")
    _show_set_aside(done.set_aside)
    print(done.next_step)


def _as_json(taken: taking.Snapshot) -> dict[str, object]:
    return {
        "path": str(taken.path),
        "at": taken.manifest.created_at,
        "verified": taken.proof is not None,
        "counts": taken.manifest.counts,
        "bytes": taken.bytes,
        "seconds": round(taken.seconds, 3),
        "deleted": [str(path) for path in taken.deleted],
        "notes": [*taken.notes, *(taken.proof.notes if taken.proof else ())],
    }


def _show_proof(proof: snapshot_proof.Proof, *, as_json: bool = False) -> None:
    if as_json:
        shown = {"path": str(proof.path), "at": proof.manifest.created_at, "verified": True, "checked": proof.checked}
        print(json.dumps({**shown, "counts": proof.manifest.counts, "notes": proof.notes}, ensure_ascii=False))
        return
    _show_notes(proof.notes)
    print(f"{proof.path} restores: {', '.join(proof.checked)}: all as they were ({proof.seconds:.0f} s)")


def _show_notes(notes: tuple[str, ...]) -> None:
    for note in notes:
        print(f"lingo-hitl: {note}", file=sys.stderr)


def _show_set_aside(files: Sequence[Path | str]) -> None:
    if files:
        print(f"Sign-ins and jobs of what was here before are kept as {', '.join(map(str, files))}")


@contextmanager
def _shown_progress() -> Iterator[Tell]:
    """A bar for each long step on a terminal, a line each ten seconds in a log; in percent, for units differ."""
    with ExitStack() as open_bar:
        step, percent = "", 0
        advance: Advance = lambda steps=1: None  # noqa: E731

        def tell(what: str, done: int, whole: int) -> None:
            nonlocal step, percent, advance
            if what != step:
                open_bar.close()
                step, percent = what, 0
                advance = open_bar.enter_context(progress(f"{what}, %", 100))
            reached = 100 * done // whole if whole else 100
            if reached > percent:
                advance(reached - percent)
                percent = reached

        yield tell
