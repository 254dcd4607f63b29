"""Reading a project's YAML: paths made absolute, `.env` loaded, each mistake told in one line with its place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from lingo_hitl.config import GenerateConfig, Project
from lingo_hitl.env_file import load_env
from lingo_hitl.errors import UserError, nearest
from lingo_hitl.llm_config import BudgetConfig

SectionT = TypeVar("SectionT", bound=BaseModel)

FILE_ENDINGS = {".jsonl", ".json", ".csv", ".tsv", ".parquet", ".gz", ".txt", ".yaml", ".yml"}
"""A path with one of these is a file even where it does not exist; without, it may be a hub id such as a/b-v1.1."""

SECRETIVE = ("api_key_env", "url", "base_url", "key_list")
"""Keys whose value is never repeated in an error: somebody may have put a secret there."""


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        UserError: no such file, not UTF-8, not YAML (with the place), no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}). `lingo-hitl init` writes an example.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 text (byte {error.start}). Save it as UTF-8.") from error
    try:
        content = yaml.safe_load(text)
    except RecursionError as error:
        raise UserError(f"{path}: refers to itself (an alias inside its own anchor). Write it out.") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" line {mark.line + 1}, column {mark.column + 1}:" if mark else ""
        raise UserError(f"{path}:{place} is not valid YAML ({getattr(error, 'problem', None) or error}).") from error
    if not isinstance(content, dict):
        raise UserError(
            f"{path}: expected a mapping with the keys {', '.join(Project.model_fields)}; found {_kind(content)}."
        )
    return content


def load_project(path: Path, *, workdir: Path | None = None) -> Project:
    """Read a project's YAML. Relative paths in it are taken from the file's folder; `.env` beside it and
    the one of the current folder are loaded.

    Raises:
        UserError: no such file, not YAML, an unknown key, a value that does not fit; with its place.
    """
    content = read_yaml(path)
    folder = path.resolve().parent
    load_env(path)
    try:
        project = Project.model_validate(_with_local_models(content, folder))
    except ValidationError as error:
        raise UserError(f"{path}: {explain(error, Project)}") from error
    except RecursionError as error:
        raise UserError(f"{path}: refers to itself (an alias inside its own anchor). Write it out.") from error
    return project.model_copy(
        update={
            "map": project.map.model_copy(
                update={
                    name: str((folder / spec).resolve())
                    for name in ("encoder", "perplexity")
                    if (spec := getattr(project.map, name)) and (folder / spec).is_dir()
                }
            ),
            "workdir": (expanded(workdir) if workdir else folder / expanded(project.workdir)).resolve(),
            "corpus": [c.model_copy(update={"path": _beside(folder, c.path)}) for c in project.corpus],
            "generate": _with_own_files(project.generate, folder),
            "judge": project.judge.model_copy(update={"prompts": _place(folder, project.judge.prompts)}),
            "budget": _with_prices(project.budget, folder),
        }
    )


def checked(section: type[SectionT], values: Mapping[str, Any]) -> SectionT:
    """A section of the config from command-line options.

    Raises:
        UserError: a value that does not fit, by the name of its option.
    """
    try:
        return section.model_validate(values)
    except ValidationError as error:
        fault = error.errors()[0]
        message = fault["msg"].removeprefix("Value error, ")
        if not fault["loc"]:
            raise UserError(f"{message}.") from error
        name = str(fault["loc"][0]).replace("_", "-")
        option = f"--{'language' if name == 'languages' else name}"
        raise UserError(f"{option}: {message[0].lower()}{message[1:]} (found {_short(fault['input'])}).") from error


def _with_local_models(value: Any, folder: Path) -> Any:
    """`transformers/<path>` with the path made absolute wherever it names a folder beside the file."""
    if isinstance(value, dict):
        return {key: _with_local_models(inner, folder) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with_local_models(inner, folder) for inner in value]
    if isinstance(value, str) and value.startswith("transformers/"):
        local = folder / value.removeprefix("transformers/")
        return f"transformers/{local.resolve()}" if local.is_dir() else value
    return value


def _with_prices(budget: BudgetConfig, folder: Path) -> BudgetConfig:
    prices = None if budget.prices is None else str(folder / expanded(Path(budget.prices)))
    return budget.model_copy(update={"prices": prices})


def _with_own_files(generate: GenerateConfig, folder: Path) -> GenerateConfig:
    """The personas and prompts that a dialogue's config names, made absolute."""
    talk = generate.dialogue
    if talk is None:
        return generate
    places = {
        "personas": talk.personas if talk.personas == "sample" else _beside(folder, talk.personas),
        "prompts": _place(folder, talk.prompts),
    }
    return generate.model_copy(update={"dialogue": talk.model_copy(update=places)})


def _place(folder: Path, path: str | None) -> str | None:
    return str(folder / expanded(Path(path))) if path else None


def _beside(folder: Path, path: str) -> str:
    """A path in the YAML, made absolute where it names something on disk; hub ids and `sample:` stay."""
    if path.startswith("sample:"):
        return path
    candidate = folder / expanded(Path(path))
    looks_local = candidate.exists() or candidate.suffix in FILE_ENDINGS or path.startswith((".", "/", "~"))
    return str(candidate) if looks_local else path


def expanded(path: Path) -> Path:
    """`path` with a leading ~ taken for the home folder.

    Raises:
        UserError: there is no such user.
    """
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise UserError(f"{path}: there is no such user on this machine. Write the folder out.") from error


def explain(error: ValidationError, config: type[BaseModel]) -> str:
    """The first fault of a `config` in one line, with its dotted place and, for a misspelt key, the nearest one."""
    faults = error.errors()
    # A misspelt key is often also a missing one: the misspelling is what the user can see.
    fault = next((f for f in faults if f["type"] == "extra_forbidden"), faults[0])
    place = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        known = _keys_at(config, fault["loc"][:-1])
        return f"unknown key '{place}'.{nearest(str(fault['loc'][-1]), known)} Known here: {', '.join(known)}."
    if fault["type"] == "missing":
        example = " `lingo-hitl init` writes an example that has it." if config is Project else ""
        return f"key '{place}' is missing.{example}"
    message = fault["msg"].removeprefix("Value error, ")
    if any(part in SECRETIVE for part in fault["loc"]):
        return f"'{place}': {message[0].lower()}{message[1:]}."
    return f"'{place}': {message[0].lower()}{message[1:]} (found {_short(fault['input'])})."


def _keys_at(config: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    model: Any = config
    for part in place:
        if isinstance(part, int) or (model and part not in model.model_fields):  # of a list, of a mapping by names
            continue
        model = _section_in(model.model_fields[part].annotation) if model else None
    return list(model.model_fields) if model else []


def _section_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _section_in(inner))), None)


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
