"""The YAML of Lingo_Chat's generate_with_gemini, and the project that it describes.

Section and key names are Lingo_Chat's. Relative paths in it start at the current folder, as they do there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from lingo_hitl.config import Corpus, DialogueConfig, GenerateConfig, JudgeConfig, Project
from lingo_hitl.env_file import load_env
from lingo_hitl.errors import UserError, nearest
from lingo_hitl.generation.personas import load_personas
from lingo_hitl.llm_config import LLMSpec
from lingo_hitl.project_file import expanded, explain

ITS_OWN = "multiturn_generation"
"""The section by which its YAML is known."""
LONGEST_REPLY = 8192  # tokens, as Lingo_Chat asks for
_UNSET = ("", "None")  # Lingo_Chat takes the word None in .env for no key
_PET_NAME = re.compile(r"gemini-?(pro|flash|ultra)-?(\d+\.\d+)", re.I)


def _key_name(name: str) -> str:
    # Gemini's keys have 39 characters: a name that could be one must not come into an error or a log.
    if not re.fullmatch(r"[A-Za-z_]\w{0,29}", name, re.ASCII):
        raise ValueError("expected short names, such as LE for the variable LE_GEMINI_API_KEY, and never a key itself")
    return name


_UNREAD = Field(None, exclude=True)
"""Of a key that nothing reads: whatever stands there stops no run, and is kept nowhere."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=())

    def used(self) -> dict[str, Any]:
        """What the run depends on, as plain values. Other keys are left out: their values may be anybody's secrets."""
        kept = {name: getattr(self, name) for name, field in type(self).model_fields.items() if not field.exclude}
        return {name: value.used() if isinstance(value, _Part) else value for name, value in kept.items()}


class MultiturnGeneration(_Part):
    """Who talks, and for how long; the last two are ours: characters and prompts of one's own."""

    key_list: list[Annotated[str, AfterValidator(_key_name)]] = Field(min_length=1)
    model_name: str = Field(min_length=1)
    persona_name: str
    use_answer_prefix: bool = False
    target_turn: int = Field(ge=1, le=50)
    personas: str = "sample"
    prompts: str | None = None


class JsonFiles(_Part):
    """Where seeds come from, the first one that is used (from 0), and the folders that dialogues go to."""

    inspiring_json_dir: str
    start_idx: int = Field(0, ge=0)
    jsonl_save_dir: str
    filtered_save_dir: str


class Scoring(_Part):
    """How dialogues are scored, 1 to 5, and the lowest score that goes into the filtered file."""

    scoring_prompt: Literal["CORRECTNESS_MULTITURN_SCORING_PROMPT"]
    score_threshold: float = Field(ge=0, le=5)
    score: Any = _UNREAD  # a place for results in Lingo_Chat


class LingoChat(_Part):
    """The whole YAML. `model_inference` is for Lingo_Chat's vLLM side, which has no part in this command."""

    multiturn_generation: MultiturnGeneration
    files: JsonFiles = Field(alias="json")  # `json` is a method of every pydantic model
    scoring: Scoring
    model_inference: Any = _UNREAD

    @property
    def key_variables(self) -> list[str]:
        """The environment variables that hold the keys."""
        return [f"{name}_GEMINI_API_KEY" for name in dict.fromkeys(self.multiturn_generation.key_list)]

    def not_used(self) -> list[str]:
        """What stands in the YAML and changes nothing, each with the key that may have been meant."""
        parts: dict[str, _Part] = {"": self, ITS_OWN: self.multiturn_generation, "json": self.files}
        found = [
            f"{f'{place}.' if place else ''}{key}{nearest(key, _keys(type(part)))}"
            for place, part in {**parts, "scoring": self.scoring}.items()
            for key in part.model_extra or {}
        ]
        return [*(["model_inference (Lingo_Chat's vLLM side)"] if self.model_inference else []), *found]


def is_lingo_chat(content: Mapping[str, Any]) -> bool:
    """Whether a YAML's content is Lingo_Chat's rather than one of our projects."""
    return ITS_OWN in content and "project" not in content


def read_settings(content: Mapping[str, Any], path: Path, *, keys: bool = True) -> LingoChat:
    """Lingo_Chat's YAML, checked, and unless `keys` is False with the keys that it names in the environment.

    Raises:
        UserError: a key that is missing or does not fit, an unknown scoring prompt, an API key that is not there.
    """
    try:
        settings = LingoChat.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{path}: {explain(error, LingoChat)}") from None
    load_env(path)
    missing = [name for name in settings.key_variables if keys and os.environ.get(name, "").strip() in _UNSET]
    if missing:
        raise UserError(
            f"{path}: multiturn_generation.key_list needs {', '.join(missing)}: not set. "
            f"Write {'it' if len(missing) == 1 else 'each'} into .env, or take its name out of key_list."
        )
    return settings


def as_project(settings: LingoChat, path: Path, *, workdir: Path | None = None) -> Project:
    """The project that Lingo_Chat's YAML at `path` describes: its stages go to `work/<the YAML's name>`.

    Temperatures, top_p and top_k are those of Lingo_Chat.

    Raises:
        UserError: the persona is not defined, the seeds are not there.
    """
    talk, files = settings.multiturn_generation, settings.files
    personas = talk.personas if talk.personas == "sample" else str(_here(talk.personas))
    known = load_personas(personas)
    if talk.persona_name not in known:
        raise UserError(
            f"{path}: persona '{talk.persona_name}' is not defined; known: {', '.join(known)}."
            f"{nearest(talk.persona_name, known)} Check multiturn_generation.persona_name."
        )
    seeds = _here(files.inspiring_json_dir)
    if not seeds.is_file():
        raise UserError(f"{path}: {seeds} is no file. Check json.inspiring_json_dir; it starts at the current folder.")
    model = {
        "model": f"gemini/{model_name(talk.model_name)}",
        "api_key_env": settings.key_variables,
        "max_new_tokens": LONGEST_REPLY,
    }
    drawn = {"top_p": 0.99, "top_k": 60}
    name = re.sub(r"[^a-z0-9_-]+", "-", path.stem.lower()).strip("-_")[:64] or "lingo-chat"
    prompts = str(_here(talk.prompts)) if talk.prompts else None
    return Project(
        project=name,
        workdir=(expanded(workdir) if workdir else _here("work") / name).resolve(),
        corpus=[Corpus(path=str(seeds), start=files.start_idx)],
        generate=GenerateConfig(
            dialogue=DialogueConfig(
                user=LLMSpec(**model, **drawn, temperature=0.5),
                assistant=LLMSpec(**model, **drawn, temperature=0.15),
                personas=personas,
                prompts=prompts,
                persona=[talk.persona_name],
                use_answer_prefix=talk.use_answer_prefix,
                target_turns=talk.target_turn,
            )
        ),
        # Lingo_Chat scores with the model that writes: it is said, and does not stop the run.
        judge=JudgeConfig(judges=[LLMSpec(**model, temperature=0.0)], same_family="allowed", prompts=prompts),
    )


def model_name(name: str) -> str:
    """Google's name for what Lingo_Chat calls geminipro1.0 (gemini-1.0-pro) and the like; others as they are."""
    pet_name = _PET_NAME.fullmatch(name.strip())
    return f"gemini-{pet_name[2]}-{pet_name[1].lower()}" if pet_name else name.strip().removeprefix("gemini/")


def _here(path: str) -> Path:
    return Path.cwd() / expanded(Path(path))


def _keys(part: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in part.model_fields.items()]
