"""`lingo-hitl accounts`: parse, call, print."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from argilla_setup.accounts import client as accounts_client
from lingo_hitl.home_option import Home, home_of
from lingo_hitl.project_file import expanded

app = typer.Typer(help="Who may sign in to Argilla, in what role, in which workspaces.", no_args_is_help=True)

Url = Annotated[
    str | None,
    typer.Option(help="A team's server instead of a home's; ARGILLA_API_KEY holds an owner's key.", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, passwords included.")]


@app.command()
def apply(
    file: Annotated[Path, typer.Argument(help="An accounts.yaml; see configs/accounts.yaml.", show_default=False)],
    home: Home = None,
    url: Url = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make users, roles and workspaces as the file says; who is no longer listed is deactivated, never deleted."""
    changes = accounts_client.apply(home_of(home), expanded(file), dry_run=dry_run, url=url)
    if as_json:
        print(json.dumps([asdict(change) for change in changes], ensure_ascii=False))
        return
    if not changes:
        print("Nothing to do: the accounts are as the file says.")
        return
    _show(changes)
    if dry_run:
        print("Nothing was changed: this was a dry run.")


@app.command()
def rotate(
    name: Annotated[str, typer.Argument(help="The user name.", show_default=False)],
    home: Home = None,
    url: Url = None,
    password: Annotated[bool, typer.Option("--password", help="Only the password.")] = False,
    key: Annotated[bool, typer.Option("--key", help="Only the API key.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a new password and a new API key (or only one of them), and end the sessions of the old password."""
    both = password == key
    change = accounts_client.rotate(home_of(home), name, password=password or both, key=key or both, url=url)
    if as_json:
        print(json.dumps(asdict(change), ensure_ascii=False))
        return
    _show([change])


@app.command("list")
def list_(
    home: Home = None, url: Url = None, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """Every user: role, workspaces, answers, and whether they may sign in."""
    users = accounts_client.listing(home_of(home), url=url)
    if as_json:
        print(json.dumps([asdict(user) for user in users], ensure_ascii=False))
        return
    table = Table("user", "name", "role", "workspaces", "answers", "may sign in", box=None, pad_edge=False)
    for user in users:
        cells = (user.name, user.display, user.role, ", ".join(user.workspaces), str(user.answers))
        table.add_row(*map(escape, cells), "yes" if user.active else "no: deactivated")
    Console().print(table)


def _show(changes: list[accounts_client.AccountChange]) -> None:
    """One line for each change, and its secrets: these are shown this once."""
    for change in changes:
        print(f"{change.what:18} {change.name}" + (f": {change.detail}" if change.detail else ""))
        if change.password:
            print(f"{'':18} password {change.password}")
        if change.api_key:
            print(f"{'':18} API key {change.api_key}")
    if any(change.password or change.api_key for change in changes):
        print("Passwords and keys are shown once: hand them over now. A new one: lingo-hitl accounts rotate NAME")
