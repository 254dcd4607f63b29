"""Measures the main job on 5,000 Korean rows: map, push, search, sync; each beside what it is to be compared with.

    make bench                     the real corpus in ../shared where it is there, else the shipped sample repeated
    make bench ROWS=1000           fewer rows

Everything runs in one process against an Argilla in a temporary home, which is gone afterwards.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.table import Table

from argilla_setup import launcher
from lingo_hitl import pipeline
from lingo_hitl.annotation.argilla_api import Connection, connect
from lingo_hitl.annotation.datasets import find_dataset
from lingo_hitl.annotation.tasks import record_of, settings_for
from lingo_hitl.config import Project
from lingo_hitl.stages import read_manifest, read_rows

ROWS = int(os.environ.get("ROWS", "5000"))
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "ko_chatbot_songys.csv"
QUERIES = ("한국", "사랑", "별", "학교 친구", "요리", "여행", "돈", "오늘 날씨")


def main(options: list[str]) -> None:
    if options:
        sys.exit(__doc__)
    table = Table(title=f"The main job on {ROWS:,} Korean rows, {os.cpu_count()} cores")
    for column in ("what", "figure", "beside", "ratio"):
        table.add_column(column, justify="left" if column == "what" else "right")
    folder = Path(tempfile.mkdtemp(prefix="lh-bench-"))
    home = folder / "home"
    try:
        project = _project(folder)
        seconds = _timed(lambda: (pipeline.generate(project), pipeline.judge(project)))
        table.add_row("read the corpus", f"{seconds:.1f} s", "", "")
        seconds = _timed(lambda: pipeline.map_rows(project))
        report = read_manifest(project.workdir, "map").report
        table.add_row("map", f"{seconds:.1f} s", f"{len(report['clusters'])} clusters", "")
        first = _timed(lambda: launcher.up(home, say=lambda line: None))
        launcher.down(home)
        again = _timed(lambda: launcher.up(home, say=lambda line: None))
        table.add_row("up, second start", f"{again:.1f} s", f"first {first:.1f} s", f"{again / first:.2f}")
        _measure_argilla(project, home, table)
    finally:
        launcher.remove(home)
        shutil.rmtree(folder, ignore_errors=True)
    Console().print(table)


def _project(folder: Path) -> Project:
    corpus: dict[str, Any] = {"path": str(SHARED), "source": "songys", "language": "ko", "limit": ROWS}
    corpus["columns"] = {"instruction": "Q", "output": "A"}
    if not SHARED.exists():
        corpus = {"path": "sample:ko"}
    content = {"project": "bench", "workdir": folder / "work", "corpus": [corpus]}
    return Project.model_validate({**content, "generate": {"instruction": {}}})


def _measure_argilla(project: Project, home: Path, table: Table) -> None:
    connection = connect(project.argilla, home)
    rows = read_rows(project.workdir, "map")
    sdk = _timed(lambda: _log_with_sdk(rows, connection))
    first = _timed(lambda: pipeline.push(project, home))
    table.add_row("push", f"{first:.1f} s", f"SDK records.log {sdk:.1f} s", f"{first / sdk:.2f}")
    again = _timed(lambda: pipeline.push(project, home))
    table.add_row("push again, nothing new", f"{again:.2f} s", f"first {first:.1f} s", f"{again / first:.3f}")
    sync = _timed(lambda: pipeline.sync(project, home))
    table.add_row("sync", f"{sync:.2f} s", "", "")
    for what, requests in _pages(project, connection).items():
        times = [_timed(request) * 1000 for request in requests]
        p95 = statistics.quantiles(times, n=20)[-1]
        table.add_row(f"{what} page", f"p50 {statistics.median(times):.0f} ms", f"p95 {p95:.0f} ms", "")


def _pages(project: Project, connection: Connection) -> dict[str, list[Callable[[], Any]]]:
    """What a labeler's page asks for: text search, a cluster, records like this one, the pending queue."""
    dataset = find_dataset(connection, project, "instruction")
    path = f"datasets/{dataset.id}/records/search?limit=10&include=suggestions"
    mine = f"me/{path}&include=responses"
    clusters = sorted(set(read_rows(project.workdir, "map")["cluster"].to_pylist()))[:8]
    records = connection.request("GET", f"datasets/{dataset.id}/records?limit=8")["items"]

    def post(query: dict[str, Any], place: str = path) -> Callable[[], Any]:
        return lambda: connection.request("POST", place, json=query)

    def in_cluster(name: str) -> dict[str, Any]:
        scope = {"entity": "metadata", "metadata_property": "cluster"}
        return {"filters": {"and": [{"type": "terms", "scope": scope, "values": [name]}]}}

    def like(record: str) -> dict[str, Any]:
        return {"query": {"vector": {"name": "meaning", "record_id": record, "max_results": 50}}}

    pending = {"type": "terms", "scope": {"entity": "response", "property": "status"}, "values": ["pending"]}
    return {
        "text search": [post({"query": {"text": {"q": q}}}) for q in QUERIES * 4],
        "cluster filter": [post(in_cluster(name)) for name in clusters * 4],
        "find similar": [post(like(record["id"])) for record in records * 4],
        "pending queue": [post({"filters": {"and": [pending]}}, mine)] * 32,
    }


def _log_with_sdk(rows: pa.Table, connection: Connection) -> None:
    """The same records through the SDK, as a script without lingo-hitl would."""
    import argilla as rg

    dimensions = len(rows["vector"][0])
    settings = settings_for(connection.client, "instruction", texts=1, dimensions=dimensions, overlap=1)
    dataset = rg.Dataset(name="sdk", workspace="lingo", settings=settings, client=connection.client).create()
    items = [record_of(row, {}) for row in rows.to_pylist()]
    dataset.records.log(
        [
            rg.Record(id=i["external_id"], fields=i["fields"], metadata=i["metadata"], vectors=i.get("vectors"))
            for i in items
        ]
    )


def _timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
