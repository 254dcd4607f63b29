"""Rows to Argilla: only what changed, in bulk, and never a new text under somebody's answer.

A row's id is the hash of its texts, so a changed text is a new record by itself; what may change on
a record that is there already are its suggestions, metadata and vector.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from lingo_hitl.annotation.argilla_api import Connection, Refused
from lingo_hitl.annotation.datasets import pages, ready_dataset
from lingo_hitl.annotation.tasks import fields_of, record_of, suggestions_of, unfit
from lingo_hitl.config import Project
from lingo_hitl.errors import UserError
from lingo_hitl.ledger import Event, Ledger
from lingo_hitl.progress import progress
from lingo_hitl.records import TASKS, Row, dropped, to_table
from lingo_hitl.stages import Outcome

if TYPE_CHECKING:
    import argilla as rg

BATCH = 250
"""Records a request. Argilla takes 500; half of it keeps the progress moving at no cost in time."""

PUSHED = pa.schema([("id", pa.string()), ("task", pa.string()), ("dataset", pa.string()), ("state", pa.string())])


def push(table: pa.Table, project: Project, *, connection: Connection, ledger: Ledger) -> Outcome:
    """Make the project's datasets in Argilla hold the rows of `table` (columns up to `MAPPED`).

    All settings are checked before anything is sent. Each batch is in the ledger as soon as Argilla
    has it, so an interrupted push goes on where it stopped, and nothing is ever there twice.

    Returns:
        A row of `PUSHED` for each row that Argilla holds now, state `created`, `updated` or `unchanged`;
        rows that Argilla cannot hold are dropped with the reason.

    Raises:
        UserError: Argilla is away or refuses; a dataset's settings no longer fit the rows.
    """
    rows = table.to_pylist()
    lost = [dropped(row, reason) for row in rows if (reason := unfit(row))]
    rows = [row for row in rows if not unfit(row)]
    by_task = {task: [row for row in rows if row["task"] == task] for task in TASKS}
    datasets = {task: ready_dataset(connection, project, task, mine, ledger) for task, mine in by_task.items() if mine}
    made: list[Row] = []
    report: dict[str, Any] = {}
    for task, dataset in datasets.items():
        sent, refused = _send(by_task[task], dataset, connection, ledger)
        made += sent
        lost += refused
        report[str(dataset.name)] = {
            state: sum(row["state"] == state for row in sent) for state in ("created", "updated", "unchanged")
        }
    return Outcome(to_table(made, PUSHED), lost, {"url": connection.url, "datasets": report})


def _send(
    rows: Sequence[Row], dataset: rg.Dataset, connection: Connection, ledger: Ledger
) -> tuple[list[Row], list[Row]]:
    questions = {question.name: str(question.id) for question in dataset.settings.questions}
    known = ledger.pushed(str(dataset.id))
    path = f"datasets/{dataset.id}/records/bulk"
    there = _present(dataset, connection, len(known))
    marks = {row["id"]: _fingerprint(row) for row in rows}
    held = set(known) if there is None else set(known) & there
    states = {
        row["id"]: "updated" if row["id"] in held else "created"
        for row in rows
        if row["id"] not in held or known[row["id"]]["payload"] != marks[row["id"]]
    }
    changed = [row for row in rows if row["id"] in states]
    refused: dict[str, Row] = {}
    with progress(f"push {dataset.name}", len(changed)) as advance:
        for start in range(0, len(changed), BATCH):
            batch = changed[start : start + BATCH]
            for row, reason in _upsert(batch, path, questions, connection):
                refused[row["id"]] = dropped(row, reason)
            taken = [row for row in batch if row["id"] not in refused]
            _withdraw(taken, known, questions, str(dataset.id), connection)
            _remember(ledger, str(dataset.id), taken, marks, known)
            advance(len(batch))
    kept = [
        {"id": row["id"], "task": row["task"], "dataset": dataset.name, "state": states.get(row["id"], "unchanged")}
        for row in rows
        if row["id"] not in refused
    ]
    return kept, list(refused.values())


def _remember(
    ledger: Ledger, dataset: str, rows: Sequence[Row], marks: Mapping[str, str], known: Mapping[str, Any]
) -> None:
    ledger.append(
        Event(
            "pushed",
            dataset,
            row["id"],
            body={
                "task": row["task"],
                "payload": marks[row["id"]],
                "suggestions": suggestions_hash(shown),
                "shown": shown,
                # The text itself, once: what people judged must outlive the stages' folders and Argilla.
                **({} if row["id"] in known else {"fields": fields_of(row)}),
            },
        )
        for row in rows
        for shown in [suggestions_of(row)]
    )


def _withdraw(
    rows: Sequence[Row], known: Mapping[str, Any], questions: Mapping[str, str], dataset: str, connection: Connection
) -> None:
    """Take away suggestions that no judge makes any more: Argilla's upsert leaves them standing."""
    gone = {
        row["id"]: {questions[name] for name in stale if name in questions}
        for row in rows
        if (stale := set(known.get(row["id"], {}).get("shown", {})) - set(suggestions_of(row)))
    }
    if not gone:
        return
    for record in pages(connection, dataset, include="suggestions"):
        ids = [s["id"] for s in record["suggestions"] if s["question_id"] in gone.get(record["external_id"], ())]
        if ids:
            connection.request("DELETE", f"records/{record['id']}/suggestions", params={"ids": ",".join(ids)})


def _present(dataset: rg.Dataset, connection: Connection, expected: int) -> set[str] | None:
    """The external ids that Argilla holds, asked for only where their number is not what the ledger says."""
    if expected == 0:
        return None
    total = connection.request("GET", f"datasets/{dataset.id}/progress")["total"]
    if total == expected:
        return None
    return {item["external_id"] for item in pages(connection, str(dataset.id))}


def _upsert(
    batch: Sequence[Row], path: str, questions: Mapping[str, str], connection: Connection
) -> list[tuple[Row, str]]:
    """Send a batch; where Argilla refuses it, halve it until the rows at fault are found and returned."""
    try:
        reply = connection.request("PUT", path, json={"items": [record_of(row, questions) for row in batch]})
        if not isinstance(reply, dict) or len(reply.get("items") or ()) != len(batch):
            raise UserError(
                f"{connection.url}: did not confirm the {len(batch)} records it was sent. Is there a proxy in between? "
                "Run the same command again: what was confirmed before is not sent twice."
            )
    except Refused as error:
        if len(batch) == 1:
            return [(batch[0], _refusal(str(error)))]
        middle = len(batch) // 2
        halves = (batch[:middle], batch[middle:])
        return [fault for half in halves for fault in _upsert(half, path, questions, connection)]
    return []


def _refusal(text: str) -> str:
    """Argilla's complaint without what differs from row to row, so that drops can be counted by reason."""
    return "Argilla refused it: " + re.sub(
        r"record at position \d+ is not valid because ", "", text.rsplit("(422): ", maxsplit=1)[-1]
    )


def _fingerprint(row: Mapping[str, Any]) -> str:
    """Hash of all that is sent for a row; vectors by their bytes, which is a hundred times faster than JSON."""
    vector = row.get("vector")
    item = record_of({**row, "vector": None}, {name: name for name in suggestions_of(row)})
    digest = hashlib.blake2b(json.dumps(item, ensure_ascii=False, sort_keys=True).encode("utf-8", "surrogatepass"))
    if vector is not None:
        digest.update(np.asarray(vector, dtype=np.float32).tobytes())
    return digest.hexdigest()[:32]


def suggestions_hash(shown: Mapping[str, Any]) -> str:
    """Hash of the suggestions that stand on a record, 16 hex digits."""
    return hashlib.blake2b(json.dumps(shown, sort_keys=True).encode()).hexdigest()[:16]
