"""`lingo-hitl journal`: what models said so far, shared with others, and made smaller."""

from __future__ import annotations

import json
import re
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lingo_hitl.errors import UserError
from lingo_hitl.project_file import load_project
from lingo_hitl.usage_table import columns, wide

if TYPE_CHECKING:
    from lingo_hitl.models.journal import Journal
    from lingo_hitl.models.upkeep import JournalStats

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="What models said so far: look at it, share it, make it smaller.",
)

JournalOf = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="The project's YAML file, or a journal.sqlite.", show_default=False)
]
_UNITS = {"h": "hours", "d": "days", "w": "weeks"}


@app.command()
def stats(
    config: JournalOf, as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False
) -> None:
    """Completions, tokens and cost by model, and why some have no text."""
    from lingo_hitl.models.upkeep import stats as stats_of

    with _opened(config, read_only=True) as journal:
        found = stats_of(journal)
    print(json.dumps(found.as_dict(), ensure_ascii=False, indent=2)) if as_json else _print(found)


@app.command()
def export(
    config: JournalOf,
    to: Annotated[Path, typer.Argument(help="The file to write.", show_default=False)],
    model: Annotated[str, typer.Option(help="Only models whose names fit; * holds for anything.")] = "*",
) -> None:
    """Copy completions to a file for others, who then need not pay for them again."""
    from lingo_hitl.models.upkeep import export as copy

    with _opened(config, read_only=True) as journal:
        count = copy(journal, to, models=model)
    print(f"{count} completions are in {to}. Whoever gets it: lingo-hitl journal merge CONFIG {to.name}")


@app.command()
def merge(
    config: JournalOf,
    other: Annotated[Path, typer.Argument(help="A journal, such as `export` writes.", show_default=False)],
) -> None:
    """Take over the completions of another journal."""
    from lingo_hitl.models.upkeep import merge as take_over

    with _opened(config, make=True) as journal:
        new, all_of_them = take_over(journal, other)
        print(f"{new} of {all_of_them} completions are new; {journal.path} has {len(journal)} now.")


@app.command()
def prune(
    config: JournalOf,
    older_than: Annotated[str | None, typer.Option(help="Completed before that: 12h, 30d, 8w.")] = None,
    model: Annotated[str | None, typer.Option(help="Of models whose names fit; * holds for anything.")] = None,
    failures: Annotated[bool, typer.Option("--failures", help="Without a text: blocked, refused, empty.")] = False,
    unused: Annotated[
        bool, typer.Option("--unused", help="That neither the last finished generate and judge used, nor a run since.")
    ] = False,
) -> None:
    """Remove completions that meet every condition given; a run that needs them asks, and pays, again."""
    from lingo_hitl.models.upkeep import Unwanted
    from lingo_hitl.models.upkeep import prune as remove

    age = None if older_than is None else _age(older_than)
    with _alone(config), _opened(config) as journal:
        removed, freed = remove(journal, Unwanted(age, model, failures, unused))
        print(f"{removed} completions are gone, {len(journal)} stay; the file is {max(0, freed) / 1e6:.1f} MB smaller.")


def _path(config: Path) -> Path:
    from lingo_hitl.pipeline import journal_path

    return journal_path(load_project(config)) if config.suffix in {".yaml", ".yml"} else config


def _alone(config: Path) -> AbstractContextManager[None]:
    """No run works with the journal meanwhile: what it replays must not go, and it locks its workdir."""
    from lingo_hitl.stages import locked

    folder = _path(config).parent
    return locked(folder) if (folder / ".lock").exists() else nullcontext()


def _opened(config: Path, *, make: bool = False, read_only: bool = False) -> Journal:
    from lingo_hitl.models.journal import Journal

    path = _path(config)
    if not path.is_file() and not (make and path != config):
        raise UserError(f"{path} is not there: no model has said anything yet. Run `lingo-hitl generate` first.")
    return Journal(path, read_only=read_only)


def _age(text: str) -> timedelta:
    if not (found := re.fullmatch(r"(\d{1,4})([hdw])", text)):
        raise UserError(f"--older-than: '{text}' is no age. Expected a number and h, d or w, such as 12h, 30d or 8w.")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def _print(found: JournalStats) -> None:
    table = columns("", "completions", "no text", "input tokens", "output tokens", "cost", "mean time", "from", "to")
    for m in found.models:
        counts = (f"{n:,}" for n in (m.completions, m.without_text, m.input_tokens, m.output_tokens))
        cost = "?" if m.cost is None else f"{m.cost:.4f}"
        table.add_row(m.model, *counts, cost, f"{m.mean_seconds:.1f} s", m.first[:10], m.last[:10])
    wide(table)
    for m in found.models:
        for reason, count in m.reasons.items():
            print(f"  {m.model}: {count} without a text: {reason}")
    spent = ", ".join(f"{currency} {cost:.4f}" for currency, cost in found.spent.items()) or "nothing that is known"
    unused = "" if found.unused is None else f"; {found.unused} completions that the last runs did not use"
    print(f"{found.path}: {found.bytes / 1e6:.1f} MB; paid: {spent}{unused}")
