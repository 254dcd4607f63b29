"""Asking a model through a distilabel Task, for one row, until it says something that can be used."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

from lingo_hitl.models.completion import Completion
from lingo_hitl.records import Row

if TYPE_CHECKING:
    from distilabel.steps.tasks.base import Task

    from lingo_hitl.models.chat import ChatModel

FURTHER_SAMPLES = 2
"""How often more a model is asked where its reply cannot be used."""

_LABEL = re.compile(
    r"^\s*[*#\[]*(?:user|assistant|ai|question|answer|response|사용자|인물|상대|질문|답변|답)[\]*]*\s*[:：]\s*[*]*\s*",
    re.I,
)
_NEXT_SPEAKER = re.compile(r"\n\s*[*\[]*(?:user|assistant|사용자|인물|상대)[\]*]*\s*[:：]", re.I)
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "「": "」", "『": "』"}
_SENTENCE_END = re.compile(r"(?:(?<!\d)[.]|[!?。？！…])[\"'”’)\]」』*]*(?=\s|$)|\n")

Refuse = Callable[[Row, str], str | None]
TaskType = TypeVar("TaskType", bound="Task")


@dataclass(frozen=True)
class Reply:
    """What a model said in the end, or why it said nothing that can be used."""

    text: str | None
    fault: str | None = None
    passing: bool = False  # whether the call failed, and another run may have an answer


def alone(kind: type[TaskType], llm: ChatModel, **options: Any) -> TaskType:
    """A distilabel Task that runs in this process, without a Pipeline around it."""
    # distilabel warns about every Task outside a Pipeline; here that is meant.
    logging.getLogger("distilabel.step.None").setLevel(logging.ERROR)
    task = kind(llm=llm, add_raw_output=False, add_raw_input=False, **options)
    task.load()
    return task


async def ask(
    task: Task,
    row: Row,
    *,
    refuse: Refuse,
    column: str = "generation",
    temperature: float | None = None,
    first_sample: int = 0,
    samples: int = 1 + FURTHER_SAMPLES,
) -> Reply:
    """One reply; a refused one is asked for anew, with the column `attempt` at 1, 2, ...

    A further sample is a new text where the model samples at random; a greedy model, which would only
    say the same again, is asked again only where it failed. After a failure that another run may not meet
    nothing more is asked: the provider has tried again itself, and that run would have the first sample.

    Args:
        refuse: gives the reason for which a text cannot be used, or None.
        column: the Task's output that holds the text.
        temperature: instead of the spec's.
        first_sample: the number of the first sample.
        samples: how many are asked for at most.
    """
    llm = cast("ChatModel", task.llm)
    greedy = (llm.spec.temperature if temperature is None else temperature) == 0
    reply = Reply(None, "not asked")
    for attempt in range(samples):
        view = {**row, "attempt": attempt}
        completion = await llm.acomplete(
            task.format_input(view), sample=first_sample + attempt, temperature=temperature
        )
        reply = replace(_reply(task, view, completion, column, refuse), passing=not completion.lasting)
        if reply.passing or reply.text is not None or (greedy and completion.text is not None):
            break
    return reply


def unlabelled(text: str) -> str:
    """The text without a speaker's label before it, quotes around it, or the other speaker's turn after it."""
    text = _NEXT_SPEAKER.split(_LABEL.sub("", text))[0].strip()
    if len(text) > 1 and _QUOTES.get(text[0]) == text[-1] and text[-1] not in text[1:-1]:
        text = text[1:-1].strip()
    return text


def whole_sentences(text: str) -> str:
    """A text that was cut off in the middle, up to its last whole sentence; as it is where that would leave
    less than half of it."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    return text[: ends[-1]].rstrip() if ends and ends[-1] * 2 >= len(text) else text


def same_text(one: str, other: str) -> bool:
    """Whether two texts differ in nothing but case, white space and closing punctuation."""
    return _bare(one) == _bare(other)


def _bare(text: str) -> str:
    return " ".join(text.lower().split()).strip(" .!?\"'")


def _reply(task: Task, row: Row, completion: Completion, column: str, refuse: Refuse) -> Reply:
    if completion.text is None:
        return Reply(None, completion.finish)
    text = task.format_output(completion.text, row)[column]
    if text is None:
        return Reply(None, "no reply")
    text = (whole_sentences(text) if completion.finish == "length" else text).strip()
    fault = refuse(row, text) if text else "empty reply"
    return Reply(None, fault) if fault else Reply(text)
