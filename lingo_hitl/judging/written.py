"""Judges that write: UltraFeedback's aspects for texts, a correctness score for dialogues, as distilabel Tasks.

Aspects and wording follow UltraFeedback (Cui et al., 2023) as distilabel has it, in English and Korean;
relevance, depth and creativity are worded after the same pattern. Unlike distilabel's, the parser knows
how many texts there are and aligns ratings by their labels (see `parse`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from distilabel.steps.tasks.base import Task

from lingo_hitl.generation.prompts import render
from lingo_hitl.judging.parse import parse_ratings, parse_score
from lingo_hitl.judging.verdict import Verdict

if TYPE_CHECKING:
    from lingo_hitl.models.chat import ChatModel

PROMPTS = "lingo_hitl.judging.prompts"
TEXT_LIMIT = 20_000  # characters of each text that a judge reads
Messages = list[dict[str, str]]


class UltraFeedback(Task):
    """Rates several answers to one instruction.

    Input columns: `language`, `instruction`, `texts`; for a second try also `reply`, the reply that could
    not be used, and `fault`, what was wrong with it. Output columns: `verdicts`, one for each text, and `reply`.
    """

    aspect: str = "overall-rating"

    @property
    def inputs(self) -> list[str]:
        return ["language", "instruction", "texts"]

    @property
    def outputs(self) -> list[str]:
        return ["verdicts", "reply", "model_name"]

    def format_input(self, input: dict[str, Any]) -> Messages:
        language, count = input["language"], len(input["texts"])
        criteria = render(PROMPTS, language, f"aspects/{self.aspect}")
        texts = [text[:TEXT_LIMIT] for text in input["texts"]]
        question = render(
            PROMPTS, language, "annotate", criteria=criteria, instruction=input["instruction"][:TEXT_LIMIT], texts=texts
        )
        system = {"role": "system", "content": render(PROMPTS, language, "system", count=count)}
        again = render(PROMPTS, language, "again", fault=input.get("fault"), count=count)
        return [system, {"role": "user", "content": question}, *_second_try(input, again)]

    def format_output(self, output: str | None, input: dict[str, Any] | None = None) -> dict[str, Any]:
        count = len(input["texts"]) if input else 0
        return {"verdicts": None if output is None else parse_ratings(output, count), "reply": output}


class Correctness(Task):
    """Scores a whole dialogue 1 to 5 in halves: is what the assistant says true, and does it answer the user?

    Input columns: `language`, `dialogue`, `reference` (the known answer to the first question, or ""), and
    `reply` and `fault` as in UltraFeedback. Output columns: `verdicts` (one), `reply`.
    """

    @property
    def inputs(self) -> list[str]:
        return ["language", "dialogue", "reference"]

    @property
    def outputs(self) -> list[str]:
        return ["verdicts", "reply", "model_name"]

    def format_input(self, input: dict[str, Any]) -> Messages:
        language = input["language"]
        question = render(
            PROMPTS, language, "correctness", dialogue=input["dialogue"], reference=input["reference"][:TEXT_LIMIT]
        )
        again = render(PROMPTS, language, "correctness_again", fault=input.get("fault"))
        return [{"role": "user", "content": question}, *_second_try(input, again)]

    def format_output(self, output: str | None, input: dict[str, Any] | None = None) -> dict[str, Any]:
        return {"verdicts": None if output is None else [parse_score(output)], "reply": output}


def rate_written(task: Task, views: Sequence[dict[str, Any]]) -> tuple[list[list[Verdict]], int]:
    """Verdicts for each of `views`, and how many of them had to be asked for twice.

    A reply that does not give every rating is shown to the judge again once, with what was wrong with it;
    ratings that the first reply gave stay.
    """
    llm = cast("ChatModel", task.llm)
    first = _asked(task, views)
    again = [i for i, (verdicts, _) in enumerate(first) if any(v.rating is None for v in verdicts)]
    verdicts = [found for found, _ in first]
    if again:
        rows = [{**views[i], "reply": first[i][1], "fault": _faults(verdicts[i])} for i in again]
        # Where the model failed the question is the same, so that it must be another sample.
        task.llm = llm.further(llm.first_sample + 1)
        for i, (second, _) in zip(again, _asked(task, rows), strict=True):
            verdicts[i] = [new if old.rating is None else old for old, new in zip(verdicts[i], second, strict=True)]
        task.llm = llm
    return verdicts, len(again)


def _asked(task: Task, views: Sequence[dict[str, Any]]) -> list[tuple[list[Verdict], str | None]]:
    outputs = next(task.process([dict(view) for view in views])) if views else []
    asked = []
    for view, output in zip(views, outputs, strict=True):
        verdicts = output["verdicts"]
        if verdicts is None:
            statistics = output.get("distilabel_metadata", {}).get(f"statistics_{task.name}", {})
            verdicts = [Verdict(fault=statistics.get("finish_reason") or "no reply")] * len(view.get("texts", [""]))
        asked.append((verdicts, output["reply"]))
    return asked


def _second_try(input: dict[str, Any], again: str) -> Messages:
    if input.get("reply") is None:
        return []
    return [{"role": "assistant", "content": input["reply"]}, {"role": "user", "content": again}]


def _faults(verdicts: Sequence[Verdict]) -> str:
    named = [
        f"Text {n}: {v.fault}" if len(verdicts) > 1 else str(v.fault)
        for n, v in enumerate(verdicts, start=1)
        if v.rating is None
    ]
    return "; ".join(named)
