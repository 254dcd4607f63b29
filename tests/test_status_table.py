"""What `lingo-hitl status` prints for people."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from argilla_setup.redis_process import Jobs
from argilla_setup.server_state import Backup, Index, Part, Status
from lingo_hitl.status_table import print_status


def lines_of(status):
    text = io.StringIO()
    print_status(status, Console(file=text, width=110))
    return [line.rstrip() for line in text.getvalue().splitlines()]


def row(lines, name):
    return next(line.removeprefix(name).strip() for line in lines if line.startswith(name))


def test_a_home_that_was_never_started():
    assert lines_of(Status(running=False, home=Path("/h"))) == [
        "Argilla was never started in /h. Start it: lingo-hitl up"
    ]


def test_problems_come_first_and_texts_are_not_markup():
    status = Status(
        running=True,
        home=Path("/h [bold]"),
        url="http://127.0.0.1:6900",
        version="2.8.0",
        uptime_s=93_784,
        users=1,
        datasets=2,
        records=12_345,
        answers=1_000,
        answers_today=7,
        index=Index("behind", documents=12_000, to_go=345),
        parts=(
            Part("supervisor", 1, 93_784.0),
            Part("worker", 2, 61.0, restarts=2, last_end="signal 9", ended_at="2026-01-01T00:00:00+00:00"),
            Part("redis", None),
        ),
        jobs=Jobs(queued=3, to_retry=1, failed_today=4),
        unsent_jobs=5,
        last_backup=Backup("2026-01-01T00:00:00+00:00", "/backups/x", verified=False, age_s=7_200),
        database_bytes=3 * 2**20,
        free_bytes=2**40,
        problems=("first [red]problem[/]", "second"),
    )
    lines = lines_of(status)
    assert lines[:3] == [
        "Argilla 2.8.0 runs at http://127.0.0.1:6900 (1 d 2 h)",
        "! first [red]problem[/]",
        "! second",
    ]
    assert row(lines, "Holds") == "1 user, 2 datasets, 12,345 records"
    assert row(lines, "Answers") == "1,000 submitted, 7 of them today"
    assert row(lines, "Search index") == "345 records to go, 12,000 done"
    assert row(lines, "Worker").startswith("runs as process 2 (1 min 1 s); restarted 2 times (last: signal 9, 20")
    assert row(lines, "Redis") == "does not run"
    assert row(lines, "Jobs") == "3 queued, 0 at work, 1 to be tried again, 5 kept for Redis, 4 given up in 24 h"
    assert "(2 h 0 min ago), not verified: /backups/x" in row(lines, "Last backup")
    assert row(lines, "Disk") == "database 3.0 MiB, index 0 B, logs 0 B; 1,024 GiB free"
    assert row(lines, "Home") == "/h [bold]"
