"""Prompt texts, one Markdown file each, in a folder for each language; jinja2 fills them in."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Template


def render(package: str, language: str, name: str, **values: Any) -> str:
    """The prompt `<language>/<name>.md` of `package` with `values` filled in.

    Raises:
        jinja2.UndefinedError: the prompt names a value that was not given.
    """
    return _template(package, language, name).render(**values).strip()


@cache
def _template(package: str, language: str, name: str) -> Template:
    from jinja2 import Environment, StrictUndefined

    text = (files(package) / language / f"{name}.md").read_text(encoding="utf-8")
    # The prompts are plain text for a model, never HTML: nothing is escaped.
    return Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False).from_string(
        text
    )
