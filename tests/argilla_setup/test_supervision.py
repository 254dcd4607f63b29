"""What runs of a home is kept alive, its jobs are done, and nothing that was acknowledged is lost on the way."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import socket
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from rich.console import Console

from argilla_setup import launcher
from argilla_setup.addresses import why_not_free
from argilla_setup.processes import ProcessRecord
from lingo_hitl.status_table import print_status
from tests.argilla_setup.awaiting import await_, kill
from tests.argilla_setup.listener import listening
from tests.argilla_setup.rest import TEXT, Rest, rating
from tests.conftest import free_port

pytestmark = pytest.mark.server

JSON = {"content-type": "application/json"}
ANNOTATORS = tuple(f"annotator{number}" for number in range(1, 6))


@pytest.fixture(scope="module")
def home():
    folder = Path(tempfile.mkdtemp(prefix="lh 홈-"))
    launcher.up(folder / "home", port=free_port(), accounts=ANNOTATORS, say=lambda line: None)
    yield folder / "home"
    launcher.remove(folder / "home")
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def rest(home):
    return Rest(home)


@pytest.fixture(scope="module")
def listener(rest):
    """Who listens to a webhook."""
    with listening() as listener:
        body = {"url": listener.url, "events": ["response.created", "dataset.updated"], "description": "test"}
        rest("POST", "/webhooks", json=body)
        yield listener


def part(home, name):
    return next(part for part in launcher.status(home).parts if part.name == name)


def restarted(home, name, before):
    """The part, once it runs as another process."""
    return await_(
        lambda: (now := part(home, name)).pid and now.pid != before.pid and now,
        f"{name} to run again",
        lambda: part(home, name),
    )


def problems(home):
    return " ".join(launcher.status(home).problems)


@contextmanager
def port_taken(url):
    """Another program listens there, as soon as who did before has let go of it."""
    port = urlsplit(url).port
    await_(lambda: why_not_free("127.0.0.1", port) is None, f"port {port} to be free")
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        yield


@contextmanager
def redis_gone(home):
    """Kill Redis, and keep who would start it anew from doing so until the block ends."""
    supervisor = part(home, "supervisor").pid
    os.kill(supervisor, signal.SIGSTOP)
    try:
        kill_child(part(home, "redis").pid)
        yield
    finally:
        os.kill(supervisor, signal.SIGCONT)


def kill_child(pid):
    """kill -9 of a stopped parent's child: it stays a zombie."""
    os.kill(pid, signal.SIGKILL)
    await_(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX", f"{pid} to end")


def make(rest, name, records, **more):
    dataset = rest.create_dataset(name, fields={"t": TEXT}, questions={"rating": rating()}, **more)
    items = [{"external_id": f"{name}{n}", "fields": {"t": f"본문 {n}"}} for n in range(records)]
    return dataset, [item["id"] for item in rest.upsert(dataset, items)]


def test_a_changed_overlap_and_a_webhook_are_done_by_the_worker(home, rest, listener):
    dataset, records = make(rest, "overlap", 5, min_submitted=2)
    # Who answered each record: nobody, one, two, one and a draft, one and somebody who discarded it.
    answers = ([], ["submitted"], ["submitted"] * 2, ["submitted", "draft"], ["discarded", "submitted"])
    for record, statuses in zip(records, answers, strict=True):
        for number, status in enumerate(statuses, start=1):
            Rest(home, f"annotator{number}").answer(record, {"rating": 5}, status=status)
    [created] = listener.await_events("response.created", 7)[:1]
    assert created["record"]["id"] == records[1]

    def statuses():
        items = rest("GET", f"/datasets/{dataset}/records", params={"limit": 100})["items"]
        return [{item["id"]: item["status"] for item in items}[record] for record in records]

    two = ["pending", "pending", "completed", "pending", "pending"]
    one = ["pending", "completed", "completed", "completed", "completed"]
    assert statuses() == two
    for overlap, expected in ((1, one), (2, two)):
        body = {"distribution": {"strategy": "overlap", "min_submitted": overlap}}
        rest("PATCH", f"/datasets/{dataset}", json=body)
        await_(lambda expected=expected: statuses() == expected, f"statuses for {overlap}", statuses)
    assert listener.await_events("dataset.updated", 2)[0]["id"] == dataset


def test_killing_redis_while_people_submit_loses_nothing(home, rest, listener):
    """Neither an answer, nor a request, nor a job: while it is down, and while it is being started anew."""
    dataset, records = make(rest, "redis", 12, min_submitted=9)
    clients = [Rest(home, name) for name in ANNOTATORS]
    before = part(home, "redis")

    def submit(pair):
        client, record = pair
        return client.answer(record, {"rating": 3})["id"]

    pairs = [(client, record) for record in records for client in clients]
    listener.reply = 500
    first = submit(pairs[0])
    # Argilla's first pause is ten seconds; they are over when the rest is done.
    await_(lambda: launcher.status(home).jobs.to_retry == 1, "another try to be due", lambda: launcher.status(home))
    listener.reply = 200
    with ThreadPoolExecutor(5) as pool:
        acknowledged = {first, *pool.map(submit, pairs[1:20])}
        with redis_gone(home):
            acknowledged.update(pool.map(submit, pairs[20:40]))
            rest("PATCH", f"/datasets/{dataset}", json={"distribution": {"strategy": "overlap", "min_submitted": 1}})
            status = launcher.status(home)
            assert status.running
            assert "Redis has ended" in " ".join(status.problems)
            assert status.unsent_jobs == 22, "an event for each answer and for the dataset, and the statuses"
        acknowledged.update(pool.map(submit, pairs[40:50]))
        # And where it is only away for as long as starting takes.
        os.kill(restarted(home, "redis", before).pid, signal.SIGKILL)
        acknowledged.update(pool.map(submit, pairs[50:]))

    assert len(acknowledged) == len(pairs)
    kept = rest("GET", f"/datasets/{dataset}/records", params={"include": "responses", "limit": 100})["items"]
    assert {answer["id"] for record in kept for answer in record["responses"]} == acknowledged

    def told():
        return acknowledged - {item["id"] for item in listener.events("response.created")}

    await_(lambda: not told(), "an event for each answer", told)

    def failed_one():
        return [item for item in listener.events("response.created") if item["id"] == first]

    def pending():
        items = rest("GET", f"/datasets/{dataset}/records", params={"limit": 100})["items"]
        return [item for item in items if item["status"] != "completed"]

    await_(lambda: not pending(), "the statuses of the changed overlap", pending)
    await_(lambda: len(failed_one()) > 1, "the event that was refused to be sent again", failed_one)
    now = launcher.status(home)
    assert now.unsent_jobs == 0
    assert now.jobs.failed_today == 0
    assert part(home, "redis").restarts == 2


def test_all_but_the_supervisor_killed_is_back_and_the_jobs_are_done(home, rest, listener):
    """A job that a worker was at, and one that waited for Redis, known to the server alone."""
    _, [record, other] = make(rest, "killed", 2)
    listener.held.clear()
    asked = listener.asking
    Rest(home, "annotator1").answer(record, {"rating": 5})
    await_(lambda: listener.asking > asked, "the webhook to be at work")
    before = launcher.status(home)
    worker, supervisor = part(home, "worker"), part(home, "supervisor").pid
    stack = ExitStack()
    with redis_gone(home):
        Rest(home, "annotator1").answer(other, {"rating": 5})
        assert launcher.status(home).unsent_jobs == 1
        kill_child(worker.pid)
        kill_child(before.pid)
        with (home / "unsent-jobs.jsonl").open("ab") as file:
            file.write(b"\xff a line that was cut off")
        down = launcher.status(home)
        assert not down.running
        assert down.records == before.records, "told while the server is down"
        assert "the server has ended" in down.problem
        stack.enter_context(port_taken(before.url))
    # What keeps a server from starting that has served before is waited for, and told.
    told = await_(lambda: re.search(r"has ended \(exit code 3: [^;]*", problems(home)), "the cause to be told")
    assert "Stop the other program" in told[0]
    assert part(home, "supervisor").pid == supervisor
    stack.close()
    listener.held.set()
    again = launcher.up(home, accounts=ANNOTATORS, say=lambda line: None)
    assert not again.started_now, "up waits for what is being started"
    assert again.pid != before.pid
    assert "signal 9" in restarted(home, "worker", worker).last_end

    def told():
        return {item["record"]["id"] for item in listener.events("response.created")}

    await_(lambda: {record, other} <= told(), "both events", told)
    assert launcher.status(home).unsent_jobs == 0


def test_status_tells_what_runs_and_what_it_holds(home, rest):
    _, [record, _] = make(rest, "status", 2)
    answers = launcher.status(home).answers_today
    Rest(home, "annotator1").answer(record, {"rating": 5})
    (home / "last-backup.json").write_text(
        json.dumps({"at": "2001-02-03T04:05:06+00:00", "path": "/backups/x", "verified": True})
    )
    now = launcher.status(home)
    assert (now.running, now.version, now.users) == (True, "2.8.0", 1 + len(ANNOTATORS))
    assert now.answers_today == answers + 1
    assert now.index.state == "whole"
    assert now.index.documents == now.records
    assert {part.name for part in now.parts if part.pid} == {"supervisor", "server", "worker", "redis"}
    assert now.last_backup.verified
    # The server too has ended often by now; how often depends on the machine.
    assert re.search(r"Redis has ended \d+ times", " ".join(now.problems))
    assert "lingo-hitl backup" in now.problems[-1]
    assert json.loads(json.dumps(asdict(now), default=str))["jobs"]["failed_today"] == 0
    text = io.StringIO()
    print_status(now, Console(file=text, width=100))
    lines = text.getvalue().splitlines()
    assert lines[0].startswith(f"Argilla 2.8.0 runs at {now.url}")
    assert lines[1].startswith("! ")
    assert str(now.problem) in lines[1]
    assert any(line.startswith("Answers") and f"{now.answers_today:,} of them today" in line for line in lines)


def test_logs_hold_no_secret(home, rest):
    """After all of the above: no search text, password, key, token or address of a webhook."""
    account = rest.credentials.accounts["annotator1"]
    dataset, _ = make(rest, "secret", 1)
    rest.search(dataset, "비밀검색어 searchsecret")
    attempt = {"username": "annotator1", "password": "failed-password"}
    assert rest.client.post("/api/v1/token", data=attempt).status_code == 401
    assert rest.client.get("/api/v1/me", headers={"X-Argilla-Api-Key": "unknown-api-key"}).status_code == 401
    refused = [
        ("POST", "/users", {"username": "nobody", "password": "refused-password", "role": "owner"}),
        ("POST", "/users", {"username": "no/body", "password": "short", "first_name": "refused-name"}),
        ("POST", "/webhooks", {"url": "http://refused-address", "events": ["refused-event"], "description": "x"}),
        ("PUT", f"/datasets/{dataset}/records/bulk", {"items": [{"fields": "refused-text"}] * 20}),
        ("PUT", f"/datasets/{dataset}/records/bulk", {"items": [{"external_id": "refused-id"}]}),
    ]
    for method, path, body in refused:
        assert rest.client.request(method, f"/api/v1{path}", json=body).status_code == 422
    cut_off = rest.client.post("/api/v1/users", content=b'{"password": "refused-password', headers=JSON)
    assert cut_off.status_code == 422
    secrets = [
        "비밀검색어",
        "searchsecret",
        "failed-password",
        "unknown-api-key",
        "listener-secret",
        "본문",
        "refused-",
    ]
    for account in rest.credentials.accounts.values():
        secrets += [account.password, account.api_key]
    secrets += [value for value in json.loads((home / "secrets.json").read_text()).values() if isinstance(value, str)]
    logs = {path.name: path.read_text(encoding="utf-8", errors="replace") for path in (home / "logs").iterdir()}
    assert "worker" in logs["supervisor.log"]
    assert "update_dataset_records_status_job is over" in logs["worker.log"]
    assert "Redis is gone" in logs["server.log"]
    assert "body.first_name (missing)" in logs["server.log"]
    assert [(name, secret) for name, text in logs.items() for secret in secrets if secret in text] == []


def test_a_killed_supervisor_takes_nothing_along(home, rest):
    """The last test: it stops the server."""
    kill(part(home, "supervisor").pid)
    orphaned = launcher.status(home)
    assert orphaned.running, "labelers go on"
    assert "lingo-hitl up" in orphaned.problem
    pids = [part.pid for part in orphaned.parts if part.pid]
    assert launcher.down(home)
    assert [pid for pid in pids if ProcessRecord.of(pid)] == []
    assert not launcher.down(home)
