"""One YAML file describes one project. Unknown keys are errors, relative paths start at the file.

Every model below is one section of that file; `lingo-hitl init` writes a commented example.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from dotenv import load_dotenv
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from lingo_hitl.errors import UserError, nearest

Language = Literal["ko", "en"]
Aspect = Literal[
    "overall-rating",
    "helpfulness",
    "relevance",
    "depth",
    "creativity",
    "honesty",
    "truthfulness",
    "instruction-following",
]


FILE_ENDINGS = {".jsonl", ".json", ".csv", ".tsv", ".parquet", ".gz", ".txt", ".yaml", ".yml"}
"""A path with one of these is a file even where it does not exist; without, it may be a hub id such as a/b-v1.1."""


def _variable_name(value: str) -> str:
    if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", value):
        raise ValueError("expected the name of an environment variable, such as GEMINI_API_KEY, and never a key itself")
    return value


def _url(value: str) -> str:
    if "@" in value.partition("://")[2].partition("/")[0]:
        raise ValueError("holds a name or a password; expected a URL without, and the key in the environment")
    return value.rstrip("/")


VariableName = Annotated[str, AfterValidator(_variable_name)]
Url = Annotated[str, AfterValidator(_url)]
SECRETIVE = ("api_key_env", "url", "base_url")
"""Keys whose value is never repeated in an error: somebody may have put a secret there."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


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
    batch_size: int = Field(8, ge=1)  # local models: texts generated side by side
    device: str | None = None  # local models: "cpu", "cuda", ...; chosen where absent
    seed: int = 0

    @property
    def label(self) -> str:
        """How the model is called in records: never with this machine's folders in it."""
        model = self.model.split("/", 1)[-1]
        return self.name or (Path(model).name if model.startswith("/") else model)


def _spec(value: Any) -> Any:
    if isinstance(value, str):
        return {"model": value}
    if isinstance(value, dict) and isinstance(value.get("api_key_env"), str):
        return {**value, "api_key_env": [value["api_key_env"]]}
    return value


LLM = Annotated[LLMSpec, BeforeValidator(_spec)]


class Corpus(Section):
    """Where seed rows come from: a file, a folder of `datasets`, a hub id, or `sample:ko` / `sample:en`."""

    path: str
    columns: dict[Literal["instruction", "output", "id", "language"], str] = {}
    source: str | None = None
    language: Language | Literal["auto"] = "auto"
    split: str = "train"  # hub or datasets folder only
    limit: int | None = Field(None, ge=1)
    licence: str | None = None  # goes onto the dataset card


class Seeds(Section):
    """Which corpus rows a task starts from: all sources and rows unless told otherwise."""

    sources: list[str] | None = None
    count: int | None = Field(None, ge=0)


class DialogueConfig(Seeds):
    """Two agents talk: one plays the user, one the persona."""

    user: LLM
    assistant: LLM
    personas: str = "sample"  # a personas.yaml, or the shipped ones
    persona: list[str] | None = None  # names to take turns; all where absent
    target_turns: int = Field(3, ge=1, le=50)  # one turn: a question and its answer


class Evolve(Section):
    """EvolQuality: rewrite a completion to be better, keeping the original beside it."""

    llm: LLM
    times: int = Field(1, ge=1, le=3)


class PreferenceConfig(Seeds):
    """Several completions of one prompt, from a pool of models."""

    pool: list[LLM] = Field(min_length=1, max_length=4)
    evolve: Evolve | None = None
    include_reference: bool = False  # the corpus's own output joins the completions


class InstructionConfig(Seeds):
    """Instructions and outputs of the corpus as they are, for people to validate."""


class GenerateConfig(Section):
    dialogue: DialogueConfig | None = None
    preference: PreferenceConfig | None = None
    instruction: InstructionConfig | None = None

    @model_validator(mode="after")
    def _something(self) -> GenerateConfig:
        if not (self.dialogue or self.preference or self.instruction):
            raise ValueError("name at least one task: dialogue, preference or instruction")
        return self


class JudgeConfig(Section):
    """Who rates the texts before people do. Without judges, records carry no suggestions."""

    judges: list[LLM] = []
    aspects: list[Aspect] = ["overall-rating"]
    method: Literal["auto", "text", "probabilities"] = "auto"
    # auto: probabilities of the rating tokens for local models, a written reply for the rest


class MapConfig(Section):
    encoder: str = "packaged/kiwi"  # or transformers/<any sentence-transformers model>
    perplexity: str | None = "packaged/kiwi"  # or transformers/<any causal LM>
    neighbours: int = Field(15, ge=2)
    min_cluster_size: int = Field(8, ge=2)
    seed: int = 42
    device: str | None = None


class ArgillaConfig(Section):
    """Which Argilla. Without `url` it is the one of `lingo-hitl up` on this machine."""

    url: Url | None = None
    api_key_env: VariableName = "ARGILLA_API_KEY"
    workspace: str = "lingo"


class PushConfig(Section):
    overlap: int = Field(1, ge=1, le=10)  # people who must answer a record before it leaves the queue


class KoQualityConfig(Section):
    length_groups: int = Field(5, ge=1)
    clusters: int = Field(10, ge=1)
    ratio: float = Field(1.0, gt=0, le=1)
    sampling: Literal["ppl", "ppl_h", "rand"] = "ppl"
    seed: int = 42


class CurateConfig(Section):
    min_answers: int = Field(1, ge=1)
    max_discards: int = Field(0, ge=0)  # people who may have discarded a row that still goes on
    min_rating: float = Field(1.0, ge=1, le=5)  # instruction and dialogue: mean human rating
    max_spread: float | None = Field(None, ge=0)  # drop rows on which people differ by more
    koquality: KoQualityConfig | None = KoQualityConfig()


class ReleaseConfig(Section):
    name: str | None = None  # the project's name where absent
    version: str = Field("0.1.0", pattern=r"^\d+\.\d+\.\d+$")
    licence: str = "cc-by-4.0"
    margin: float = Field(0.5, gt=0)  # smallest difference of human ratings between chosen and rejected
    test_fraction: float = Field(0.1, ge=0, lt=1)
    seed: int = 42


class Project(Section):
    """A whole project: `project`, `corpus` and `generate` must be given, the rest has defaults."""

    project: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")
    workdir: Path  # work/<project> where absent
    corpus: list[Corpus] = Field(min_length=1)
    generate: GenerateConfig
    judge: JudgeConfig = JudgeConfig()
    map: MapConfig = MapConfig()
    argilla: ArgillaConfig = ArgillaConfig()
    push: PushConfig = PushConfig()
    curate: CurateConfig = CurateConfig()
    release: ReleaseConfig = ReleaseConfig()

    @model_validator(mode="before")
    @classmethod
    def _own_workdir(cls, content: Any) -> Any:
        """Projects beside each other must not share a workdir by default: they would take each other's rows."""
        if isinstance(content, dict) and isinstance(content.get("project"), str):
            return {"workdir": Path("work", content["project"]), **content}
        return content


def load_project(path: Path, *, workdir: Path | None = None) -> Project:
    """Read a project's YAML. Relative paths in it are taken from the file's folder; `.env` beside it is loaded.

    Raises:
        UserError: no such file, not YAML, an unknown key, a value that does not fit; with its place.
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
    folder = path.resolve().parent
    try:
        load_dotenv(folder / ".env")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{folder / '.env'}: cannot be read as UTF-8 text. Correct it, or move it away.") from error
    try:
        project = Project.model_validate(_with_local_models(content, folder))
    except ValidationError as error:
        raise UserError(f"{path}: {_explain(error)}") from error
    except RecursionError as error:
        raise UserError(f"{path}: refers to itself (an alias inside its own anchor). Write it out.") from error
    return project.model_copy(
        update={
            "workdir": (expanded(workdir) if workdir else folder / expanded(project.workdir)).resolve(),
            "corpus": [c.model_copy(update={"path": _beside(folder, c.path)}) for c in project.corpus],
            "generate": _with_personas(project.generate, folder),
        }
    )


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


def _with_personas(generate: GenerateConfig, folder: Path) -> GenerateConfig:
    if generate.dialogue is None or generate.dialogue.personas == "sample":
        return generate
    personas = _beside(folder, generate.dialogue.personas)
    return generate.model_copy(update={"dialogue": generate.dialogue.model_copy(update={"personas": personas})})


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


def _explain(error: ValidationError) -> str:
    """The first fault of a config in one line, with its dotted place and, for a misspelt key, the nearest one."""
    faults = error.errors()
    # A misspelt key is often also a missing one: the misspelling is what the user can see.
    fault = next((f for f in faults if f["type"] == "extra_forbidden"), faults[0])
    place = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        known = _keys_at(fault["loc"][:-1])
        return f"unknown key '{place}'.{nearest(str(fault['loc'][-1]), known)} Known here: {', '.join(known)}."
    if fault["type"] == "missing":
        return f"key '{place}' is missing. `lingo-hitl init` writes an example that has it."
    message = fault["msg"].removeprefix("Value error, ")
    if any(part in SECRETIVE for part in fault["loc"]):
        return f"'{place}': {message[0].lower()}{message[1:]}."
    return f"'{place}': {message[0].lower()}{message[1:]} (found {_short(fault['input'])})."


def _keys_at(place: tuple[int | str, ...]) -> list[str]:
    model: Any = Project
    for part in place:
        if isinstance(part, int):
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


def checked_version(version: str) -> str:
    """The version of a release, if it is one.

    Raises:
        UserError: it is not of the form 1.2.0.
    """
    try:
        return ReleaseConfig(version=version).version
    except ValidationError:
        raise UserError(f"version '{version}' is not of the form 1.2.0.") from None
