"""Persona dialogues: one agent plays the user, the other the persona, and they take turns.

    seed question -> rewritten by the user agent -> answered by the persona, the seed's answer in view
                  -> asked on -> answered -> ...

All dialogues go forward together, turn by turn, so that a model gets them as one batch. A dialogue whose
next turn fails ends there; it is kept as long as it has one whole turn.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lingo_hitl.config import DialogueConfig
from lingo_hitl.generation.personas import Persona, choose, load_personas
from lingo_hitl.generation.replies import Reply, alone, ask, same_text
from lingo_hitl.models.journal import Journal
from lingo_hitl.records import Row, dropped, identified

if TYPE_CHECKING:
    from distilabel.steps.tasks.base import Task

MESSAGE_LIMIT = 20_000  # characters; Argilla's chat field takes no more, nor more than 500 messages
REFERENCE_LIMIT = 4_000  # characters of the seed's answer that the persona sees
_NOTHING_MORE = re.compile(r"\W*(끝|end)\W*", re.I)
_REQUEST = re.compile(
    r"[?？](?=[\s!?~^)…ㅎㅋ]|$)"
    r"|(?:세요|까요?|나요|가요|은데요|는데요|줘요?|주라|줄래|다오|싶어요?|싶습니다|궁금해요?|궁금합니다)[\s.!~]*$"
    r"|^\W*(?:please|tell|explain|describe|give|show|name|list|write|suggest|compare|help)\b"
    r"|^\W*i(?:\s+want|\s+would\s+like|'d\s+like)\b",
    re.I,
)


@dataclass
class Talk:
    """A dialogue on its way."""

    seed: Row
    persona: Persona
    messages: list[dict[str, str]] = field(default_factory=list)
    ended: bool = False
    fault: str | None = None  # why it ended before its time

    def view(self) -> dict[str, Any]:
        """What the agents' Tasks take."""
        return {
            "persona": self.persona,
            "language": self.seed["language"],
            "question": self.seed["instruction"][:MESSAGE_LIMIT],
            "reference": (self.seed["output"] or "")[:REFERENCE_LIMIT],
            "messages": list(self.messages),
        }

    def hear(self, role: str, reply: Reply) -> None:
        """Add what an agent said, or end."""
        if reply.text is None:
            self.ended = True
            self.fault = f"{role}'s turn failed: {reply.fault}"
        elif role == "user" and _NOTHING_MORE.fullmatch(reply.text):
            self.ended = True
        else:
            self.messages.append({"role": role, "content": reply.text})


def converse(
    seeds: Sequence[Row], config: DialogueConfig, *, journal: Journal
) -> tuple[list[Row], list[Row], dict[str, int]]:
    """A dialogue for each seed: rows of task "dialogue", dropped seeds, and how the dialogues ended.

    The personas take turns. Where the rewriting of a seed question fails, the question is asked as it is.

    Raises:
        UserError: a persona or a model that cannot be had.
    """
    from lingo_hitl.generation.agents import PersonaAgent, UserAgent
    from lingo_hitl.models.llm import load_llm

    personas = choose(load_personas(config.personas), config.persona, path=config.personas)
    talks = [Talk(seed, personas[i % len(personas)]) for i, seed in enumerate(seeds)]
    user = alone(UserAgent, load_llm(config.user, journal=journal))
    persona = alone(PersonaAgent, load_llm(config.assistant, journal=journal))
    _open(talks, user)
    for turn in range(1, config.target_turns + 1):
        _speak(talks, persona, "assistant", turn)
        if turn < config.target_turns:
            _speak(talks, user, "user", turn + 1)
    return _finished(talks, config)


def _open(talks: Sequence[Talk], user: Task) -> None:
    replies = ask(user, [talk.view() for talk in talks], what="dialogues, opening", refuse=_refuse_opening)
    for talk, reply in zip(talks, replies, strict=True):
        talk.messages.append({"role": "user", "content": reply.text or talk.view()["question"]})


def _speak(talks: Sequence[Talk], agent: Task, role: str, turn: int) -> None:
    going_on = [talk for talk in talks if not talk.ended]
    views = [talk.view() for talk in going_on]
    refuse = _refuse_question if role == "user" else _refuse_turn
    replies = ask(agent, views, what=f"dialogues, {role}'s turn {turn}", refuse=refuse)
    for talk, reply in zip(going_on, replies, strict=True):
        talk.hear(role, reply)


def _refuse_opening(view: dict[str, Any], text: str) -> str | None:
    """A rewritten question must still be one: small models answer it instead."""
    if _NOTHING_MORE.fullmatch(text) or ("?" in view["question"] and not _REQUEST.search(text)):
        return "no question"
    return _refuse_turn(view, text)


def _refuse_question(view: dict[str, Any], text: str) -> str | None:
    if not (_NOTHING_MORE.fullmatch(text) or _REQUEST.search(text)):
        return "neither a question nor a request"
    return _refuse_turn(view, text)


def _refuse_turn(view: dict[str, Any], text: str) -> str | None:
    """Why a turn cannot be used: said before by either speaker, or too long for a chat field."""
    if len(text) > MESSAGE_LIMIT:
        return f"longer than {MESSAGE_LIMIT:,} characters"
    messages = view["messages"]
    if messages and same_text(text, messages[-1]["content"]):
        return "only repeats what was said to it"
    if any(same_text(text, message["content"]) for message in messages):
        return "repeats an earlier turn"
    return None


def _finished(talks: Sequence[Talk], config: DialogueConfig) -> tuple[list[Row], list[Row], dict[str, int]]:
    rows, bad = [], []
    for talk in talks:
        if talk.messages[-1]["role"] == "user":  # a question that nobody answered
            talk.messages.pop()
        row = {
            "task": "dialogue",
            "seed": talk.seed["id"],
            **{key: talk.seed[key] for key in ("source", "source_id", "language")},
            "reference": talk.seed["output"] or None,
            "models": [config.assistant.label],
            "persona": talk.persona.name,
        }
        if talk.messages:
            rows.append(identified({**row, "instruction": talk.messages[0]["content"], "messages": talk.messages}))
        else:
            reason = f"no whole turn: {talk.fault}"
            bad.append(dropped({**row, "id": talk.seed["id"], "instruction": talk.seed["instruction"]}, reason))
    failed = sum(talk.fault is not None for talk in talks)
    return rows, bad, {"dialogues that ended at a failed turn": failed}
