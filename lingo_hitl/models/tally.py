"""What a run asked of each model with each key: counted while it goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from lingo_hitl.models.completion import Completion

NO_KEY = ""
"""Stands for the key of models that need none."""


@dataclass
class Usage:
    """What one model did with one key; tokens and cost are those of `calls`, not of replays."""

    calls: int = 0  # completions that were asked for and came
    replayed: int = 0  # completions that the journal had
    retries: int = 0  # tries that met an error, and were followed by another
    limited: int = 0  # refusals for being over a limit
    blocked: int = 0  # completions without a text, for a reason that the provider gave
    failed: int = 0  # given up for now: the next run asks again
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0  # of the calls whose price is known

    def came(self, completion: Completion) -> None:
        """Count a completion that was asked for."""
        self.calls += 1
        self.blocked += completion.text is None
        self.input_tokens += completion.input_tokens
        self.output_tokens += completion.output_tokens
        self.cost += completion.cost or 0.0


class Tally:
    """Counts by model and key; for one event loop."""

    def __init__(self) -> None:
        self._by: dict[tuple[str, str], Usage] = {}
        self._refused: dict[str, str] = {}

    def of(self, model: str, variable: str = NO_KEY) -> Usage:
        """The counts of a model and a key, to be counted up."""
        return self._by.setdefault((model, variable), Usage())

    def refuse(self, model: str, variable: str, why: str) -> None:
        """Note that a model's provider does not take a key; `why` holds no secret."""
        self._refused.setdefault(variable, f"{model}: {why}")

    def add(self, other: Tally) -> None:
        """Count in what another process has counted."""
        self._refused = {**other._refused, **self._refused}
        for name, usage in other._by.items():
            ours = self.of(*name)
            for f in fields(Usage):
                setattr(ours, f.name, getattr(ours, f.name) + getattr(usage, f.name))

    @property
    def failed(self) -> int:
        """Calls that were given up, which another run may not meet."""
        return sum(usage.failed for usage in self._by.values())

    def models(self) -> dict[str, dict[str, float]]:
        """Counts by model, those that are not 0."""
        return {model: _counted([u for (m, _), u in self._by.items() if m == model]) for model, _ in self._by}

    def keys(self) -> dict[str, dict[str, float | str]]:
        """Counts by the environment variable of each key, those that are not 0, and why it was `refused` if it was."""
        variables = [variable for _, variable in self._by if variable != NO_KEY]
        counts = {name: _counted([u for (_, v), u in self._by.items() if v == name]) for name in variables}
        refused = {name: {"refused": why} for name, why in self._refused.items()}
        return {name: {**count, **refused.get(name, {})} for name, count in counts.items()}


def _counted(usages: list[Usage]) -> dict[str, float]:
    sums: Mapping[str, float] = {f.name: sum(asdict(u)[f.name] for u in usages) for f in fields(Usage)}
    return {name: value for name, value in sums.items() if value}
