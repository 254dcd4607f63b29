"""The main job on a shipped corpus: start Argilla, run every stage, let two simulated annotators answer.

Only the annotators are not real, and their names say so. They rate by a rule (see `opinion`), so
that the loop can be seen from end to end; nothing that a demo releases is worth training on.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from argilla_setup import launcher
from argilla_setup.launcher import Server
from lingo_hitl import pipeline
from lingo_hitl.annotation.argilla_api import connect, speaking_to
from lingo_hitl.annotation.datasets import find_dataset, pages
from lingo_hitl.annotation.tasks import rating_questions
from lingo_hitl.config import Project
from lingo_hitl.errors import UserError
from lingo_hitl.progress import Advance, progress
from lingo_hitl.project_file import load_project
from lingo_hitl.records import TASKS, Row, judged_texts
from lingo_hitl.sample import DEMO
from lingo_hitl.stages import Manifest, read_rows

ANNOTATORS = ("annotator1", "annotator2")
SIMULATED = ("simulated-annotator-1", "simulated-annotator-2")
MARKER = ".lingo-hitl-demo"
DEMO_WORKDIR = "work/demo"
"""As it stands in the demo's config; the copy that a newcomer goes on with lies in that folder itself."""
ANSWERED_SHARE = 0.85
"""Of the records, how many the simulated annotators answer; the rest waits for the newcomer."""
RESPONSES_MAX = 100
"""Argilla's limit of answers in one request."""


def demo(workdir: Path, home: Path, *, port: int | None = None, keep: bool = True) -> None:
    """Run the whole loop in `workdir` against an Argilla in `home`, and print what happened.

    Args:
        port: Argilla's port; 6900 or a free one where absent.
        keep: leave Argilla running at the end.

    Raises:
        UserError: `workdir` holds something else; a stage fails.
        LauncherError: Argilla cannot be started.
    """
    started = time.monotonic()
    _claim(workdir, home)
    _say("The demo takes three to six minutes on two cores; interrupted, it goes on where it was.")
    project = load_project(DEMO, workdir=workdir)
    server = launcher.up(home, port=port, accounts=(*ANNOTATORS, *SIMULATED), say=_say)
    try:
        manifests: list[Manifest] = []

        def tell(manifest: Manifest) -> None:
            manifests.append(manifest)
            _say(f"{manifest.stage}: {manifest.rows_out} rows, {manifest.seconds:.0f} s")

        pipeline.run(project, home, tell)
        answered = simulate(project, home)
        _say(f"simulated annotators: {answered} answers")
        tell(pipeline.sync(project, home))
        tell(pipeline.curate(project))
        report = pipeline.release(project)
    finally:
        if not keep:
            launcher.down(home)
    _show(manifests, answered, report, time.monotonic() - started)
    if keep:
        _invite(server, workdir, home)


def remove(workdir: Path, home: Path) -> None:
    """Stop the demo's Argilla and delete what the demo made, also where it was stopped half-way.

    Raises:
        UserError: a demo is at work here, or `workdir` or `home` is not a demo's.
    """
    marker = _marker(workdir)
    if marker is None and (workdir.exists() or home.exists()):
        raise UserError(f"{workdir} holds something that no demo made; nothing was removed. Check the folders.")
    if marker:
        _refuse_if_at_work(workdir, marker)
        if marker["home"] != str(home) and home.exists():
            raise UserError(f"the demo in {workdir} has its Argilla in {marker['home']}. Give that as --home.")
        if home.exists() and any(home.iterdir()):
            launcher.remove(home)
        shutil.rmtree(home, ignore_errors=True)
        shutil.rmtree(workdir)
    _say(f"Removed {workdir} and {home}. The environments stay: they are in .venv.")


def _claim(workdir: Path, home: Path) -> None:
    """Mark `workdir` and `home` as the demo's own, so that removing them can never hit somebody's work."""
    marker = _marker(workdir)
    if marker is None and workdir.exists() and any(workdir.iterdir()):
        raise UserError(f"{workdir} holds something that no demo made. Choose another --workdir.")
    if marker:
        _refuse_if_at_work(workdir, marker)
    if home.exists() and any(home.iterdir()) and (marker or {}).get("home") != str(home):
        raise UserError(f"{home} holds something that the demo in {workdir} did not make. Choose another --home.")
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / MARKER).write_text(json.dumps({"home": str(home), "pid": os.getpid()}), encoding="utf-8")


def _marker(workdir: Path) -> dict[str, Any] | None:
    try:
        content = json.loads((workdir / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and {"home", "pid"} <= content.keys() else None


def _refuse_if_at_work(workdir: Path, marker: Mapping[str, Any]) -> None:
    program = Path(f"/proc/{marker['pid']}/cmdline")
    # The number may be another program's by now: only one that runs a demo is a demo.
    if marker["pid"] != os.getpid() and program.exists() and b"demo" in program.read_bytes():
        raise UserError(f"a demo is at work in {workdir} (pid {marker['pid']}). Stop it with Ctrl-C first.")


def simulate(project: Project, home: Path, names: Sequence[str] = SIMULATED) -> int:
    """Let annotators answer most records through the API, as people would; returns how many answers were given.

    Records that they answered before are left alone, so a second demo adds only what is new.
    """
    connection = connect(project.argilla, home)
    rows = {row["id"]: row for row in read_rows(project.workdir, "map").to_pylist()}
    sent = 0
    for task in TASKS:
        dataset = find_dataset(connection, project, task)
        if dataset is None:
            continue
        records = [
            record
            for record in pages(connection, str(dataset.id), include="responses")
            if record["external_id"] in rows
        ]
        # By a hash, so that what is left for the newcomer is a fair sample of each dataset.
        records.sort(key=lambda record: _share(record["external_id"]))
        records = records[: round(len(records) * ANSWERED_SHARE)]
        with progress(f"simulated answers to {dataset.name}", len(records) * len(names)) as advance:
            for name in names:
                sent += _answer(records, rows, connection.url, launcher.credentials(home).accounts[name], advance)
    return sent


def _answer(
    records: Sequence[Mapping[str, Any]], rows: Mapping[str, Row], url: str, account: Any, advance: Advance
) -> int:
    """One annotator's answers to `records`, in the requests that Argilla's own page sends."""
    headers = {"X-Argilla-Api-Key": account.api_key}
    # No proxy of the environment: the server is on this machine.
    with speaking_to(url), httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False) as client:
        me = client.get("/api/v1/me").raise_for_status().json()["id"]
        mine = [record for record in records if all(answer["user_id"] != me for answer in record["responses"])]
        for start in range(0, len(mine), RESPONSES_MAX):
            batch = mine[start : start + RESPONSES_MAX]
            values = [opinion(rows[record["external_id"]], account.username) for record in batch]
            items = [
                {"record_id": record["id"], "status": "submitted", "values": given}
                for record, given in zip(batch, values, strict=True)
            ]
            client.post("/api/v1/me/responses/bulk", json={"items": items}).raise_for_status()
            advance(len(batch))
        return len(mine)


def opinion(row: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The answer of simulated annotator `name` to a row.

    Each text is rated by its likeness to the corpus's own answer (character bigrams, Dice), with
    points off for the wrong script and for very short texts; a fifth of the ratings is one off, by a
    hash of the text and the name, so that two annotators differ now and then, and always alike.
    """
    texts = judged_texts(row)
    values = {}
    for question, text in zip(rating_questions(row["task"], len(texts)), texts, strict=True):
        values[question] = {"value": min(5, max(1, _quality(text, row) + _mood(text, name)))}
    return values


def _quality(text: str, row: Mapping[str, Any]) -> int:
    likeness = 1.0 if row["task"] == "instruction" else _dice(text, row["reference"] or "")
    rating = 2 + round(3 * min(1.0, likeness * 1.6))
    if row["language"] == "ko" and sum("가" <= c <= "힣" for c in text) < len(text) / 4:
        rating -= 2
    if len(text) < 25:
        rating -= 2
    return rating


def _dice(one: str, other: str) -> float:
    a, b = ({text[i : i + 2] for i in range(len(text) - 1)} for text in (one, other))
    return 2 * len(a & b) / (len(a) + len(b)) if a and b else 0.0


def _mood(text: str, name: str) -> int:
    return {0: -1, 1: 1}.get(int(_share(text + name) * 10), 0)


def _share(text: str) -> float:
    """A number in [0, 1) that depends on the text alone."""
    digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


def _show(manifests: list[Manifest], answered: int, report: Any, seconds: float) -> None:
    table = Table(title=f"What happened, in {seconds:.0f} s")
    for column in ("stage", "rows in", "rows out", "dropped", "seconds"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for manifest in manifests:
        if manifest.stage == "sync":
            table.add_row("(answers)", "", str(answered), "", "")
        figures = (manifest.rows_in, manifest.rows_out, manifest.rows_dropped)
        took = "done before" if manifest.skipped else f"{manifest.seconds:.1f}"
        table.add_row(manifest.stage, *(str(n) for n in figures), took)
    console = Console()
    console.print(table)
    console.print(str(report), highlight=False)


def _invite(server: Server, workdir: Path, home: Path) -> None:
    account = launcher.credentials(home).accounts[ANNOTATORS[0]]
    project = workdir / "project.yaml"
    if not project.exists():
        project.write_text(DEMO.read_text(encoding="utf-8").replace(f"workdir: {DEMO_WORKDIR}", "workdir: ."), "utf-8")
    program, config, place = (_short(path) for path in (Path(sys.argv[0]), project, home))
    print(f"""
Argilla is running at   {server.url}
Sign in as              {account.username}; the password is in {_short(server.credentials_path)}
What waits for you      the records that the simulated annotators left, about {1 - ANSWERED_SHARE:.0%}
The map of the clusters {_short(workdir / "map" / "atlas.html")}

When you have answered some, bring your answers home and release again:
  {program} sync {config} --home {place}
  {program} curate {config}
  {program} release {config} --version 0.2.0
""")


def _short(path: Path) -> str:
    """A path as it can be typed from here."""
    path = path.absolute()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
