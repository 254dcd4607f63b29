"""What a model's tokens cost: a table in a file, the shipped one or the user's own."""

from __future__ import annotations

from datetime import date
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path

import yaml
from pydantic import Field, ValidationError

from lingo_hitl.errors import UserError
from lingo_hitl.llm_config import Section

SHIPPED = Path(__file__).with_name("prices.yaml")
LOCAL = ("packaged/", "transformers/")
"""Models on this machine cost nothing."""
_MILLION = 1_000_000


class Price(Section):
    """Of a million tokens."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)

    def of(self, input_tokens: float, output_tokens: float) -> float:
        return (input_tokens * self.input + output_tokens * self.output) / _MILLION


class Prices(Section):
    """A price table; names of models may hold * and ?."""

    as_of: date
    currency: str = Field(pattern=r"^[A-Z]{3}$")
    models: dict[str, Price]

    def of(self, model: str) -> Price | None:
        """The price of a model: of the names that fit, the longest counts; None where none does."""
        if model.startswith(LOCAL):
            return Price(input=0, output=0)
        fitting = [name for name in self.models if fnmatchcase(model, name)]
        return self.models[max(fitting, key=len)] if fitting else None


def load_prices(path: str | None) -> Prices:
    """The table in the file at `path`, with what it lacks from the shipped one where the currency is the same.

    Raises:
        UserError: no such file, or not a price table.
    """
    shipped = _read(SHIPPED)
    if path is None:
        return shipped
    own = _read(Path(path))
    if own.currency != shipped.currency:
        return own
    # A name of the user's that fits must win over a longer one of ours.
    further = {name: price for name, price in shipped.models.items() if own.of(name.rstrip("*")) is None}
    return own.model_copy(update={"models": {**further, **own.models}})


@lru_cache
def _read(path: Path) -> Prices:
    try:
        return Prices.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}). Check budget.prices in the config.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is not valid YAML ({' '.join(str(error).split())[:120]}).") from error
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(map(str, fault["loc"])) or "the whole file"
        raise UserError(
            f"{path}: '{place}': {fault['msg'].lower()}. Expected as_of (a date), currency (such as USD) and "
            "models, each {input: ..., output: ...} per million tokens."
        ) from error
