"""Lingo_Chat's pipeline: a conversation about each seed, and right behind it its score."""

from __future__ import annotations

from dataclasses import dataclass

from lingo_hitl.config import DialogueConfig, JudgeConfig, QualityConfig
from lingo_hitl.generation.dialogue import Talk, dialogue, finished
from lingo_hitl.generation.personas import load_personas
from lingo_hitl.judging.dialogue_quality.figures import FIGURES
from lingo_hitl.judging.judge import Measured, judging, last_fault
from lingo_hitl.models.flow import Flow, Step, Work
from lingo_hitl.models.session import Session
from lingo_hitl.records import DIALOGUE_QUALITY, Row

ANY = QualityConfig(**dict.fromkeys(FIGURES))
"""No limits: Lingo_Chat keeps every dialogue, and what is too much of a figure can be said afterwards."""


def scored_dialogues(talk: DialogueConfig, judge: JudgeConfig) -> Flow:
    """From corpus rows with a `persona` to dialogues with scores: adds what `Score` adds."""
    return dialogue(talk) >> Score(talk, judge)


@dataclass(frozen=True)
class Score(Step):
    """Adds to a row with a `talk`: `dialogue`, a row of that task or None; `lost`, a dropped row or None; `score`,
    1 to 5 or None; `feedback`, the judge's reason or why there is no score; `quality`, the dialogue's figures
    (`records.DIALOGUE_QUALITY`), by which nothing is dropped here; and `passing`, whether another run may come out
    otherwise."""

    talk: DialogueConfig
    judge: JudgeConfig

    def start(self, session: Session) -> Work:
        judge = judging(self.judge, Measured(ANY, load_personas(self.talk.personas))).start(session)

        async def score(row: Row) -> Row:
            talk: Talk = row["talk"]
            grown, lost, _ = finished(row, self.talk)
            if grown is None:
                return {"dialogue": None, "lost": lost, "passing": talk.passing}
            judged = await judge(grown)
            (rating,), (rationale,) = judged["ratings"], judged["rationales"]
            feedback = last_fault(judged) if rating is None else rationale
            return {
                "dialogue": grown,
                "lost": None,
                "score": rating,
                "feedback": feedback,
                "quality": {name: judged[name] for name in DIALOGUE_QUALITY.names},
                "passing": talk.passing or judged["passing"],
            }

        return score
