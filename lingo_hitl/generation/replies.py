"""Asking a model through a distilabel Task until it says something that can be used."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from lingo_hitl.progress import progress

if TYPE_CHECKING:
    from distilabel.steps.tasks.base import Task

    from lingo_hitl.models.chat import ChatModel

CHUNK = 256  # rows that are asked for together, between two steps of the progress bar
LOCAL_CHUNK = 32  # the same of a model on this machine, where 256 would be minutes without a word
FURTHER_SAMPLES = 2
"""How often more a model is asked where its reply cannot be used."""

_LABEL = re.compile(
    r"^\s*[*#\[]*(?:user|assistant|ai|question|answer|response|사용자|인물|상대|질문|답변|답)[\]*]*\s*[:：]\s*[*]*\s*",
    re.I,
)
_NEXT_SPEAKER = re.compile(r"\n\s*[*\[]*(?:user|assistant|사용자|인물|상대)[\]*]*\s*[:：]", re.I)
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "「": "」", "『": "』"}
_SENTENCE_END = re.compile(r"(?:(?<!\d)[.]|[!?。？！…])[\"'”’)\]」』*]*(?=\s|$)|\n")

TaskType = TypeVar("TaskType", bound="Task")


@dataclass(frozen=True)
class Reply:
    """What a model said in the end, or why it said nothing that can be used."""

    text: str | None
    fault: str | None = None


def alone(kind: type[TaskType], llm: ChatModel, **options: Any) -> TaskType:
    """A distilabel Task that runs in this process, without a Pipeline around it."""
    # distilabel warns about every Task outside a Pipeline; here that is meant.
    logging.getLogger("distilabel.step.None").setLevel(logging.ERROR)
    task = kind(llm=llm, add_raw_output=False, add_raw_input=False, **options)
    task.load()
    return task


def ask(
    task: Task,
    rows: Sequence[dict[str, Any]],
    *,
    what: str,
    refuse: Callable[[dict[str, Any], str], str | None],
    column: str = "generation",
) -> list[Reply]:
    """One reply for each row; refused ones are asked for up to twice more, with the column `attempt` at 1 and 2.

    A further sample is a new text where the model samples at random; a greedy model, which would only
    say the same again, is asked again only where it failed.

    Args:
        what: what is being asked for, in words for the progress bar.
        refuse: gives the reason for which a text cannot be used, or None.
        column: the Task's output that holds the text.
    """
    replies: list[Reply] = []
    size = LOCAL_CHUNK if cast("ChatModel", task.llm).gives_probabilities else CHUNK
    with progress(what, len(rows)) as advance:
        for start in range(0, len(rows), size):
            chunk = rows[start : start + size]
            replies += _ask_together(task, chunk, refuse, column)
            advance(len(chunk))
    return replies


def _ask_together(
    task: Task, rows: Sequence[dict[str, Any]], refuse: Callable[[dict[str, Any], str], str | None], column: str
) -> list[Reply]:
    llm = cast("ChatModel", task.llm)
    replies = [Reply(None)] * len(rows)
    waiting = list(range(len(rows)))
    try:
        for sample in range(FURTHER_SAMPLES + 1):
            if not waiting:
                break
            task.llm = llm.further(llm.first_sample + sample)
            outputs = next(task.process([{**rows[i], "attempt": sample} for i in waiting]))
            for place, (i, output) in enumerate(zip(waiting, outputs, strict=True)):
                replies[i] = _reply(task, rows[i], output, place, column, refuse)
            greedy = llm.spec.temperature == 0
            waiting = [
                i
                for i, output in zip(waiting, outputs, strict=True)
                if replies[i].text is None and not (greedy and output[column])
            ]
    finally:
        task.llm = llm
    return replies


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


def _reply(
    task: Task,
    row: dict[str, Any],
    output: dict[str, Any],
    place: int,
    column: str,
    refuse: Callable[[dict[str, Any], str], str | None],
) -> Reply:
    finish = output.get("distilabel_metadata", {}).get(f"statistics_{task.name}", {}).get("finish_reason")
    if isinstance(finish, list):  # EvolQuality puts the whole batch's statistics into every row
        finish = finish[place]
    text = output[column]
    if text is None:
        return Reply(None, finish or "no reply")
    text = (whole_sentences(text) if finish == "length" else text).strip()
    fault = refuse(row, text) if text else "empty reply"
    return Reply(None, fault) if fault else Reply(text)
