"""The figures of dialogues, from their messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lingo_hitl.config import Language
from lingo_hitl.judging.dialogue_quality import catchphrases
from lingo_hitl.judging.dialogue_quality.copying import copying, shrinking
from lingo_hitl.judging.dialogue_quality.speech_level import levels_of
from lingo_hitl.judging.dialogue_quality.tokens import Said, tokenised
from lingo_hitl.records import DIALOGUE_QUALITY, Row

if TYPE_CHECKING:
    from lingo_hitl.generation.personas import Persona


def measure(rows: Sequence[Row], personas: Mapping[str, Persona]) -> list[Row]:
    """The columns `records.DIALOGUE_QUALITY` of each row: nulls where it is no dialogue.

    Many rows at once are faster than one by one, and give the same. A persona that is not in `personas` has no
    phrases and no level of its own.

    Args:
        rows: with `language`, `messages` and `persona`; `task` may be absent where all are dialogues.
    """
    columns: list[Row] = [dict.fromkeys(DIALOGUE_QUALITY.names) for _ in rows]
    for language in ("ko", "en"):
        places = [i for i, row in enumerate(rows) if _is_dialogue(row) and _language(row) == language]
        chosen = [rows[i] for i in places]
        known = [personas.get(row.get("persona") or "") for row in chosen]
        for i, found in zip(places, _measure(chosen, known, language), strict=True):
            columns[i] = found
    return columns


def _is_dialogue(row: Row) -> bool:
    return row.get("task", "dialogue") == "dialogue" and bool(row.get("messages"))


def _language(row: Row) -> Language:
    return "en" if row.get("language") == "en" else "ko"


def _measure(rows: Sequence[Row], personas: Sequence[Persona | None], language: Language) -> list[Row]:
    said = [
        [(m["role"], m["content"] or "") for m in row["messages"] if m["role"] in ("user", "assistant")] for row in rows
    ]
    turns = [sum(role == "assistant" for role, _ in messages) for messages in said]
    welcome = [persona.welcome(language, n) if persona else {} for persona, n in zip(personas, turns, strict=True)]
    stripped = [
        catchphrases.without(text, phrases) if role == "assistant" else text
        for messages, phrases in zip(said, welcome, strict=True)
        for role, text in messages
    ]
    tokens, bare = iter(tokenised(stripped, language)), iter(stripped)
    return [
        _figures(
            messages,
            [next(tokens) for _ in messages],
            copying([(role, next(bare)) for role, _ in messages]),
            phrases,
            persona,
            language,
        )
        for messages, phrases, persona in zip(said, welcome, personas, strict=True)
    ]


def _figures(
    messages: Sequence[tuple[str, str]],
    tokens: Sequence[Said],
    copied: float,
    welcome: Mapping[str, int],
    persona: Persona | None,
    language: Language,
) -> Row:
    texts = [text for role, text in messages if role == "assistant"]
    questions, answers = (
        [found for (who, _), found in zip(messages, tokens, strict=True) if who == role]
        for role in ("user", "assistant")
    )
    figures: Row = dict.fromkeys(DIALOGUE_QUALITY.names)
    if not texts:
        return figures
    figures["catchphrase_overuse"] = catchphrases.overuse(texts, answers, questions, welcome, language)
    figures["shrinking"] = shrinking(texts)
    figures["copying"] = copied
    if language == "ko":
        talk = [levels_of(answers, persona.speech_level if persona else None), levels_of(questions)]
        figures["speech_level"] = talk[0].main
        figures["speech_level_shift"] = max((one.shift for one in talk if one.shift is not None), default=None)
    return figures
