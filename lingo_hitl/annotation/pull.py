"""Labelers' answers into the ledger: who said what, when, about which text, with which suggestions in view."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from lingo_hitl.annotation.argilla_api import Connection
from lingo_hitl.annotation.push import dataset_name, find_dataset, pages
from lingo_hitl.annotation.tasks import texts_in
from lingo_hitl.config import Project
from lingo_hitl.ledger import Event, Ledger
from lingo_hitl.progress import progress
from lingo_hitl.records import TASKS, content_id


@dataclass
class DatasetSync:
    """What a pull found in one dataset, in answers: `new` and `edited` were written, `retracted` are gone there."""

    new: int = 0
    edited: int = 0
    retracted: int = 0
    submitted: int = 0  # answers of status submitted that stand now
    records: int = 0


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
    usernames = {user["id"]: user["username"] for user in connection.request("GET", "users")["items"]}
    for task in TASKS:
        name = dataset_name(project, task)
        dataset = find_dataset(connection, name)
        if dataset is None:
            continue
        place = str(dataset.id)
        sync = DatasetSync()
        known = {(event.row, event.person): event.body for event in ledger.answers(place)}
        shown = {row: body.get("suggestions", "") for row, body in ledger.pushed(place).items()}
        total = connection.request("GET", f"datasets/{place}/progress")["total"]
        seen: set[tuple[str, str]] = set()
        fresh: list[Event] = []
        with progress(f"sync {name}", total) as advance:
            for record in pages(connection, place, include="responses"):
                sync.records += 1
                for event in _answers(record, task, place, usernames, shown):
                    seen.add((event.row, event.person))
                    before = known.get((event.row, event.person))
                    sync.submitted += event.body["status"] == "submitted"
                    if before is None:
                        sync.new += 1
                    elif _same(before, event.body):
                        continue
                    else:
                        sync.edited += 1
                    fresh.append(event)
                advance()
        gone = [
            Event("retracted", place, row, person, {"response": body["response"]})
            for (row, person), body in known.items()
            if (row, person) not in seen
        ]
        sync.retracted = len(gone)
        # One transaction a dataset: a pull that is killed leaves either all of it or nothing.
        ledger.append([*fresh, *gone])
        report.datasets[name] = sync
    return report


def _answers(
    record: dict[str, Any], task: str, dataset: str, usernames: dict[str, str], shown: dict[str, str]
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
                "suggestions": shown.get(row, ""),
            },
        )


def _same(before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether an answer is the one we know: by what a person does, not by suggestions renewed since."""
    return all(before[key] == now[key] for key in ("response", "status", "values", "at"))
