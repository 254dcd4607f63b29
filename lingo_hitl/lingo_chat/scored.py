"""Lingo_Chat's pipeline: a conversation about each seed, and right behind it its score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from lingo_hitl.config import DialogueConfig, LLMSpec
from lingo_hitl.generation.dialogue import Talk, dialogue, finished
from lingo_hitl.generation.replies import alone
from lingo_hitl.judging.judge import view_of
from lingo_hitl.judging.verdict import Verdict
from lingo_hitl.models.flow import Flow, Step, Work
from lingo_hitl.models.session import Session
from lingo_hitl.records import Row

if TYPE_CHECKING:
    from distilabel.steps.tasks.base import Task

    from lingo_hitl.models.chat import ChatModel


def scored_dialogues(talk: DialogueConfig, judge: LLMSpec) -> Flow:
    """From corpus rows with a `persona` to dialogues with scores: adds what `Score` adds."""
    return dialogue(talk) >> Score(talk, judge)


@dataclass(frozen=True)
class Score(Step):
    """Adds to a row with a `talk`: `dialogue`, a row of that task or None; `lost`, a dropped row or None;
    `verdict`; and `passing`, whether another run may come out otherwise."""

    talk: DialogueConfig
    judge: LLMSpec

    def start(self, session: Session) -> Work:
        from lingo_hitl.judging.written import Correctness

        task = alone(Correctness, session.llm(self.judge))

        async def score(row: Row) -> Row:
            talk: Talk = row["talk"]
            grown, lost, _ = finished(row, self.talk)
            verdict, passing = Verdict(fault="no dialogue"), False
            if grown is not None:
                verdict, passing = await _verdict(task, grown)
            return {"dialogue": grown, "lost": lost, "verdict": verdict, "passing": talk.passing or passing}

        return score


async def _verdict(task: Task, grown: Row) -> tuple[Verdict, bool]:
    """A dialogue's score, asked for once more with the fault named where the reply gives none."""
    llm = cast("ChatModel", task.llm)
    view = view_of(grown)
    assert view is not None  # a dialogue has texts
    first = await llm.acomplete(task.format_input(view))
    verdict: Verdict = (task.format_output(first.text, view)["verdicts"] or [Verdict(fault=first.finish)])[0]
    if verdict.rating is not None:
        return verdict, False
    view |= {"reply": first.text, "fault": verdict.fault}
    second = await llm.acomplete(task.format_input(view), sample=1)
    verdict = (task.format_output(second.text, view)["verdicts"] or [Verdict(fault=second.finish)])[0]
    return verdict, not (first.lasting and second.lasting)
