"""Judges that write: UltraFeedback's aspects for texts, correctness for dialogues, as distilabel Tasks.

Aspects and wording follow UltraFeedback (Cui et al., 2023) as distilabel has it, in English and Korean;
relevance, depth and creativity are worded after the same pattern. Unlike distilabel's, the parser knows
how many texts there are and aligns ratings by their labels (see `parse`). A model that can be held to a
JSON Schema answers in JSON, where every rating has its text's name as its key.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

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


class WrittenJudge(Task):
    """What all judges that write share: prompts in the row's language, one parser, and a second try.

    Output columns: `verdicts`, one for each rating that is asked for, and `reply`.

    Attributes:
        prompts: a folder of prompts that go before the shipped ones; None: there is none.
    """

    prompts: str | None = None

    halves: ClassVar[bool] = False
    """Whether ratings go in halves; else in whole steps."""

    @property
    def outputs(self) -> list[str]:
        return ["verdicts", "reply", "model_name"]

    def format_output(self, output: str | None, input: View | None = None) -> dict[str, Any]:
        count = self.count(input or {})
        return {
            "verdicts": None if output is None else parse_ratings(output, count, halves=self.halves),
            "reply": output,
        }

    @abstractmethod
    def count(self, view: View) -> int:
        """How many ratings a view asks for."""

    @abstractmethod
    def named(self, language: str) -> str:
        """What the prompts call what is rated; "" where it is one thing only."""

    @abstractmethod
    def schema(self, view: View) -> Schema:
        """What a reply looks like in JSON."""

    def _render(self, view: View, name: str, **values: Any) -> str:
        return render(PROMPTS, view["language"], name, folder=self.prompts, **values)

    def _asked(self, view: View, name: str, again: str, **about: Any) -> Messages:
        """The question `name`; for a second try also the reply that could not be used, and what `again` says to it."""
        json = bool(view.get("json"))
        messages = [{"role": "user", "content": self._render(view, name, json=json, **about)}]
        if view.get("reply") is None:
            return messages
        fault = self._render(view, again, fault=view["fault"], json=json, count=self.count(view))
        return [*messages, {"role": "assistant", "content": view["reply"]}, {"role": "user", "content": fault}]


class UltraFeedback(WrittenJudge):
    """Rates several answers to one instruction on one aspect."""

    aspect: str = "overall-rating"

    @property
    def inputs(self) -> list[str]:
        return ["language", "instruction", "texts"]

    def format_input(self, input: View) -> Messages:
        own = cast("ChatModel", self.llm).spec.system_prompt
        shipped = self._render(input, "system", count=self.count(input))
        question = self._asked(
            input,
            "annotate",
            "again",
            criteria=self._render(input, f"aspects/{self.aspect}"),
            instruction=input["instruction"][:TEXT_LIMIT],
            texts=[text[:TEXT_LIMIT] for text in input["texts"]],
        )
        return [{"role": "system", "content": f"{own}\n\n{shipped}" if own else shipped}, *question]

    def count(self, view: View) -> int:
        return len(view.get("texts", ()))

    def named(self, language: str) -> str:
        return "글" if language == "ko" else "Text"

    def schema(self, view: View) -> Schema:
        rating = {"type": "integer", "minimum": int(LOWEST), "maximum": int(HIGHEST)}
        return _object({f"text_{n}": _rated("rating", rating) for n in range(1, self.count(view) + 1)})


class DialogueJudge(WrittenJudge):
    """Scores a dialogue 1 to 5 in halves."""

    halves: ClassVar[bool] = True

    @property
    def inputs(self) -> list[str]:
        return ["language", "messages", "reference"]


class Correctness(DialogueJudge):
    """Scores a dialogue as a whole: is what the assistant says true, and does it answer the user?"""

    def format_input(self, input: View) -> Messages:
        spoken = "\n".join(f"{message['role']}: {message['content'][:TEXT_LIMIT]}" for message in input["messages"])
        reference = input["reference"][:TEXT_LIMIT]
        return self._asked(input, "correctness", "correctness_again", dialogue=spoken, reference=reference)

    def count(self, view: View) -> int:
        return 1

    def named(self, language: str) -> str:
        return ""

    def schema(self, view: View) -> Schema:
        return _rated("score", _SCORE)


class CorrectnessByTurn(DialogueJudge):
    """Scores each answer of a dialogue, with the questions and answers before it in view."""

    def format_input(self, input: View) -> Messages:
        about = {"turns": turns_of(input["messages"]), "reference": input["reference"][:TEXT_LIMIT]}
        return self._asked(input, "correctness_by_turn", "correctness_by_turn_again", **about)

    def count(self, view: View) -> int:
        return len(turns_of(view.get("messages", ())))

    def named(self, language: str) -> str:
        return "답변" if language == "ko" else "Answer"

    def schema(self, view: View) -> Schema:
        return _object({f"answer_{n}": _rated("score", _SCORE) for n in range(1, self.count(view) + 1)})


_SCORE = {"type": "number", "minimum": LOWEST, "maximum": HIGHEST}


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


def faults_of(verdicts: Sequence[Verdict], name: str) -> str:
    """What is wrong with a reply, for the judge that wrote it; `name` is what its texts were called."""
    named = [
        f"{name} {n}: {v.fault}" if len(verdicts) > 1 else str(v.fault)
        for n, v in enumerate(verdicts, start=1)
        if v.rating is None
    ]
    return "; ".join(named)
