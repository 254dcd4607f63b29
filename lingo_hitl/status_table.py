"""`lingo-hitl status` for people: problems first, then one line for each thing that is asked about."""

from __future__ import annotations

import datetime
import itertools

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from argilla_setup.server_state import Index, Part, Status


def print_status(status: Status, console: Console | None = None) -> None:
    """Print it, in colours where the terminal has them."""
    console = console or Console()
    console.print(_headline(status), highlight=False, soft_wrap=True)
    for problem in status.problems:
        console.print(f"[bold red]![/] {escape(problem)}", highlight=False, soft_wrap=True)
    table = Table(show_header=False, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in _rows(status):
        table.add_row(name, escape(text))
    if table.row_count:
        console.print()
        console.print(table, highlight=False)


def _headline(status: Status) -> str:
    version = f"Argilla {status.version}" if status.version else "Argilla"
    if status.running:
        return f"[bold green]{version} runs[/] at {status.url} ({_duration(status.uptime_s or 0)})"
    if status.pid:
        return f"[bold yellow]{version} is starting[/] at {status.url}, or does not answer"
    if status.index is None:
        return f"[bold]{version} was never started[/] in {escape(str(status.home))}. Start it: lingo-hitl up"
    return f"[bold yellow]{version} is stopped[/]. Start it: lingo-hitl up"


def _rows(status: Status) -> list[tuple[str, str]]:
    if status.index is None:
        return []
    rows = []
    if status.records is not None:
        counts = [_count(status.users, "user"), _count(status.datasets, "dataset"), _count(status.records, "record")]
        rows.append(("Holds", ", ".join(counts)))
        rows.append(("Answers", f"{status.answers or 0:,} submitted, {status.answers_today or 0:,} of them today"))
    rows.append(("Search index", _index(status.index)))
    if any(part.pid for part in status.parts):
        rows += [(_PARTS[part.name], _part(part)) for part in status.parts]
        rows.append(("Jobs", _jobs(status)))
    rows.append(("Last backup", _backup(status)))
    sizes = f"database {_size(status.database_bytes)}, index {_size(status.index_bytes)}"
    rows.append(("Disk", f"{sizes}, logs {_size(status.logs_bytes)}; {_size(status.free_bytes or 0)} free"))
    rows.append(("Home", str(status.home)))
    if status.credentials_path:
        rows.append(("Sign-ins", str(status.credentials_path)))
    rows.append(("Log", str(status.log_path)))
    return rows


_PARTS = {"supervisor": "Supervisor", "server": "Server", "worker": "Worker", "redis": "Redis"}


def _part(part: Part) -> str:
    text = f"runs as process {part.pid}" if part.pid else "does not run"
    if part.uptime_s is not None:
        text += f" ({_duration(part.uptime_s)})"
    if part.ended_at:
        ended = f"{part.last_end}, {_local(part.ended_at)}"
        text += f"; restarted {_count(part.restarts, 'time')} (last: {ended})"
    return text


def _index(index: Index) -> str:
    if index.state == "absent":
        return "none yet"
    if index.state == "damaged":
        return f"damaged ({index.fault})"
    if index.state == "behind":
        return f"{_count(index.to_go, 'record')} to go, {index.documents:,} done"
    return f"whole: {_count(index.documents, 'record')}"


def _jobs(status: Status) -> str:
    jobs = status.jobs
    if jobs is None:
        return "unknown: Redis does not answer"
    text = f"{jobs.queued:,} queued, {jobs.running:,} at work"
    if jobs.to_retry:
        text += f", {jobs.to_retry:,} to be tried again"
    if status.unsent_jobs:
        text += f", {status.unsent_jobs:,} kept for Redis"
    return f"{text}, {jobs.failed_today:,} given up in 24 h"


def _backup(status: Status) -> str:
    backup = status.last_backup
    if backup is None:
        return "never"
    verified = "verified" if backup.verified else "not verified"
    return f"{_local(backup.at)} ({_duration(backup.age_s)} ago), {verified}: {backup.path}"


def _local(at: str) -> str:
    """An ISO 8601 time in the reader's own zone; UTC where the text names none."""
    time = datetime.datetime.fromisoformat(at)
    return f"{(time if time.tzinfo else time.replace(tzinfo=datetime.UTC)).astimezone():%Y-%m-%d %H:%M}"


def _duration(seconds: float) -> str:
    """The two largest units: `3 h 12 min`."""
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    for (large, size), (small, part) in itertools.pairwise(units):
        if seconds >= size:
            return f"{seconds // size:.0f} {large} {seconds % size // part:.0f} {small}"
    return f"{max(0, seconds):.0f} s"


def _size(size: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:,.0f} {unit}" if unit == "B" or size >= 100 else f"{size:,.1f} {unit}"


def _count(number: int | None, noun: str) -> str:
    return f"{number or 0:,} {noun}{'' if number == 1 else 's'}"
