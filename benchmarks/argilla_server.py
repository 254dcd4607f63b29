"""Measures the Argilla server: bulk upsert beside the stock server code, pages, search, memory, a busy team.

    python -m benchmarks.argilla_server --rows 10000
    python -m benchmarks.argilla_server --rows 100000 --stock-rows 1000

Both servers run in temporary homes on the loopback and are gone afterwards. The stock server is the same application
with `LINGO_HITL_SPEEDUPS=off`; its cost per record does not depend on how many there are, so it gets fewer.
Linux only: CPU time and memory are read from /proc.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import random
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from rich.console import Console
from rich.table import Table

from argilla_setup import launcher

DIMENSIONS = 768
BATCH = 500
"""Argilla's limit for one bulk request."""
CROWD = 10
ANSWERS_EACH = 30
REPEATS = 40
SPAWN = multiprocessing.get_context("spawn")
SYLLABLES = "".join(chr(0xAC00 + 28 * number) for number in range(0, 399, 8))


@dataclass
class Figures:
    """One line of the table: milliseconds of each request, or one number."""

    what: str
    times: list[float] = field(default_factory=list)
    cpu_ms: float | None = None
    """The server's CPU time for one request: what a busy machine does not change."""
    number: str = ""
    wanted: str = ""


class Server:
    """A running Argilla in a temporary home, and clients of its accounts."""

    def __init__(self, home: Path) -> None:
        accounts = [f"annotator{number}" for number in range(1, CROWD + 1)]
        self.process = launcher.up(home, accounts=accounts, say=lambda line: None)
        self.accounts = launcher.credentials(home).accounts

    def key(self, account: str = "owner") -> str:
        return self.accounts[account].api_key

    def client(self, account: str = "owner") -> httpx.Client:
        return _client(self.process.url, self.key(account))

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mb(self, name: str = "VmRSS") -> float:
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:"))


class Corpus:
    """Korean-looking sentences and random vectors; the same for the same seed."""

    def __init__(self, seed: int = 7) -> None:
        self._random = random.Random(seed)
        self._numbers = np.random.default_rng(seed)
        self.words = ["".join(self._random.choices(SYLLABLES, k=self._random.randint(2, 4))) for _ in range(5000)]
        self._weights = [1 / rank for rank in range(1, len(self.words) + 1)]

    def sentence(self) -> str:
        return " ".join(self._random.choices(self.words, self._weights, k=15))

    def records(self, start: int, count: int, questions: dict[str, str]) -> list[dict[str, Any]]:
        vectors = self._numbers.standard_normal((count, DIMENSIONS)).round(6).tolist()
        return [
            {
                "external_id": f"row-{start + offset}",
                "fields": {"prompt": self.sentence(), "answer": self.sentence() + " " + self.sentence()},
                "metadata": {"cluster": f"c{(start + offset) % 50}", "length": self._random.randint(1, 500)},
                "vectors": {"meaning": vector},
                "suggestions": [
                    {"question_id": questions["rating"], "value": self._random.randint(1, 5), "score": 0.7},
                    {"question_id": questions["topic"], "value": self._random.choice("abc"), "agent": "model"},
                ],
            }
            for offset, vector in enumerate(vectors)
        ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.argilla_server")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--stock-rows", type=int, default=2_000, help="rows for the stock server; 0 leaves it out")
    options = parser.parse_args()
    console = Console()
    lines: list[Figures] = []
    stock = None
    if options.stock_rows:
        with _server(speedups=False) as server:
            stock, stock_times = _fill(server, _dataset(server), options.stock_rows)
            number = f"{stock:.2f} ms CPU a record"
            lines.append(Figures("stock: bulk upsert, batches of 500", stock_times, number=number))
    with _server(speedups=True) as server:
        dataset = _dataset(server)
        cost, times = _fill(server, dataset, options.rows)
        ratio = f" ({stock / cost:.1f}x less)" if stock else ""
        number = f"{cost:.2f} ms CPU a record{ratio}"
        lines.append(Figures("bulk upsert, batches of 500", times, number=number, wanted="3x less CPU"))
        lines += _pages(server, dataset, options.rows)
        lines += _crowd(server, dataset, options.rows)
        console.print(_table(lines, options.rows, server))


@contextlib.contextmanager
def _server(*, speedups: bool) -> Iterator[Server]:
    folder = Path(tempfile.mkdtemp(prefix="lh-bench-"))
    os.environ["LINGO_HITL_SPEEDUPS"] = "on" if speedups else "off"
    try:
        yield Server(folder / "home")
    finally:
        del os.environ["LINGO_HITL_SPEEDUPS"]
        launcher.remove(folder / "home")
        shutil.rmtree(folder, ignore_errors=True)


def _dataset(server: Server) -> str:
    """A published dataset of two fields, two questions, two metadata properties and one vector; returns its id."""
    text = {"type": "text", "use_markdown": False}
    rating = {"type": "rating", "options": [{"value": value} for value in range(1, 6)]}
    topic = {"type": "label_selection", "options": [{"value": value, "text": value} for value in "abc"]}
    with server.client() as client:
        workspace = _ok(client.get("me/workspaces"))["items"][0]["id"]
        overlap = {"strategy": "overlap", "min_submitted": 2}
        body: dict[str, Any] = {"name": "bench", "workspace_id": workspace, "distribution": overlap}
        path = "datasets/" + _ok(client.post("datasets", json=body))["id"]
        for name in ("prompt", "answer"):
            _ok(client.post(f"{path}/fields", json={"name": name, "title": name, "required": True, "settings": text}))
        for name, settings in (("rating", rating), ("topic", topic)):
            body = {"name": name, "title": name, "required": name == "rating", "settings": settings}
            _ok(client.post(f"{path}/questions", json=body))
        for name, kind in (("cluster", "terms"), ("length", "integer")):
            body = {"name": name, "title": name, "settings": {"type": kind}, "visible_for_annotators": True}
            _ok(client.post(f"{path}/metadata-properties", json=body))
        body = {"name": "meaning", "title": "meaning", "dimensions": DIMENSIONS}
        _ok(client.post(f"{path}/vectors-settings", json=body))
        _ok(client.put(f"{path}/publish"))
    return path


def _fill(server: Server, path: str, rows: int) -> tuple[float, list[float]]:
    """Milliseconds of server CPU for each record, and of each request."""
    corpus, times, spent = Corpus(), [], 0.0
    with server.client() as client:
        questions = _questions(client, path)
        for start in range(0, rows, BATCH):
            records = corpus.records(start, min(BATCH, rows - start), questions)
            before = server.cpu_s()
            times.append(_timed(lambda items=records: _ok(client.put(f"{path}/records/bulk", json={"items": items}))))
            spent += server.cpu_s() - before
    return spent * 1000 / rows, times


def _pages(server: Server, path: str, rows: int) -> list[Figures]:
    """What a labeler's page and a script ask for, one request after the other."""
    words = Corpus().words
    small = rows <= 20_000
    pending = {"type": "terms", "scope": {"entity": "response", "property": "status"}, "values": ["pending"]}
    length = {"entity": "metadata", "metadata_property": "length"}
    cluster = {"entity": "metadata", "metadata_property": "cluster"}
    score = {"entity": "suggestion", "question": "rating", "property": "score"}
    value = {"entity": "suggestion", "question": "rating", "property": "value"}
    inserted = {"entity": "record", "property": "inserted_at"}

    def within(*filters: dict[str, Any]) -> dict[str, Any]:
        return {"filters": {"and": list(filters)}}

    def text(query: str) -> dict[str, Any]:
        return {"query": {"text": {"q": query}}}

    def like(record: str, **more: Any) -> dict[str, Any]:
        return {"query": {"vector": {"name": "meaning", "record_id": record, "max_results": 50}}, **more}

    with server.client() as owner, server.client("annotator1") as annotator:
        ids = [item["id"] for item in _ok(owner.get(f"{path}/records", params={"limit": 10}))["items"]]
        somewhere = [{"type": "terms", "scope": cluster, "values": [f"c{n}", f"c{n + 10}"]} for n in range(10)]
        above = [{"type": "range", "scope": length, "ge": n * 10, "le": n * 10 + 100} for n in range(10)]
        queue, search, similar = ("30" if small else "120"), "100", "120"
        bodies: list[tuple[str, str, list[dict[str, Any]]]] = [
            ("next record: pending queue, random order", queue, [within(pending)]),
            ("text search, frequent words", search, [text(word) for word in words[:10]]),
            ("text search, rare words", search, [text(word) for word in words[1000:1010]]),
            ("text search, two words or a part", search, [text(f"{words[n]} {words[n + 9]}") for n in range(10)]),
            ("filter by metadata terms", search, [within(one) for one in somewhere]),
            ("filter by metadata range", search, [within(one) for one in above]),
            ("filter by suggestion", search, [within({"type": "terms", "scope": value, "values": ["5"]})]),
            ("sort by metadata", search, [{"sort": [{"scope": length, "order": "desc"}]}]),
            ("sort by suggestion score", search, [{"sort": [{"scope": score, "order": "asc"}]}]),
            ("sort by time", search, [{"sort": [{"scope": inserted, "order": "desc"}]}]),
            ("find similar, exact", similar, [like(record) for record in ids]),
            ("find similar, filtered", similar, [like(record, **within(somewhere[0])) for record in ids]),
        ]
        lines = []
        for what, wanted, asked in bodies:
            mine = what.startswith("next")
            client, place = (annotator, f"me/{path}") if mine else (owner, path)
            include = ["suggestions", "responses"] if mine else ["suggestions"]
            ask = partial(client.post, f"{place}/records/search", params={"limit": 10, "include": include})
            # The first request of a kind reads what the later ones find in memory.
            first = _timed(lambda ask=ask, body=asked[0]: _ok(ask(json=body)))
            before = server.cpu_s()
            times = [_timed(lambda ask=ask, body=body: _ok(ask(json=body))) for body in (asked * REPEATS)[:REPEATS]]
            cpu = (server.cpu_s() - before) * 1000 / len(times)
            lines.append(Figures(what, times, cpu, f"first {first:.0f} ms", f"p95 < {wanted} ms"))
            if what == "find similar, exact":
                memory = f"{server.memory_mb():,.0f} MB"
                lines.append(Figures("memory with all vectors", number=memory, wanted="1,500 MB"))
    return lines


def _crowd(server: Server, path: str, rows: int) -> list[Figures]:
    """Ten annotators take their next records and submit, while a script pushes 500 records at a time."""
    submits: list[float] = []
    pages: list[float] = []
    faults: list[str] = []
    done, pushed, failed = SPAWN.Event(), SPAWN.Value("q", 0), SPAWN.Value("q", 0)
    # In a process of its own, as a script is: within one process, its work would hold up those whom we measure.
    pusher = SPAWN.Process(target=_push_on, args=(server.process.url, server.key(), path, rows, done, pushed, failed))

    def annotate(name: str) -> None:
        pending = {"type": "terms", "scope": {"entity": "response", "property": "status"}, "values": ["pending"]}
        with server.client(name) as client:
            for _ in range(ANSWERS_EACH // 10):
                answers: list[dict[str, Any]] = []

                def page(answers: list[dict[str, Any]] = answers) -> httpx.Response:
                    body = {"filters": {"and": [pending]}}
                    reply = client.post(f"me/{path}/records/search", params={"limit": 10}, json=body)
                    answers.extend(reply.json()["items"] if reply.is_success else [])
                    return reply

                pages.append(_timed(lambda page=page: _noted(faults, page)))
                for item in answers:
                    url = f"records/{item['record']['id']}/responses"
                    body = {"values": {"rating": {"value": 4}}, "status": "submitted"}
                    submit = partial(client.post, url, json=body)
                    submits.append(_timed(partial(_noted, faults, submit)))
                    # A person reads before answering; without a pause ten clients would measure one queue's length.
                    time.sleep(0.5)

    people = [threading.Thread(target=annotate, args=(f"annotator{number}",)) for number in range(1, CROWD + 1)]
    pusher.start()
    while not pushed.value:
        time.sleep(0.1)
    for thread in people:
        thread.start()
    for thread in people:
        thread.join()
    done.set()
    pusher.join()
    wanted = "p95 < 500 ms, no error"
    while_pushing = f"{len(faults) + failed.value} errors; {pushed.value:,} rows pushed meanwhile"
    if faults:
        while_pushing += f"; first: {faults[0]}"
    return [
        Figures(f"{CROWD} annotators submit during a push", submits, number=while_pushing, wanted=wanted),
        Figures(f"{CROWD} annotators take their next page", pages),
    ]


def _push_on(url: str, key: str, path: str, start: int, done: Any, pushed: Any, failed: Any) -> None:
    """Push 500 records at a time until `done`; counts what went and what failed."""
    corpus = Corpus(seed=8)
    with _client(url, key) as client:
        questions = _questions(client, path)
        while not done.is_set():
            faults: list[str] = []
            records = corpus.records(start + pushed.value, BATCH, questions)
            _noted(faults, partial(client.put, f"{path}/records/bulk", json={"items": records}))
            pushed.value += BATCH
            failed.value += len(faults)


def _table(lines: list[Figures], rows: int, server: Server) -> Table:
    table = Table(title=f"The Argilla server with {rows:,} records x {DIMENSIONS}, {os.cpu_count()} cores")
    for column in ("what", "p50 ms", "p95 ms", "CPU ms", "figure", "wanted"):
        table.add_column(column, justify="right" if column.endswith("ms") else "left")
    for line in lines:
        middle = f"{statistics.median(line.times):.0f}" if line.times else ""
        high = f"{statistics.quantiles(line.times, n=20)[-1]:.0f}" if len(line.times) > 1 else ""
        cpu = "" if line.cpu_ms is None else f"{line.cpu_ms:.0f}"
        table.add_row(line.what, middle, high, cpu, line.number, line.wanted)
    memory = f"{server.memory_mb():,.0f} MB now, {server.memory_mb('VmHWM'):,.0f} MB at most"
    table.add_row("server CPU and memory", "", "", "", f"{server.cpu_s():.0f} s; {memory}", "")
    return table


def _client(url: str, key: str) -> httpx.Client:
    headers = {"X-Argilla-Api-Key": key, "accept-encoding": "identity"}
    return httpx.Client(base_url=f"{url}/api/v1/", headers=headers, timeout=120, trust_env=False)


def _questions(client: httpx.Client, path: str) -> dict[str, str]:
    return {item["name"]: item["id"] for item in _ok(client.get(f"{path}/questions"))["items"]}


def _noted(faults: list[str], request: Callable[[], httpx.Response]) -> None:
    try:
        reply = request()
    except httpx.HTTPError as error:
        faults.append(repr(error))
        return
    if not reply.is_success:
        faults.append(f"{reply.status_code} {reply.text[:200]}")


def _ok(reply: httpx.Response) -> Any:
    if not reply.is_success:
        raise SystemExit(f"{reply.request.method} {reply.request.url}: {reply.status_code} {reply.text[:500]}")
    return reply.json() if reply.content else None


def _timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000


if __name__ == "__main__":
    main()
