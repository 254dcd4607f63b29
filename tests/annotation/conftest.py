"""Rows as `map` leaves them, a project around them, and people who answer through Argilla's API."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest

from argilla_setup import launcher
from lingo_hitl.annotation.argilla_api import connect
from lingo_hitl.annotation.datasets import find_dataset, pages
from lingo_hitl.config import Project
from lingo_hitl.records import GENERATED, JUDGED, MAPPED, identified, to_table

MAPPED_ROWS = pa.schema([*GENERATED, *JUDGED, *MAPPED])
_names = (f"t{n}" for n in itertools.count())


def mapped_rows(
    count: int, *, task: str = "instruction", text: str = "별은 왜 빛나나요", dimensions: int = 8
) -> list[dict]:
    """`count` different rows of one task with unit vectors, suggestions and two clusters."""
    random = np.random.default_rng(7)
    rows = []
    for n in range(count):
        vector = random.normal(size=dimensions)
        row: dict[str, Any] = {
            "task": task,
            "source": "test",
            "language": "ko",
            "instruction": f"{text} {n}",
            "models": ["m1", "m2"] if task == "preference" else ["m1"],
            "ratings": [4.0, 2.0] if task == "preference" else [3.0],
            "confidence": [0.9, 0.8] if task == "preference" else [0.7],
            "judge": "tiny judge",
            "vector": (vector / np.linalg.norm(vector)).astype("float32").tolist(),
            "perplexity": 10.0 + n,
            "cluster": ("별 · 우주", "요리 · 음식")[n % 2],
        }
        if task == "instruction":
            row["output"] = f"스스로 빛을 내기 때문이에요. {n}"
        if task == "preference":
            row["completions"] = [f"핵융합 때문이에요. {n}", f"몰라요. {n}"]
        if task == "dialogue":
            row["persona"] = "orbit"
            row["messages"] = [
                {"role": "user", "content": row["instruction"]},
                {"role": "assistant", "content": "빛나요."},
            ]
        rows.append(identified(row))
    return rows


def mapped_table(rows: list[dict]) -> pa.Table:
    return to_table(rows, MAPPED_ROWS)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project of its own name, so that tests share one Argilla and no dataset."""
    content = {"project": next(_names), "workdir": tmp_path / "work", "corpus": [{"path": "sample:ko"}]}
    return Project.model_validate({**content, "generate": {"instruction": {}}})


class People:
    """Labelers who answer through Argilla's own API, each with their own key."""

    def __init__(self, home: Path, project: Project) -> None:
        self.home, self.project = home, project
        self.connection = connect(project.argilla, home)

    def records(self, task: str = "instruction") -> dict[str, dict]:
        dataset = find_dataset(self.connection, self.project, task)
        return {r["external_id"]: r for r in pages(self.connection, str(dataset.id), include="responses,suggestions")}

    def answer(
        self, person: str, row: str, *, task: str = "instruction", status: str = "submitted", **values: Any
    ) -> dict:
        record = self.records(task)[row]["id"]
        content = {"status": status, "values": {name: {"value": value} for name, value in values.items()}}
        reply = self.request(person, "POST", "me/responses/bulk", {"items": [{"record_id": record, **content}]})
        [item] = reply["items"]
        assert item["error"] is None, item
        return item["item"]

    def request(self, person: str, method: str, path: str, content: Any = None) -> Any:
        account = launcher.credentials(self.home).accounts[person]
        with httpx.Client(base_url=self.connection.url, headers={"X-Argilla-Api-Key": account.api_key}) as client:
            reply = client.request(method, f"/api/v1/{path}", json=content)
            reply.raise_for_status()
            return reply.json() if reply.content else None


@pytest.fixture
def people(argilla_home: Path, project: Project) -> People:
    return People(argilla_home, project)
