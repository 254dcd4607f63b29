"""Prompt texts, one Markdown file each, in a folder for each language; jinja2 fills them in.

Users may bring their own: a file of the same name in a folder of theirs, `ko/persona_agent.md`, goes before
the shipped one. `check_prompts` says in time what could not be filled in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lingo_hitl.errors import UserError, nearest
from lingo_hitl.stages import file_sha256

if TYPE_CHECKING:
    from jinja2 import Environment, Template
    from jinja2.nodes import Node

PACKAGES = ("lingo_hitl.generation.prompts", "lingo_hitl.judging.prompts")
"""Where shipped prompts are; one folder of a user's may hold some of each."""
PROMPTS = __name__
"""The package of the prompts that generation ships."""
_MARK = re.compile(r"<[A-Z]{2,}>")  # what distilabel fills in


def render(package: str, language: str, name: str, *, folder: str | None = None, **values: Any) -> str:
    """The prompt `<language>/<name>.md` of `folder`, else of `package`, with `values` filled in.

    Raises:
        UserError: a prompt of the user's own that does with the values what cannot be done with them.
        jinja2.UndefinedError: a shipped one that names a value that was not given.
    """
    own = _own(folder, language, name)
    template = _template(package, own, f"{language}/{name}")
    try:
        return template.render(**values).strip()
    except Exception as error:  # whatever an expression of the user's comes to: a filter may raise anything
        if own is None:
            raise
        words = " ".join(str(error).split())
        raise UserError(f"{own}: cannot be filled in ({words}). Check what it does with its placeholders.") from error


def check_prompts(folder: str, package: str, *, key: str) -> None:
    """Refuse prompts of a user's own that could not take the place of those of `package`.

    A prompt must have every placeholder that the shipped one fills in whatever the row; those that it fills in
    under a condition may be left out, and others there are not.

    Args:
        key: where in the config the folder is named, in words for the error.

    Raises:
        UserError: no such folder, no prompts in it, a name that no shipped prompt has, no template, a
            placeholder that is missing or not known.
    """
    place = Path(folder)
    found = sorted(place.glob("**/*.md")) if place.is_dir() else []
    if not found:
        raise UserError(f"{place}: no folder with prompts in it, such as ko/persona_agent.md. Check {key}.")
    mine, known = _names(package), [name for each in PACKAGES for name in _names(each)]
    for file in found:
        name = file.relative_to(place).with_suffix("").as_posix()
        if name not in known:
            raise UserError(f"{file}: there is no such prompt.{nearest(name, known)} Known: {', '.join(known)}.")
        if name in mine:
            _check(file, _shipped(package, name), name)
    _template.cache_clear()  # a run that comes after another in this process reads them anew


def prompt_hashes(folder: str | None) -> dict[str, str]:
    """SHA-256 of each prompt in a user's folder, by its name there; none where there is no folder."""
    files = sorted(Path(folder).glob("**/*.md")) if folder else []
    return {f"prompt {file.relative_to(str(folder)).as_posix()}": file_sha256(file) for file in files}


def _check(file: Path, shipped: str, name: str) -> None:
    from jinja2 import TemplateSyntaxError
    from jinja2.meta import find_referenced_templates, find_undeclared_variables

    try:
        text = file.read_text(encoding="utf-8-sig")
        tree = _environment().parse(text)
        _refuse_unknown(file, tree)
        _environment().compile(text)  # finds what the parser does not, such as a block that is there twice
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError:
        raise UserError(f"{file}: is not UTF-8 text. Save it as UTF-8.") from None
    except TemplateSyntaxError as error:
        raise UserError(f"{file}:{error.lineno}: not a template ({error.message}).") from None
    if any(True for _ in find_referenced_templates(tree)):
        raise UserError(f"{file}: a prompt stands alone: include, import and extends find nothing. Write it out.")
    of_jinja = set(_environment().globals)
    named = find_undeclared_variables(tree) - of_jinja
    known = find_undeclared_variables(_environment().parse(shipped)) - of_jinja
    if strange := sorted(named - known):
        fills = f"{{{{ {strange[0]} }}}}"
        raise UserError(
            f"{file}: placeholder {fills} is not known.{nearest(strange[0], known)} "
            f"The shipped {name}.md has {', '.join(sorted(known)) or 'none'}."
        )
    needed = set(_always(_environment().parse(shipped))) & known
    missing = [f"{{{{ {value} }}}}" for value in sorted(needed - named)]
    missing += sorted(set(_MARK.findall(shipped)) - set(_MARK.findall(text)))
    if missing:
        raise UserError(f"{file}: placeholder {', '.join(missing)} is missing. Put it where the text belongs.")


def _refuse_unknown(file: Path, tree: Node) -> None:
    """Refuse filters and tests that Jinja does not have; inside an `if` it would only miss them when it gets there."""
    from jinja2 import nodes

    for node in tree.find_all((nodes.Filter, nodes.Test)):
        kind, known = (
            ("filter", _environment().filters) if isinstance(node, nodes.Filter) else ("test", _environment().tests)
        )
        if node.name not in known:
            raise UserError(f"{file}:{node.lineno}: Jinja has no {kind} '{node.name}'.{nearest(node.name, known)}")


def _always(node: Node) -> Iterator[str]:
    """The names that a template fills in whatever their values are."""
    from jinja2 import nodes

    for child in node.iter_child_nodes():
        if isinstance(child, nodes.For):
            yield from (name.name for name in child.iter.find_all(nodes.Name))
            if isinstance(child.iter, nodes.Name):
                yield child.iter.name
        elif isinstance(child, nodes.Name) and child.ctx == "load":
            yield child.name
        elif not isinstance(child, nodes.If | nodes.CondExpr):
            yield from _always(child)


def _names(package: str) -> list[str]:
    """The shipped prompts as `<language>/<name>`."""
    root = Path(str(files(package)))
    return sorted(path.relative_to(root).with_suffix("").as_posix() for path in root.glob("*/**/*.md"))


def _shipped(package: str, name: str) -> str:
    return Path(str(files(package)), f"{name}.md").read_text(encoding="utf-8-sig")


def _own(folder: str | None, language: str, name: str) -> Path | None:
    """The user's own prompt, where there is one."""
    path = Path(folder) / language / f"{name}.md" if folder else None
    return path if path and path.is_file() else None


@cache
def _template(package: str, own: Path | None, name: str) -> Template:
    return _environment().from_string(_shipped(package, name) if own is None else own.read_text(encoding="utf-8-sig"))


@cache
def _environment() -> Environment:
    from jinja2 import Environment, StrictUndefined

    # The prompts are plain text for a model, never HTML: nothing is escaped.
    return Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)
