"""A project's datasets in Argilla: found, made, checked against what the rows need, and read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from lingo_hitl.annotation.argilla_api import Connection, speaking_to
from lingo_hitl.annotation.tasks import most_texts, settings_for
from lingo_hitl.config import Project
from lingo_hitl.errors import UserError
from lingo_hitl.ledger import Ledger
from lingo_hitl.records import Row, Task

if TYPE_CHECKING:
    import argilla as rg


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


def ready_dataset(
    connection: Connection, project: Project, task: Task, rows: Sequence[Row], ledger: Ledger
) -> rg.Dataset:
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
    _add_metadata(found, wanted, connection)
    if drift := _drift(found.settings, wanted):
        raise UserError(
            f"dataset '{name}' in Argilla no longer fits these rows: {drift}. Nothing was sent. "
            "Undo the change in Argilla, or give the project another name so that it gets datasets of its own."
        )
    _set_overlap(found, project.push.overlap, connection)
    return found


def _add_metadata(dataset: rg.Dataset, wanted: rg.Settings, connection: Connection) -> None:
    """Have a dataset made earlier hold what records may be filtered by since; it takes nothing from any answer."""
    there = _names(dataset.settings.metadata)
    missing = [item for item in wanted.metadata if item.name not in there]
    for item in missing:
        body = item.api_model().model_dump(mode="json", include={"name", "title", "settings", "visible_for_annotators"})
        connection.request("POST", f"datasets/{dataset.id}/metadata-properties", json=body)
    if missing:
        with speaking_to(connection.url):
            dataset.settings.get()


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
