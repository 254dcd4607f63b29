"""The characters that answer in dialogues: who they are and how they speak."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from lingo_hitl.config import Language
from lingo_hitl.errors import UserError, nearest
from lingo_hitl.sample import PERSONAS


class Phrase(BaseModel):
    """Something that a persona likes to say. Without `en` it is never said in an English dialogue."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ko: str = Field(min_length=1)
    en: str | None = Field(None, min_length=1)

    def text(self, language: Language) -> str | None:
        return self.ko if language == "ko" else self.en


class Catchphrase(Phrase):
    """A phrase of the persona's own, and how often it may come up in one dialogue; 0: it is never asked for."""

    welcome: int = Field(ge=0)


def _phrase(value: Any) -> Any:
    return {"ko": value} if isinstance(value, str) else value


Phrases = tuple[Annotated[Phrase, BeforeValidator(_phrase)], ...]


class Persona(BaseModel):
    """One entry of a personas file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[\w-]+$")
    title_ko: str = Field(min_length=1)
    title_en: str = Field(min_length=1)
    role_ko: str = Field(min_length=1)
    role_en: str = Field(min_length=1)
    speech_level: str = Field(min_length=1)  # 해요체, 합쇼체, 반말, ...
    answer_prefixes: Phrases = ()
    answer_suffixes: Phrases = ()
    catchphrases: tuple[Catchphrase, ...] = ()

    def title(self, language: Language) -> str:
        return self.title_ko if language == "ko" else self.title_en

    def role(self, language: Language) -> str:
        return self.role_ko if language == "ko" else self.role_en

    def prefixes(self, language: Language) -> list[str]:
        """What may open a first answer."""
        return [text for phrase in self.answer_prefixes if (text := phrase.text(language))]

    def suffixes(self, language: Language) -> list[str]:
        """What may close a later answer."""
        return [text for phrase in self.answer_suffixes if (text := phrase.text(language))]

    def welcome(self, language: Language, turns: int) -> dict[str, int]:
        """Every phrase of the persona's, and how often it may come up in a dialogue of so many turns.

        A prefix once. A suffix as often as `phrases.phrase_for` asks for it: once while each later answer can have
        one of its own, and more often where they must come round.
        """
        prefixes, suffixes = self.prefixes(language), self.suffixes(language)
        rounds = max(1, -(-(turns - 1) // len(suffixes))) if suffixes else 0
        asked = Counter(dict.fromkeys(prefixes, 1)) | Counter(dict.fromkeys(suffixes, rounds))
        own = {text: phrase.welcome for phrase in self.catchphrases if (text := phrase.text(language))}
        return {text: max(asked[text], own.get(text, 0)) for text in [*asked, *own]}


def load_personas(path: str, *, key: str = "dialogue.personas in the config") -> dict[str, Persona]:
    """The personas of a YAML file (a mapping with a list `personas`), by name; "sample": the shipped ones.

    Args:
        key: where the file was named, in words for the error.

    Raises:
        UserError: no such file, not YAML, no personas in it, a wrong entry, a name used twice.
    """
    file = PERSONAS if path == "sample" else Path(path)
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}). Check {key}.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: is not UTF-8 text (byte {error.start}). Save it as UTF-8.") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f":{mark.line + 1}" if mark else ""
        raise UserError(f"{file}{place}: not valid YAML ({getattr(error, 'problem', None) or error}).") from error
    entries = content.get("personas") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{file}: expected a mapping with a list `personas` of at least one persona.")
    personas: dict[str, Persona] = {}
    for number, entry in enumerate(entries, start=1):
        persona = _persona(entry, f"{file}: persona {number}")
        if persona.name in personas:
            raise UserError(f"{file}: persona {number}: the name '{persona.name}' is used twice.")
        personas[persona.name] = persona
    return personas


def choose(
    personas: Mapping[str, Persona],
    names: Sequence[str] | None,
    *,
    path: str,
    key: str = "dialogue.persona in the config",
) -> list[Persona]:
    """The personas called `names`, in that order; all of them where `names` is None.

    Args:
        path: of their file, as `load_personas` takes it.
        key: where the names were given, in words for the error.

    Raises:
        UserError: a name that is not defined.
    """
    for name in names or ():
        if name not in personas:
            where = "personas.yaml" if path == "sample" else Path(path).name
            raise UserError(
                f"persona '{name}' is not defined; personas in {where}: {', '.join(personas)}."
                f"{nearest(name, personas)} Check {key}."
            )
    return [personas[name] for name in names] if names else list(personas.values())


def _persona(entry: object, place: str) -> Persona:
    try:
        return Persona.model_validate(entry)
    except ValidationError as error:
        # A misspelt key is also a missing one; its own name helps more.
        fault = min(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
        key = ".".join(map(str, fault["loc"]))
        name = f" ('{entry['name']}')" if isinstance(entry, dict) and "name" in entry else ""
        if fault["type"] == "extra_forbidden":
            known = Persona.model_fields if len(fault["loc"]) == 1 else _phrase_keys(str(fault["loc"][0]))
            raise UserError(f"{place}{name}: unknown key '{key}'.{nearest(str(fault['loc'][-1]), known)}") from error
        if fault["type"] == "missing":
            raise UserError(f"{place}{name}: key '{key}' is missing.") from error
        raise UserError(f"{place}{name}: '{key}': {fault['msg']}.") from error


def _phrase_keys(key: str) -> list[str]:
    return list(Catchphrase.model_fields if key == "catchphrases" else Phrase.model_fields)
