"""Persona dialogues: one agent plays the user, the other the persona, and they take turns.

    seed question -> rewritten by the user agent -> answered by the persona, the seed's answer in view
                  -> asked on -> answered -> ...

Each dialogue goes forward by itself. One whose next turn fails ends there; it is kept as long as it has
one whole turn.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from lingo_hitl.config import DialogueConfig
from lingo_hitl.generation.personas import Persona, choose, load_personas
from lingo_hitl.generation.phrases import closed_with, opened_with, phrase_for, without
from lingo_hitl.generation.prompts import PROMPTS, check_prompts
from lingo_hitl.generation.replies import Reply, alone, ask, same_text
from lingo_hitl.llm_config import LLMSpec
from lingo_hitl.models.flow import Flow, Step, Work, load
from lingo_hitl.models.session import Session
from lingo_hitl.records import Row, dropped, identified

if TYPE_CHECKING:
    from distilabel.steps.tasks.base import Task

MESSAGE_LIMIT = 20_000  # characters; Argilla's chat field takes no more, nor more than 500 messages
REFERENCE_LIMIT = 4_000  # characters of the seed's answer that the persona sees
_NOTHING_MORE = re.compile(
    r"[^?？]*\[(?:끝|end)\]\W*"
    r"|\W*(?:끝(?:이에요|이예요|입니다|이야|났어요|났습니다)?|(?:the\s+)?end)\W*"
    r"|[^?？]*(?:더|더는|더\s*이상|이제)\s*(?:궁금|물을|물어|질문)[^.!?？]{0,12}"
    r"없(?:습니다|어요?|네요?|다|을\s*것\s*같\w*|는\s*것\s*같\w*)[^\w?？]*(?:[.!~][^?？]*)?"
    r"|[^?？]*\b(?:no\s+(?:more|further)\s+questions?|nothing\s+(?:more|else|further)\s+to\s+ask)\b[^?？]*",
    re.I,
)
_REQUEST = re.compile(
    r"[?？](?=[\s!?~^)…ㅎㅋ]|$)"
    r"|(?:세요|까요?|나요|가요|은데요|는데요|줘요?|주라|줄래|다오|싶어요?|싶습니다|궁금해요?|궁금합니다"
    r"|십시오|시죠|시지요|주시겠어요|주실래요|[습입합됩갑옵봅십]니까)[\s.!~]*$"
    # "해 봐" asks, "그런가 봐" and "했나 봐" only guess.
    r"|(?<![가나까])(?<![가나까]\s)봐요?[\s.!~]*$"
    r"|^\W*(?:(?:and|but|so|then|also|ok|okay)\W+)?(?:can|could|would|why|what(?!\s+an?\b)|how(?!\s+\w+\W*$))\b"
    r"|^\W*(?:please|tell|explain|describe|give|show|name|list|write|suggest|compare|help)\b"
    r"|^\W*i(?:\s+want|\s+would\s+like|'d\s+like)\b",
    re.I,
)


@dataclass
class Talk:
    """A dialogue on its way."""

    seed: Row
    persona: Persona
    own: Sequence[str] = ()  # the persona's phrases that open and close answers: what they repeat is no repetition
    messages: list[dict[str, str]] = field(default_factory=list)
    ended: bool = False
    fault: str | None = None  # why it ended before its time
    passing: bool = False  # whether a call failed that another run may have answered

    def view(self) -> dict[str, Any]:
        """What the agents' Tasks take."""
        return {
            "persona": self.persona,
            "language": self.seed["language"],
            "question": self.seed["instruction"][:MESSAGE_LIMIT],
            "reference": (self.seed["output"] or "")[:REFERENCE_LIMIT],
            "messages": list(self.messages),
            "own": self.own,
        }

    def phrase(self, turn: int) -> str | None:
        """What an answer is to begin or to end with."""
        return phrase_for(self.persona, self.seed["language"], seed=self.seed["id"], turn=turn)

    def hear(self, role: str, reply: Reply) -> None:
        """Add what an agent said, or end."""
        self.passing |= reply.passing
        if reply.text is None:
            self.ended = True
            self.fault = f"{role}'s turn failed: {reply.fault}"
        elif role == "user" and _NOTHING_MORE.fullmatch(reply.text):
            self.ended = True
        else:
            self.messages.append(_message(role, reply.text))


@dataclass(frozen=True)
class Converse(Step):
    """From a corpus row to a dialogue: adds `talk`. The row says with which persona (`persona`, its name)."""

    config: DialogueConfig

    @property
    def models(self) -> tuple[LLMSpec, ...]:
        return (self.config.user, self.config.assistant)

    def start(self, session: Session) -> Work:
        from lingo_hitl.generation.agents import PersonaAgent, UserAgent

        config = self.config
        personas = load_personas(config.personas)
        if config.prompts:
            check_prompts(config.prompts, PROMPTS, key="dialogue.prompts")
        user = alone(UserAgent, session.llm(config.user), prompts=config.prompts)
        assistant = alone(PersonaAgent, session.llm(config.assistant), prompts=config.prompts)

        async def answer(talk: Talk, turn: int) -> None:
            phrase = talk.phrase(turn) if config.use_answer_prefix else None
            view = {**talk.view(), "phrase": phrase}
            temperature = config.first_answer_temperature if turn == 1 else None
            reply = await ask(assistant, view, refuse=_refuse_turn, temperature=temperature)
            talk.hear("assistant", _with_phrase(reply, phrase, turn))

        async def converse(row: Row) -> Row:
            persona, language = personas[row["persona"]], row["language"]
            own = [*persona.prefixes(language), *persona.suffixes(language)] if config.use_answer_prefix else []
            talk = Talk(row, persona, own)
            if _is_a_first_turn(row):
                talk.messages += [_message("user", row["instruction"]), _message("assistant", row["output"])]
            else:
                await _open(talk, user, config)
                if not talk.ended:
                    await answer(talk, 1)
            for turn in range(2, config.target_turns + 1):
                if not talk.ended:
                    talk.hear("user", await ask(user, talk.view(), refuse=_refuse_question))
                if not talk.ended:
                    await answer(talk, turn)
            return {"talk": talk}

        return converse


def dialogue(config: DialogueConfig) -> Flow:
    """The conversation of two agents about each corpus row.

    Raises:
        UserError: a persona that is not defined.
    """
    return load >> Converse(config)


def cast_personas(seeds: Iterable[Row], config: DialogueConfig) -> Iterator[Row]:
    """The rows with the name of the persona that each talks with; they take turns.

    Raises:
        UserError: a persona that is not defined.
    """
    personas = choose(load_personas(config.personas), config.persona, path=config.personas)
    return ({**seed, "persona": personas[place % len(personas)].name} for place, seed in enumerate(seeds))


async def _open(talk: Talk, user: Task, config: DialogueConfig) -> None:
    """The seed's question in the user agent's words; as it is where none of them can be used.

    A failure that passes ends the dialogue: the next run has the words, and what follows would be another talk.
    """
    reply = await ask(user, talk.view(), refuse=_refuse_opening, temperature=config.opening_temperature)
    if reply.passing:
        talk.hear("user", reply)
    else:
        talk.messages.append(_message("user", reply.text or talk.view()["question"]))


def _is_a_first_turn(row: Row) -> bool:
    """Whether a corpus row has been put into the persona's words already, and so is a turn as it is."""
    fits = max(len(row["instruction"]), len(row["output"])) <= MESSAGE_LIMIT
    return bool(row.get("original") and row["output"] and fits)


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _with_phrase(reply: Reply, phrase: str | None, turn: int) -> Reply:
    if reply.text is None or phrase is None:
        return reply
    text = opened_with(reply.text, phrase) if turn == 1 else closed_with(reply.text, phrase)
    # An answer as long as a chat field can hold goes without: the end of a cut answer is worse than no phrase.
    return replace(reply, text=text) if len(text) <= MESSAGE_LIMIT else reply


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
    said = [without(message["content"], view["own"]) for message in view["messages"]]
    text = without(text, view["own"])
    if said and same_text(text, said[-1]):
        return "only repeats what was said to it"
    if any(same_text(text, earlier) for earlier in said):
        return "repeats an earlier turn"
    return None


def finished(row: Row, config: DialogueConfig) -> tuple[Row | None, Row | None, int]:
    """A row of task "dialogue" or a dropped one, and whether it ended at a failed turn (0 or 1)."""
    talk: Talk = row["talk"]
    if talk.messages and talk.messages[-1]["role"] == "user":  # a question that nobody answered
        talk.messages.pop()
    grown = {
        "task": "dialogue",
        "seed": row["id"],
        **{key: row[key] for key in ("source", "source_id", "language")},
        "reference": row.get("original") or row["output"] or None,
        "models": [config.assistant.label],
        "persona": talk.persona.name,
    }
    failed = int(talk.fault is not None)
    if talk.messages:
        return (
            identified({**grown, "instruction": talk.messages[0]["content"], "messages": talk.messages}),
            None,
            failed,
        )
    reason = f"no whole turn: {talk.fault}"
    return None, dropped({**grown, "id": row["id"], "instruction": row["instruction"]}, reason), failed
