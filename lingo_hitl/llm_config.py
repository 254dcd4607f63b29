"""How language models are named in a config, what their keys may be used for, and what they may cost."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field


def _variable_name(value: str) -> str:
    if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", value):
        raise ValueError("expected the name of an environment variable, such as GEMINI_API_KEY, and never a key itself")
    return value


def checked_url(value: str) -> str:
    """A server's URL without a slash at its end.

    Raises:
        ValueError: it holds a name or a password.
    """
    if "@" in value.rpartition("://")[2].partition("/")[0]:
        raise ValueError("holds a name or a password; expected a URL without, and the key in the environment")
    return value.rstrip("/")


VariableName = Annotated[str, AfterValidator(_variable_name)]
Url = Annotated[str, AfterValidator(checked_url)]


DEFAULT_KEYS = {"gemini": "GEMINI_API_KEY", "openai": "OPENAI_API_KEY"}
"""The variable of a provider's key, where a model names none."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Quota(Section):
    """What one API key may be used for, for each model; no limit where absent."""

    requests_per_minute: float | None = Field(None, gt=0)
    tokens_per_minute: int | None = Field(None, ge=1)  # of the prompts
    requests_per_day: int | None = Field(None, ge=1)  # in any 24 hours


class BudgetConfig(Section):
    """What the project may pay for completions in all its runs together, and at which prices; see `models.budget`."""

    max_cost: float | None = Field(None, gt=0)  # in the currency of the prices
    prices: str | None = None  # a file beside the config; what it lacks is looked up in the shipped one


class LLMSpec(Section):
    """A language model and how it samples. In YAML either this mapping or just the model's name.

    `model` is `packaged/smollm2-135m`, `transformers/<path or hub id>`, `gemini/<model>`
    or `openai/<model>` (any OpenAI-compatible server, with `base_url`).
    """

    model: str
    name: str | None = None  # how it is called in records; the model's name where absent
    system_prompt: str | None = None
    temperature: float = Field(0.7, ge=0, le=2)
    top_p: float = Field(0.95, gt=0, le=1)
    top_k: int | None = Field(None, ge=1)
    max_new_tokens: int = Field(256, ge=1)
    base_url: Url | None = None
    api_key_env: list[VariableName] | None = None  # names of environment variables, never a key itself
    # Requests under way at once with each key; where absent 16 without a key, 4 with one without a quota a minute,
    # and 64 to 512 with one. Of several specs for the same model and key the first says it.
    in_flight: int | None = Field(None, ge=1)
    batch_size: int = Field(8, ge=1)  # local models: texts generated side by side
    device: str | None = None  # local models: "cpu", "cuda", ...; chosen where absent
    seed: int = 0

    @property
    def label(self) -> str:
        """How the model is called in records: never with this machine's folders in it."""
        model = self.model.split("/", 1)[-1]
        return self.name or (Path(model).name if model.startswith("/") else model)

    @property
    def runs_here(self) -> bool:
        """Whether it is computed by the process that asks it."""
        return self.model.startswith(("packaged/", "transformers/"))

    @property
    def portable(self) -> str:
        """The model's name in the config, without this machine's folders."""
        provider, _, model = self.model.partition("/")
        return f"{provider}/{Path(model).name}" if model.startswith("/") else self.model


def _spec(value: Any) -> Any:
    if isinstance(value, str):
        return {"model": value}
    if isinstance(value, dict) and isinstance(value.get("api_key_env"), str):
        return {**value, "api_key_env": [value["api_key_env"]]}
    return value


LLM = Annotated[LLMSpec, BeforeValidator(_spec)]
