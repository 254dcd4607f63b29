"""What one judge says about the texts of one row: asked, asked again where it must be, in one order or both."""

from __future__ import annotations

import asyncio
import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from lingo_hitl.judging.verdict import Verdict
from lingo_hitl.judging.written import View, WrittenJudge, faults_of
from lingo_hitl.records import Row

if TYPE_CHECKING:
    from lingo_hitl.models.chat import ChatModel


@dataclass(frozen=True)
class Heard:
    """Verdicts in the order of the row's texts, and what they cost.

    Attributes:
        orders: for each time that the texts were shown: their positions, in the order in which they were.
        calls: completions that were used, those replayed from the journal among them.
        cost: in the currency of the price table; None where no price is known.
        passing: a call failed that another run may have answered.
    """

    verdicts: list[Verdict]
    orders: list[list[int]]
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float | None = None
    passing: bool = False

    @classmethod
    def together(cls, verdicts: list[Verdict], orders: list[list[int]], parts: Sequence[Heard]) -> Heard:
        """Verdicts that rest on several askings, with what these cost together."""
        costs = [part.cost for part in parts if part.cost is not None]
        return cls(
            verdicts,
            orders,
            calls=sum(part.calls for part in parts),
            input_tokens=sum(part.input_tokens for part in parts),
            output_tokens=sum(part.output_tokens for part in parts),
            cost=sum(costs) if costs else None,
            passing=any(part.passing for part in parts),
        )

    def as_judgement(self, judge: str, aspect: str) -> Row:
        """A value of `records.JUDGEMENT`."""
        return {
            "judge": judge,
            "aspect": aspect,
            "ratings": [verdict.rating for verdict in self.verdicts],
            "spreads": [verdict.spread for verdict in self.verdicts],
            "disagreements": [verdict.disagreement for verdict in self.verdicts],
            "rationales": [verdict.rationale for verdict in self.verdicts],
            "faults": [verdict.fault for verdict in self.verdicts],
            "orders": self.orders,
            "calls": self.calls,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cost": self.cost,
        }


def verdicts_in(judgement: Row) -> list[Verdict]:
    """The verdicts of a value of `records.JUDGEMENT`."""
    columns = [judgement[name] for name in ("ratings", "spreads", "rationales", "faults", "disagreements")]
    return [
        Verdict(rating, spread, rationale, fault, disagreement=disagreement)
        for rating, spread, rationale, fault, disagreement in zip(*columns, strict=True)
    ]


async def hear(task: WrittenJudge, view: View) -> Heard:
    """The verdicts on a view, as it stands.

    A reply that does not give every rating is shown to the judge again once, with what was wrong with it;
    ratings that the first reply gave stay. After a failure that another run may not meet nothing more is
    asked: that run would have the first sample, and ratings of the second would not last.

    Raises:
        UserError: nothing can be had from the model at all.
    """
    llm = cast("ChatModel", task.llm)
    view = {**view, "json": llm.writes_json}
    first = await _asked(task, view, sample=0)
    if first.passing or all(verdict.rating is not None for verdict in first.verdicts):
        return first
    again = {**view, "reply": first.reply, "fault": faults_of(first.verdicts, task.named(view["language"]))}
    # Where the model failed the question is the same, so that it must be another sample.
    second = await _asked(task, again, sample=1)
    pairs = zip(first.verdicts, second.verdicts, strict=True)
    return Heard.together([new if old.rating is None else old for old, new in pairs], [], [first, second])


async def hear_in_order(task: WrittenJudge, view: View, *, key: str, swap: bool) -> Heard:
    """The verdicts on a view with several texts, which are shown in an order drawn by a hash of `key`.

    With `swap` they are shown a second time the other way round: a judge that leans to the first text, or
    to the last, leans to both. A rating is then the mean of the two, the disagreement their difference,
    the spread half of that.
    """
    order = list(range(len(view["texts"])))
    random.Random(key).shuffle(order)
    orders = [order, order[::-1]] if swap and len(order) > 1 else [order]
    shown = [{**view, "texts": [view["texts"][n] for n in one]} for one in orders]
    heard = await asyncio.gather(*(hear(task, one) for one in shown))
    verdicts = [
        _both([one.verdicts[positions.index(n)] for one, positions in zip(heard, orders, strict=True)])
        for n in range(len(order))
    ]
    return Heard.together(verdicts, orders, heard)


@dataclass(frozen=True)
class _Asked(Heard):
    reply: str | None = None


async def _asked(task: WrittenJudge, view: View, *, sample: int) -> _Asked:
    llm = cast("ChatModel", task.llm)
    schema = task.schema(view) if view["json"] else None
    completion = await llm.acomplete(cast("Any", task.format_input(view)), sample=sample, schema=schema)
    text = completion.text
    if text is not None and completion.finish == "length":
        text = re.sub(r"[\d.]+$", "", text)  # 3.5 may have been cut to 3
    verdicts = task.format_output(text, view)["verdicts"]
    if verdicts is None:
        # Read as an empty reply, it has as many verdicts as there are texts.
        verdicts = [Verdict(fault=completion.finish) for _ in task.format_output("", view)["verdicts"]]
    return _Asked(
        verdicts,
        [],
        calls=1,
        input_tokens=completion.input_tokens,
        output_tokens=completion.output_tokens,
        cost=completion.cost,
        passing=not completion.lasting,
        reply=completion.text,
    )


def _both(verdicts: Sequence[Verdict]) -> Verdict:
    """What a judge says in both orders together; where it rated in one only, that."""
    rated = [verdict for verdict in verdicts if verdict.rating is not None]
    if len(rated) < 2:
        return rated[0] if rated else verdicts[0]
    one, other = (cast("float", verdict.rating) for verdict in rated)
    said = dict.fromkeys(verdict.rationale for verdict in rated if verdict.rationale)
    spread = math.sqrt(sum((v.spread or 0.0) ** 2 for v in rated) / 2 + (one - other) ** 2 / 4)
    return replace(
        rated[0],
        rating=(one + other) / 2,
        spread=spread,
        rationale="\n".join(said) or None,
        disagreement=abs(one - other),
    )
