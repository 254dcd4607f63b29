"""The Argilla server: bulk upsert beside the stock server code, pages, searches, memory, a busy team, starting.

    make bench WHAT=argilla_server                     10,000 and 100,000 records: about 15 minutes on 2 cores
    make bench WHAT="argilla_server --quick"           a few hundred records: a minute, to see that it runs
    python -m benchmarks argilla_server --home DIR     keeps the filled home in DIR, and goes on from it

All runs on the loopback. The stock server is the same application with `LINGO_HITL_SPEEDUPS=off`, on the same search
engine; its cost for a record does not depend on how many there are, so it gets fewer. p50 and p95 are what a client
measures, in milliseconds; CPU is the server's for one request (for one record, where records are pushed).
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
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
from rich.console import Console
from rich.table import Table

from argilla_setup import launcher
from benchmarks.argilla_load import (
    BATCH,
    CROWD,
    DIMENSIONS,
    Corpus,
    Server,
    client_of,
    dataset_of,
    fill,
    ok,
    questions_of,
    rows_in,
    timed,
)

SIZES = (10_000, 100_000)
STOCK_ROWS = 2_000
QUEUE_MS = {10_000: 30, 100_000: 120}
"""What the next-record page may take at the 95th percentile."""
SEARCH_MS = 100
SIMILAR_MS = 120
MEMORY_MB = 1_500
SUBMIT_MS = 500
TIMES_LESS = 3
TURNS = 3
"""How often each annotator takes ten records."""
REPEATS = 40
SPAWN = multiprocessing.get_context("spawn")
PENDING = {"type": "terms", "scope": {"entity": "response", "property": "status"}, "values": ["pending"]}


@dataclass
class Line:
    """One line of the table."""

    what: str
    times: list[float] = field(default_factory=list)
    """Milliseconds of each request."""
    cpu_ms: float | None = None
    figure: str = ""
    target: str = ""
    met: bool | None = None

    def within(self, limit_ms: float) -> Line:
        """The same with the target that the 95th percentile is below `limit_ms`."""
        self.target, self.met = f"p95 < {limit_ms:g} ms", self.p95() < limit_ms
        return self

    def p95(self) -> float:
        return statistics.quantiles(self.times, n=20)[-1] if len(self.times) > 1 else self.times[0]


def main(options: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks argilla_server",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="a few hundred records")
    parser.add_argument("--rows", type=int, nargs="+", default=SIZES, help="measure when the dataset has so many")
    parser.add_argument("--stock-rows", type=int, default=STOCK_ROWS, help="of the stock server; 0 leaves it out")
    parser.add_argument("--home", type=Path, help="keep the filled home here")
    given = parser.parse_args(options)
    sizes, stock_rows = ((300,), 200) if given.quick else (sorted(given.rows), given.stock_rows)
    lines = list(measure(sizes, stock_rows, given.home))
    Console(width=150).print(table(lines, sizes))


def measure(sizes: tuple[int, ...] | list[int], stock_rows: int, home: Path | None = None) -> Iterator[Line]:
    """Every line, the stock server's first."""
    stock = None
    if stock_rows:
        with _server(speedups=False) as server:
            stock, times = fill(server, dataset_of(server), 0, stock_rows)
            yield Line(f"stock server: push {BATCH} records", times, stock, f"{stock_rows:,} records")
    with _server(speedups=True, home=home) as server:
        path = dataset_of(server)
        for rows in sizes:
            there = rows_in(server, path)
            if there < rows:
                yield pushed_line(*fill(server, path, there, rows), rows=rows, stock=stock)
            yield from pages(server, path, rows)
        yield from crowd(server, path, rows_in(server, path))
        yield from starts(server, path)


def table(lines: list[Line], sizes: tuple[int, ...] | list[int]) -> Table:
    title = f"The Argilla server, up to {max(sizes):,} records x {DIMENSIONS}, {os.cpu_count()} cores"
    made = Table(title=f"{title}, load {os.getloadavg()[1]:.1f}")
    for column in ("what", "p50 ms", "p95 ms", "CPU ms", "figure", "target", "met"):
        made.add_column(column, justify="right" if column.endswith("ms") else "left")
    for line in lines:
        middle, high = (f"{statistics.median(line.times):.0f}", f"{line.p95():.0f}") if line.times else ("", "")
        cpu = "" if line.cpu_ms is None else f"{line.cpu_ms:.1f}"
        met = "" if line.met is None else "yes" if line.met else "NO"
        made.add_row(line.what, middle, high, cpu, line.figure, line.target, met)
    return made


@contextlib.contextmanager
def _server(*, speedups: bool, home: Path | None = None) -> Iterator[Server]:
    folder = Path(tempfile.mkdtemp(prefix="lh-bench-"))
    os.environ["LINGO_HITL_SPEEDUPS"] = "on" if speedups else "off"
    try:
        yield Server(home or folder / "home")
    finally:
        del os.environ["LINGO_HITL_SPEEDUPS"]
        if home is None:
            launcher.remove(folder / "home")
        else:
            launcher.down(home)
        shutil.rmtree(folder, ignore_errors=True)


def pushed_line(cpu_ms: float, times: list[float], *, rows: int, stock: float | None) -> Line:
    line = Line(f"push {BATCH} records, up to {rows:,}", times, cpu_ms)
    if stock is not None:
        line.figure, line.target = f"{stock / cpu_ms:.1f}x less CPU than stock", f">= {TIMES_LESS}x less CPU"
        line.met = stock / cpu_ms >= TIMES_LESS
    return line


def pages(server: Server, path: str, rows: int, *, repeats: int = REPEATS) -> Iterator[Line]:
    """What a labeler's page and a script ask for, one request after the other."""
    words = Corpus().words
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
        return {"query": {"vector": {"name": "meaning", "record_id": record}}, **more}

    with server.client() as owner, server.client("annotator1") as annotator:
        ids = [item["id"] for item in ok(owner.get(f"{path}/records", params={"limit": 10}))["items"]]
        somewhere = [{"type": "terms", "scope": cluster, "values": [f"c{n}", f"c{n + 10}"]} for n in range(10)]
        above = [{"type": "range", "scope": length, "ge": n * 10, "le": n * 10 + 100} for n in range(10)]
        rated = [{"type": "terms", "scope": value, "values": [str(n)]} for n in range(1, 6)]
        bodies: list[tuple[str, float, list[dict[str, Any]]]] = [
            ("next record: pending, random order", QUEUE_MS.get(rows, max(QUEUE_MS.values())), [within(PENDING)]),
            ("text search, frequent words", SEARCH_MS, [text(word) for word in words[:10]]),
            ("text search, rare words", SEARCH_MS, [text(word) for word in words[1000:1010]]),
            ("text search, two words", SEARCH_MS, [text(f"{words[n]} {words[n + 9]}") for n in range(10)]),
            ("text search, part of a word", SEARCH_MS, [text(word[:2]) for word in words[20:30]]),
            ("text and metadata filter", SEARCH_MS, [{**text(words[n]), **within(somewhere[n])} for n in range(10)]),
            ("filter by metadata terms", SEARCH_MS, [within(one) for one in somewhere]),
            ("filter by metadata range", SEARCH_MS, [within(one) for one in above]),
            ("filter by suggestion", SEARCH_MS, [within(one) for one in rated]),
            ("sort by metadata", SEARCH_MS, [{"sort": [{"scope": length, "order": "desc"}]}]),
            ("sort by suggestion score", SEARCH_MS, [{"sort": [{"scope": score, "order": "asc"}]}]),
            ("sort by time", SEARCH_MS, [{"sort": [{"scope": inserted, "order": "desc"}]}]),
            ("find similar, exact", SIMILAR_MS, [like(record) for record in ids]),
            ("find similar in the pending queue", SIMILAR_MS, [like(record, **within(PENDING)) for record in ids]),
            ("find similar, filtered", SIMILAR_MS, [like(record, **within(somewhere[0])) for record in ids]),
        ]
        for what, limit_ms, asked in bodies:
            mine = "pending" in what
            client, place = (annotator, f"me/{path}") if mine else (owner, path)
            include = ["suggestions", "responses"] if mine else ["suggestions"]
            ask = partial(client.post, f"{place}/records/search", params={"limit": 10, "include": include})
            # The first request of a kind reads what the later ones find in memory.
            first = timed(lambda ask=ask, body=asked[0]: ok(ask(json=body)))
            before = server.cpu_s()
            times = [timed(lambda ask=ask, body=body: ok(ask(json=body))) for body in (asked * repeats)[:repeats]]
            cpu = (server.cpu_s() - before) * 1000 / len(times)
            yield Line(f"{what}, {rows:,}", times, cpu, f"first {first:.0f} ms").within(limit_ms)
    used = server.memory_mb()
    yield Line(
        f"memory with all vectors, {rows:,}",
        figure=f"{used:,.0f} MB",
        target=f"< {MEMORY_MB:,} MB",
        met=used < MEMORY_MB,
    )


def crowd(server: Server, path: str, rows: int, *, people: int = CROWD, turns: int = TURNS) -> Iterator[Line]:
    """Annotators take ten records and submit them, and again, while a script pushes 500 records at a time."""
    submits: list[float] = []
    taken: list[float] = []
    faults: list[str] = []
    done, pushed, failed = SPAWN.Event(), SPAWN.Value("q", 0), SPAWN.Value("q", 0)
    # In a process of its own, as a script is: within one process, its work would hold up those whom we measure.
    pusher = SPAWN.Process(target=_push_on, args=(server.process.url, server.key(), path, rows, done, pushed, failed))

    def annotate(name: str) -> None:
        with server.client(name) as client:
            for _ in range(turns):
                answers: list[dict[str, Any]] = []

                def page(answers: list[dict[str, Any]] = answers) -> httpx.Response:
                    body = {"filters": {"and": [PENDING]}}
                    reply = client.post(f"me/{path}/records/search", params={"limit": 10}, json=body)
                    answers.extend(reply.json()["items"] if reply.is_success else [])
                    return reply

                taken.append(timed(lambda page=page: _noted(faults, page)))
                for item in answers:
                    url = f"records/{item['record']['id']}/responses"
                    body = {"values": {"rating": {"value": 4}}, "status": "submitted"}
                    submit = partial(client.post, url, json=body)
                    submits.append(timed(partial(_noted, faults, submit)))
                    # A person reads before answering; without a pause ten clients would measure one queue's length.
                    time.sleep(0.5)

    threads = [threading.Thread(target=annotate, args=(f"annotator{number}",)) for number in range(1, people + 1)]
    pusher.start()
    while not pushed.value and pusher.is_alive():
        time.sleep(0.1)
    before = server.cpu_s()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    busy = server.cpu_s() - before
    done.set()
    pusher.join()
    count = len(faults) + failed.value
    line = Line(f"{people} annotators submit during a push", submits).within(SUBMIT_MS)
    line.figure = f"{count} errors, {pushed.value:,} rows pushed" + (f"; first: {faults[0]}" if faults else "")
    line.target += ", no error"
    line.met = line.met and not count
    yield line
    yield Line(f"{people} annotators take their next page", taken, figure=f"server CPU {busy:.0f} s in all")
    used, most = server.memory_mb(), server.memory_mb("VmHWM")
    yield Line("memory after that", figure=f"{used:,.0f} MB, {most:,.0f} MB at most")


def starts(server: Server, path: str) -> Iterator[Line]:
    """With an index that is in step, and with none: the server then answers while it builds a new one."""
    rows = rows_in(server, path)
    server.stop()
    yield Line(f"start with {rows:,} records", figure=f"{server.start():.1f} s until it answers")
    server.stop()
    for file in server.home.glob("index.db*"):
        file.unlink()
    began = time.perf_counter()
    answers = server.start()
    times: list[float] = []
    found = 0
    with server.client() as client:
        everything = {"query": {"text": {"q": "-zzz"}}}
        ask = partial(client.post, f"{path}/records/search", params={"limit": 1}, json=everything)
        while found < rows:
            asked = time.perf_counter()
            found = ok(ask())["total"]
            times.append((time.perf_counter() - asked) * 1000)
            time.sleep(0.2)
    whole = time.perf_counter() - began
    figure = f"answers after {answers:.1f} s, complete after {whole:.0f} s"
    yield Line("start without an index; a search meanwhile", times, figure=figure)


def _push_on(url: str, key: str, path: str, start: int, done: Any, pushed: Any, failed: Any) -> None:
    """Push 500 records at a time until `done`; counts what went and what failed."""
    corpus = Corpus(seed=8)
    with client_of(url, key) as client:
        questions = questions_of(client, path)
        while not done.is_set():
            faults: list[str] = []
            records = corpus.records(start + pushed.value, BATCH, questions)
            _noted(faults, partial(client.put, f"{path}/records/bulk", json={"items": records}))
            pushed.value += BATCH
            failed.value += len(faults)


def _noted(faults: list[str], request: Callable[[], httpx.Response]) -> None:
    try:
        reply = request()
    except httpx.HTTPError as error:
        faults.append(repr(error))
        return
    if not reply.is_success:
        faults.append(f"{reply.status_code} {reply.text[:200]}")
