"""Tables of what models were asked, and of what they will be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table

if TYPE_CHECKING:
    from lingo_hitl.models.estimate import Estimate

WIDE = 160
"""Columns where the output is no terminal: a log wraps nothing."""
_COUNTS = {
    "calls": "calls",
    "replayed": "replayed",
    "input_tokens": "input tokens",
    "output_tokens": "output tokens",
    "cost": "cost",
    "retries": "retries",
    "limited": "limited",
    "blocked": "blocked",
    "failed": "failed",
}


def print_usage(report: Mapping[str, Any], *, indent: int = 0) -> None:
    """What a stage asked by model and by key, where it asked over a network; columns that are all 0 are left out."""
    keys: Mapping[str, Mapping[str, Any]] = report.get("keys") or {}
    if not keys:
        return
    models: Mapping[str, Mapping[str, float]] = report.get("models") or {}
    names = [name for name in _COUNTS if any(counts.get(name) for counts in [*models.values(), *keys.values()])]
    currency = report.get("currency", "")
    table = columns("", *(f"{currency} {_COUNTS[name]}".strip() if name == "cost" else _COUNTS[name] for name in names))
    used = {f"key {variable}": counts for variable, counts in keys.items() if set(counts) - {"refused"}}
    for title, counts in [*models.items(), *used.items()]:
        table.add_row(title, *(_shown(name, counts.get(name, 0)) for name in names))
    wide(Padding(table, (0, 0, 0, indent), expand=False))


def print_estimate(stage: str, estimate: Estimate) -> None:
    """What a stage will ask, and what that rests on."""
    if not estimate.models:
        print(f"{stage}: no model is asked over a network, nothing is paid.")
        return
    if not any(one.calls for one in estimate.models):
        print(f"{stage}: nothing is left to ask: the journal has what all {estimate.rows:,} rows need.")
        return
    print(f"{stage}: about {estimate.rows_left:,.0f} of {estimate.rows:,} rows ask for what the journal does not have")
    currency = estimate.currency
    table = columns("", "calls", "input tokens", "output tokens", f"{currency} cost", "time", "bound by")
    for one in sorted(estimate.models, key=lambda one: -one.calls):
        counts = (f"{math.ceil(n):,}" for n in (one.calls, one.input_tokens, one.output_tokens))
        cost = "?" if one.cost is None else f"{one.cost:,.4f}"
        table.add_row(one.model, *counts, cost, _time(one.minutes), one.bound_by)
    whole = [sum(getattr(one, name) for one in estimate.models) for name in ("calls", "input_tokens", "output_tokens")]
    if len(estimate.models) > 1:
        sums = (f"{math.ceil(n):,}" for n in whole)
        table.add_row("together", *sums, f"{estimate.cost:,.4f}", _time(estimate.minutes), "")
    wide(table)
    for line in _notes(estimate):
        print(line)


def _notes(estimate: Estimate) -> list[str]:
    lines = []
    if estimate.measured:
        lines.append(f"Taken from {estimate.measured} rows whose replies are in the journal.")
    else:
        assumed = [one.model for one in estimate.models if one.lengths == "assumed"]
        how = f"half of max_new_tokens for {', '.join(assumed)}" if assumed else "as long as those in the journal"
        lines.append(f"Taken from made-up replies, {how}. `--sample 5` asks for 5 rows first, and measures.")
    if unknown := [one.model for one in estimate.models if one.cost is None]:
        lines.append(f"No price is known of {', '.join(unknown)}: write it into a file that budget.prices names.")
    if estimate.max_cost is not None:
        after = estimate.spent + estimate.cost
        unpriced = any(one.cost is None for one in estimate.models)
        fits = "enough" if after <= estimate.max_cost else "NOT enough: the run will stop there"
        fits = "a model without a price is refused then" if unpriced else fits
        lines.append(
            f"Spent so far {estimate.currency} {estimate.spent:,.4f}, with this {after:,.4f} "
            f"of budget.max_cost {estimate.max_cost:g}: {fits}."
        )
    return lines


def columns(*titles: str) -> Table:
    """An empty table of names and, to the right, numbers."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for place, column in enumerate(titles):
        table.add_column(column, justify="right" if place > 0 and column != "bound by" else "left", no_wrap=place > 0)
    return table


def _shown(name: str, value: float) -> str:
    if not value:
        return ""
    return f"{value:,.4f}" if name == "cost" else f"{value:,.0f}"


def _time(minutes: float | None) -> str:
    if minutes is None:
        return "?"
    for unit, size in (("days", 1440.0), ("h", 60.0), ("min", 1.0)):
        if minutes >= 1.5 * size or unit == "min":
            return f"{minutes / size:.1f} {unit}" if minutes >= 1 else f"{math.ceil(minutes * 60)} s"
    return ""


def wide(what: Any) -> None:
    """Print a table; where there is no terminal, without wrapping it."""
    console = Console(highlight=False)
    (console if console.is_terminal else Console(width=WIDE, highlight=False)).print(what)
