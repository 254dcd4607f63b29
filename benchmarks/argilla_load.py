"""A server in a home of its own, filled with records that look Korean, for `benchmarks.argilla_server`."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from argilla_setup import launcher

DIMENSIONS = 768
BATCH = 500
"""Argilla's limit for one bulk request."""
CROWD = 10
SYLLABLES = "".join(chr(0xAC00 + 28 * number) for number in range(0, 399, 8))


class Server:
    """A running Argilla, and clients of its accounts. Linux only: CPU time and memory are read from /proc."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.start()
        self.accounts = launcher.credentials(home).accounts

    def start(self) -> float:
        """Seconds until it answers, the import of Argilla among them."""
        accounts = [f"annotator{number}" for number in range(1, CROWD + 1)]
        started = time.perf_counter()
        self.process = launcher.up(self.home, accounts=accounts, say=lambda line: None)
        return time.perf_counter() - started

    def stop(self) -> None:
        launcher.down(self.home)

    def key(self, account: str = "owner") -> str:
        return self.accounts[account].api_key

    def client(self, account: str = "owner") -> httpx.Client:
        return client_of(self.process.url, self.key(account))

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


def dataset_of(server: Server) -> str:
    """The path of a published dataset: two fields, two questions, two metadata properties and one vector."""
    text = {"type": "text", "use_markdown": False}
    rating = {"type": "rating", "options": [{"value": value} for value in range(1, 6)]}
    topic = {"type": "label_selection", "options": [{"value": value, "text": value} for value in "abc"]}
    with server.client() as client:
        for known in ok(client.get("me/datasets"))["items"]:
            if known["name"] == "bench":
                return f"datasets/{known['id']}"
        workspace = ok(client.get("me/workspaces"))["items"][0]["id"]
        overlap = {"strategy": "overlap", "min_submitted": 2}
        body: dict[str, Any] = {"name": "bench", "workspace_id": workspace, "distribution": overlap}
        path = "datasets/" + ok(client.post("datasets", json=body))["id"]
        for name in ("prompt", "answer"):
            ok(client.post(f"{path}/fields", json={"name": name, "title": name, "required": True, "settings": text}))
        for name, settings in (("rating", rating), ("topic", topic)):
            body = {"name": name, "title": name, "required": name == "rating", "settings": settings}
            ok(client.post(f"{path}/questions", json=body))
        for name, kind in (("cluster", "terms"), ("length", "integer")):
            body = {"name": name, "title": name, "settings": {"type": kind}, "visible_for_annotators": True}
            ok(client.post(f"{path}/metadata-properties", json=body))
        body = {"name": "meaning", "title": "meaning", "dimensions": DIMENSIONS}
        ok(client.post(f"{path}/vectors-settings", json=body))
        ok(client.put(f"{path}/publish"))
    return path


def rows_in(server: Server, path: str) -> int:
    with server.client() as client:
        return ok(client.get(f"{path}/progress"))["total"]


def fill(server: Server, path: str, start: int, end: int) -> tuple[float, list[float]]:
    """Push the rows from `start` to `end`: milliseconds of server CPU for each, and of each request."""
    corpus, times, spent = Corpus(seed=7 + start), [], 0.0
    with server.client() as client:
        questions = questions_of(client, path)
        for first in range(start, end, BATCH):
            records = corpus.records(first, min(BATCH, end - first), questions)
            before = server.cpu_s()
            times.append(timed(lambda items=records: ok(client.put(f"{path}/records/bulk", json={"items": items}))))
            spent += server.cpu_s() - before
    return spent * 1000 / (end - start), times


def client_of(url: str, key: str) -> httpx.Client:
    headers = {"X-Argilla-Api-Key": key, "accept-encoding": "identity"}
    return httpx.Client(base_url=f"{url}/api/v1/", headers=headers, timeout=120, trust_env=False)


def questions_of(client: httpx.Client, path: str) -> dict[str, str]:
    return {item["name"]: item["id"] for item in ok(client.get(f"{path}/questions"))["items"]}


def ok(reply: httpx.Response) -> Any:
    if not reply.is_success:
        raise SystemExit(f"{reply.request.method} {reply.request.url}: {reply.status_code} {reply.text[:500]}")
    return reply.json() if reply.content else None


def timed(work: Callable[[], Any]) -> float:
    """Milliseconds."""
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000
