"""Labelers' answers into the ledger: who said what, when, about which text, with which suggestions in view."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from lingo_hitl.annotation.argilla_api import Connection, speaking_to
from lingo_hitl.annotation.datasets import find_dataset, pages
from lingo_hitl.annotation.tasks import texts_in
from lingo_hitl.config import Project
from lingo_hitl.errors import UserError
from lingo_hitl.ledger import Event, Ledger
from lingo_hitl.progress import progress
from lingo_hitl.records import TASKS, content_id

Pushes = dict[str, list[tuple[datetime, str]]]
"""By row: when suggestions were put before people, and their hash (`Ledger.pushes`)."""


@dataclass
class DatasetSync:
    """What a pull found in one dataset, in answers: `new` and `edited` were written, `retracted` are gone there."""

    new: int = 0
    edited: int = 0
    retracted: int = 0
    submitted: int = 0  # answers of status submitted that stand now
    records: int = 0
    foreign: int = 0  # records in the dataset that no push of ours put there; left alone


@dataclass
class PullReport:
    """The outcome of a pull, dataset by dataset."""

    datasets: dict[str, DatasetSync] = field(default_factory=dict)

    @property
    def appended(self) -> int:
        """Events written to the ledger: 0 when nothing happened since the last pull."""
        return sum(d.new + d.edited + d.retracted for d in self.datasets.values())

    def as_dict(self) -> dict[str, Any]:
        """Plain values for `--json` and the manifest."""
        return {name: asdict(sync) for name, sync in self.datasets.items()}


def pull(project: Project, *, connection: Connection, ledger: Ledger) -> PullReport:
    """Append to the ledger what labelers did since the last pull. A second pull in a row appends nothing.

    Every status is kept (submitted, draft, discarded). An answer that is gone from Argilla, be it
    withdrawn, or lost with its user, becomes a retraction: what was said stays in the ledger.

    Raises:
        UserError: Argilla is away, or refuses.
    """
    report = PullReport()
    usernames = _usernames(connection)
    for task in TASKS:
        dataset = find_dataset(connection, project, task, ledger)
        if dataset is None:
            continue
        place = str(dataset.id)
        sync = DatasetSync()
        known = {(event.row, event.person): event.body for event in ledger.answers(place)}
        pushes = ledger.pushes(place)
        found = _standing(task, place, connection, usernames, pushes, sync)
        if known.keys() - found.keys():
            # While records are deleted in Argilla its pages shift and one can be missed: only what two
            # passes do not find is gone.
            found = {**_standing(task, place, connection, usernames, pushes, DatasetSync()), **found}
        fresh = [event for who, event in found.items() if who not in known or not _same(known[who], event.body)]
        gone = [
            Event("retracted", place, row, person, {"response": body["response"]})
            for (row, person), body in known.items()
            if (row, person) not in found
        ]
        sync.new = sum((event.row, event.person) not in known for event in fresh)
        sync.edited = len(fresh) - sync.new
        sync.retracted = len(gone)
        sync.submitted = sum(event.body["status"] == "submitted" for event in found.values())
        # One transaction a dataset: a pull that is killed leaves either all of it or nothing.
        ledger.append([*fresh, *gone])
        report.datasets[dataset.name] = sync
    return report


def _standing(
    task: str, place: str, connection: Connection, usernames: dict[str, str], pushes: Pushes, sync: DatasetSync
) -> dict[tuple[str, str], Event]:
    """The answers that stand in a dataset now, by row and person; counts the records it saw in `sync`."""
    found: dict[tuple[str, str], Event] = {}
    total = connection.request("GET", f"datasets/{place}/progress")["total"]
    with progress(f"sync {task}", total) as advance:
        for record in pages(connection, place, include="responses"):
            advance()
            if record["external_id"] not in pushes:
                # Somebody else's record, without our identity and perhaps without our fields.
                sync.foreign += 1
                continue
            sync.records += 1
            for event in _answers(record, task, place, usernames, pushes):
                found[event.row, event.person] = event
    return found


def _usernames(connection: Connection) -> dict[str, str]:
    """Names by user id. The list of all users is for owners; an admin sees those of the workspace."""
    try:
        users = connection.request("GET", "users")["items"]
    except UserError:
        with speaking_to(connection.url):
            workspace = connection.client.workspaces(connection.workspace)
        users = connection.request("GET", f"workspaces/{workspace.id}/users")["items"]
    return {user["id"]: user["username"] for user in users}


def _answers(
    record: dict[str, Any], task: str, dataset: str, usernames: dict[str, str], pushes: Pushes
) -> Iterable[Event]:
    row = record["external_id"]
    for response in record.get("responses") or []:
        yield Event(
            "answered",
            dataset,
            row,
            usernames.get(response["user_id"], response["user_id"]),
            {
                "response": response["id"],
                "user_id": response["user_id"],
                "status": response["status"],
                "values": {name: value["value"] for name, value in (response["values"] or {}).items()},
                "at": response["updated_at"],
                # Equal to the row's id, unless somebody changed the text in Argilla.
                "text": content_id(task, texts_in(task, record["fields"])),
                "suggestions": _in_view(pushes[row], response["updated_at"]),
            },
        )


def _in_view(pushes: Sequence[tuple[datetime, str]], answered: str) -> str:
    """The hash of the suggestions that stood on a record when it was answered, not of those put there since."""
    at = datetime.fromisoformat(answered)
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    before = [suggestions for pushed, suggestions in pushes if pushed <= at]
    return before[-1] if before else pushes[0][1]


def _same(before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether an answer is the one we know: by what a person does, not by suggestions renewed since."""
    return all(before[key] == now[key] for key in ("response", "status", "values", "at"))
