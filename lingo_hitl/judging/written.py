"""Judges that write: UltraFeedback's aspects for texts, correctness for dialogues, as distilabel Tasks.

Aspects and wording follow UltraFeedback (Cui et al., 2023) as distilabel has it, in English and Korean;
relevance, depth and creativity are worded after the same pattern. Unlike distilabel's, the parser knows
how many texts there are and aligns ratings by their labels (see `parse`). A model that can be held to a
JSON Schema answers in JSON, where every rating has its text's name as its key.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from distilabel.steps.tasks.base import Task

from lingo_hitl.generation.prompts import render
from lingo_hitl.judging.parse import parse_ratings
from lingo_hitl.judging.verdict import HIGHEST, LOWEST, Verdict

if TYPE_CHECKING:
    from lingo_hitl.models.chat import ChatModel, Schema

PROMPTS = "lingo_hitl.judging.prompts"
CORRECTNESS, BY_TURN = "correctness", "correctness-by-turn"
"""What dialogues are rated on, beside the aspects of other texts."""
TEXT_LIMIT = 20_000  # characters of each text that a judge reads
Messages = list[dict[str, str]]
View = dict[str, Any]
"""What a judge sees of a row. `language`; then `instruction` and `texts`, or `messages` and `reference` (the known
answer to a dialogue's first question, or ""). For a second try also `reply`, the reply that could not be used, and
`fault`, what was wrong with it. `json`: the reply is held to the schema."""


class UltraFeedback(Task):
    """Rates several answers to one instruction on one aspect.

    Output columns: `verdicts`, one for each text, and `reply`.

    Attributes:
        prompts: a folder of prompts that go before the shipped ones; None: there is none.
    """

    aspect: str = "overall-rating"
    prompts: str | None = None

    @property
    def inputs(self) -> list[str]:
        return ["language", "instruction", "texts"]

    @property
    def outputs(self) -> list[str]:
        return ["verdicts", "reply", "model_name"]

    def format_input(self, input: View) -> Messages:
        language, json = input["language"], bool(input.get("json"))
        about = {
            "criteria": render(PROMPTS, language, f"aspects/{self.aspect}", folder=self.prompts),
            "instruction": input["instruction"][:TEXT_LIMIT],
            "texts": [text[:TEXT_LIMIT] for text in input["texts"]],
        }
        count = count_of(input)
        system = {"role": "system", "content": self._system(language, count)}
        question = render(PROMPTS, language, "annotate", folder=self.prompts, json=json, **about)
        return [system, {"role": "user", "content": question}, *_second_try(input, "again", self.prompts)]

    def _system(self, language: str, count: int) -> str:
        own = cast("ChatModel", self.llm).spec.system_prompt
        shipped = render(PROMPTS, language, "system", folder=self.prompts, count=count)
        return f"{own}\n\n{shipped}" if own else shipped

    def named(self, language: str) -> str:
        """What the prompts call a text."""
        return "글" if language == "ko" else "Text"

    def format_output(self, output: str | None, input: View | None = None) -> dict[str, Any]:
        count = count_of(input) if input else 0
        return {"verdicts": None if output is None else parse_ratings(output, count), "reply": output}

    def schema(self, view: View) -> Schema:
        """What a reply looks like in JSON."""
        rating = {"type": "integer", "minimum": int(LOWEST), "maximum": int(HIGHEST)}
        return _object({f"text_{n}": _rated("rating", rating) for n in range(1, count_of(view) + 1)})


class Correctness(Task):
    """Scores a whole dialogue 1 to 5 in halves: is what the assistant says true, and does it answer the user?

    Output columns: `verdicts` (one), `reply`.
    """

    prompts: str | None = None

    @property
    def inputs(self) -> list[str]:
        return ["language", "messages", "reference"]

    @property
    def outputs(self) -> list[str]:
        return ["verdicts", "reply", "model_name"]

    def format_input(self, input: View) -> Messages:
        spoken = [f"{message['role']}: {message['content'][:TEXT_LIMIT]}" for message in input["messages"]]
        about = {"dialogue": "\n".join(spoken), "reference": input["reference"][:TEXT_LIMIT]}
        language, json = input["language"], bool(input.get("json"))
        question = render(PROMPTS, language, "correctness", folder=self.prompts, json=json, **about)
        return [{"role": "user", "content": question}, *_second_try(input, "correctness_again", self.prompts)]

    def format_output(self, output: str | None, input: View | None = None) -> dict[str, Any]:
        return {"verdicts": None if output is None else parse_ratings(output, 1, halves=True), "reply": output}

    def schema(self, view: View) -> Schema:
        """What a reply looks like in JSON."""
        return _rated("score", _SCORE)

    def named(self, language: str) -> str:
        """What the prompts call a text; there is one only."""
        return ""


class CorrectnessByTurn(Task):
    """Scores each answer of a dialogue 1 to 5 in halves, with the questions and answers before it in view.

    Output columns: `verdicts`, one for each answer, and `reply`.
    """

    prompts: str | None = None

    @property
    def inputs(self) -> list[str]:
        return ["language", "messages", "reference"]

    @property
    def outputs(self) -> list[str]:
        return ["verdicts", "reply", "model_name"]

    def format_input(self, input: View) -> Messages:
        about = {"turns": turns_of(input["messages"]), "reference": input["reference"][:TEXT_LIMIT]}
        language, json = input["language"], bool(input.get("json"))
        question = render(PROMPTS, language, "correctness_by_turn", folder=self.prompts, json=json, **about)
        again = _second_try(input, "correctness_by_turn_again", self.prompts, count=len(about["turns"]))
        return [{"role": "user", "content": question}, *again]

    def format_output(self, output: str | None, input: View | None = None) -> dict[str, Any]:
        count = len(turns_of(input["messages"])) if input else 0
        return {"verdicts": None if output is None else parse_ratings(output, count, halves=True), "reply": output}

    def schema(self, view: View) -> Schema:
        """What a reply looks like in JSON."""
        return _object({f"answer_{n}": _rated("score", _SCORE) for n, _ in enumerate(turns_of(view["messages"]), 1)})

    def named(self, language: str) -> str:
        """What the prompts call an answer."""
        return "답변" if language == "ko" else "Answer"


WrittenJudge = UltraFeedback | Correctness | CorrectnessByTurn
_SCORE = {"type": "number", "minimum": LOWEST, "maximum": HIGHEST}


def count_of(view: View) -> int:
    """How many texts a view asks a rating for."""
    return len(view["texts"]) if "texts" in view else 1


def turns_of(messages: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """The assistant's messages as `answer`, each with what the user said since the one before as `question`."""
    turns: list[dict[str, str]] = []
    asked: list[str] = []
    for message in messages:
        text = message["content"][:TEXT_LIMIT]
        if message["role"] == "assistant":
            turns.append({"question": "\n".join(asked), "answer": text})
            asked = []
        else:
            asked.append(text)
    return turns


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _rated(name: str, value: dict[str, Any]) -> dict[str, Any]:
    # The reason stands first: what a model has written by then is what its number rests on.
    return _object({"rationale": {"type": "string"}, name: value})


def _second_try(input: View, name: str, prompts: str | None, *, count: int | None = None) -> Messages:
    if input.get("reply") is None:
        return []
    about = {"fault": input["fault"], "json": bool(input.get("json")), "count": count or count_of(input)}
    again = render(PROMPTS, input["language"], name, folder=prompts, **about)
    return [{"role": "assistant", "content": input["reply"]}, {"role": "user", "content": again}]


def faults_of(verdicts: Sequence[Verdict], name: str) -> str:
    """What is wrong with a reply, for the judge that wrote it; `name` is what its texts were called."""
    named = [
        f"{name} {n}: {v.fault}" if len(verdicts) > 1 else str(v.fault)
        for n, v in enumerate(verdicts, start=1)
        if v.rating is None
    ]
    return "; ".join(named)
