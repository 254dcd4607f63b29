"""Lingo_Chat's pipeline: a conversation about each seed, and right behind it its score."""

from __future__ import annotations

from dataclasses import dataclass

from lingo_hitl.config import DialogueConfig, JudgeConfig
from lingo_hitl.generation.dialogue import Talk, dialogue, finished
from lingo_hitl.judging.judge import judging, last_fault
from lingo_hitl.models.flow import Flow, Step, Work
from lingo_hitl.models.session import Session
from lingo_hitl.records import Row


def scored_dialogues(talk: DialogueConfig, judge: JudgeConfig) -> Flow:
    """From corpus rows with a `persona` to dialogues with scores: adds what `Score` adds."""
    return dialogue(talk) >> Score(talk, judge)


@dataclass(frozen=True)
class Score(Step):
    """Adds to a row with a `talk`: `dialogue`, a row of that task or None; `lost`, a dropped row or None; `score`,
    1 to 5 or None; `feedback`, the judge's reason or why there is no score; and `passing`, whether another run may
    come out otherwise."""

    talk: DialogueConfig
    judge: JudgeConfig

    def start(self, session: Session) -> Work:
        judge = judging(self.judge).start(session)

        async def score(row: Row) -> Row:
            talk: Talk = row["talk"]
            grown, lost, _ = finished(row, self.talk)
            added: Row = {"dialogue": grown, "lost": lost, "score": None, "feedback": None, "passing": talk.passing}
            if grown is None:
                return added
            judged = await judge(grown)
            (rating,), (rationale,) = judged["ratings"], judged["rationales"]
            feedback = last_fault(judged) if rating is None else rationale
            return {**added, "score": rating, "feedback": feedback, "passing": talk.passing or judged["passing"]}

        return score
