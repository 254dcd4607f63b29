"""Rows to Argilla: only what changed, in bulk, and never a new text under somebody's answer.

A row's id is the hash of its texts, so a changed text is a new record by itself; what may change on
a record that is there already are its suggestions, metadata and vector.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from lingo_hitl.annotation.argilla_api import Connection, Refused, speaking_to
from lingo_hitl.annotation.tasks import fields_of, most_texts, record_of, settings_for, suggestions_of, unfit
from lingo_hitl.config import Project
from lingo_hitl.errors import UserError
from lingo_hitl.ledger import Event, Ledger
from lingo_hitl.progress import progress
from lingo_hitl.records import TASKS, Row, Task, dropped, to_table
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
    datasets = {task: _dataset(connection, project, task, mine, ledger) for task, mine in by_task.items() if mine}
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


def dataset_name(project: Project, task: str) -> str:
    """The name of a project's dataset in Argilla."""
    return f"{project.project}-{task}"


def find_dataset(
    connection: Connection, project: Project, task: str, ledger: Ledger | None = None
) -> rg.Dataset | None:
    """The published dataset of a task in the connection's workspace, or None.

    The one that the ledger knows is taken whatever it is called by now: renaming a dataset in Argilla
    must not cut it off.
    """
    known = ledger.dataset_of(task) if ledger else None
    with speaking_to(connection.url):
        workspace = connection.client.workspaces(connection.workspace)
        ready = [dataset for dataset in workspace.datasets if _is_published(dataset)]
    by_id = next((dataset for dataset in ready if str(dataset.id) == known), None)
    return by_id or next((dataset for dataset in ready if dataset.name == dataset_name(project, task)), None)


def _is_published(dataset: rg.Dataset) -> bool:
    return dataset._model.status == "ready"


def _dataset(connection: Connection, project: Project, task: Task, rows: Sequence[Row], ledger: Ledger) -> rg.Dataset:
    """The dataset of a task, made where it is not there yet, else checked against what the rows need."""
    import argilla as rg

    dimensions = next((len(row["vector"]) for row in rows if row.get("vector") is not None), None)
    name = dataset_name(project, task)
    texts = most_texts(rows)
    with speaking_to(connection.url):
        wanted = settings_for(connection.client, task, texts=texts, dimensions=dimensions, overlap=project.push.overlap)
        found = find_dataset(connection, project, task, ledger)
        if found is None:
            # An interrupted creation leaves a draft, which holds no records and cannot be used.
            for draft in connection.client.workspaces(connection.workspace).datasets:
                if draft.name == name:
                    draft.delete()
            dataset = rg.Dataset(name=name, workspace=connection.workspace, settings=wanted, client=connection.client)
            return dataset.create()
        found.settings.get()
    if drift := _drift(found.settings, wanted):
        raise UserError(
            f"dataset '{name}' in Argilla no longer fits these rows: {drift}. Nothing was sent. "
            "Undo the change in Argilla, or give the project another name so that it gets datasets of its own."
        )
    _set_overlap(found, project.push.overlap, connection)
    return found


def _set_overlap(dataset: rg.Dataset, overlap: int, connection: Connection) -> None:
    """Have Argilla ask for as many answers as the config does, as long as no record is finished by the old number.

    Argilla takes the change later too, but leaves it to a background job to reopen what was finished.
    """
    there = dataset.settings.distribution.min_submitted
    if there == overlap:
        return
    finished = connection.request("GET", f"datasets/{dataset.id}/progress")["completed"]
    if finished:
        raise UserError(
            f"push.overlap is {overlap}, but dataset '{dataset.name}' asks {there} people and {finished} of its "
            f"records are finished. Set push.overlap to {there}, or give the project another name. Nothing was sent."
        )
    content = {"distribution": {"strategy": "overlap", "min_submitted": overlap}}
    connection.request("PATCH", f"datasets/{dataset.id}", json=content)


def _drift(found: rg.Settings, wanted: rg.Settings) -> str:
    """What `wanted` needs that `found` lacks, in words; empty where all is there."""
    missing = [
        f"{kind} '{name}' is missing"
        for kind in ("fields", "questions", "metadata", "vectors")
        for name in _names(getattr(wanted, kind))
        if name not in _names(getattr(found, kind))
    ]
    sizes = {vector.name: vector.dimensions for vector in found.vectors}
    missing += [
        f"vector '{vector.name}' has {sizes[vector.name]} dimensions there and {vector.dimensions} here"
        for vector in wanted.vectors
        if sizes.get(vector.name, vector.dimensions) != vector.dimensions
    ]
    options = {question.name: _options(question) for question in found.questions}
    missing += [
        f"question '{question.name}' has other options there"
        for question in wanted.questions
        if question.name in options and options[question.name] != _options(question)
    ]
    return "; ".join(missing)


def _names(properties: Any) -> list[str]:
    return [item.name for item in properties]


def _options(question: Any) -> list[Any]:
    return list(getattr(question, "values", None) or [])


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


def pages(connection: Connection, dataset: str, *, include: str | None = None) -> Iterator[dict[str, Any]]:
    """Every record of a dataset through the list endpoint, 1,000 at a time (Argilla's limit)."""
    options = {"include": include} if include else {}
    offset = 0
    while True:
        page = connection.request(
            "GET", f"datasets/{dataset}/records", params={"offset": offset, "limit": 1000, **options}
        )
        yield from page["items"]
        offset += len(page["items"])
        if not page["items"] or offset >= page["total"]:
            return


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
