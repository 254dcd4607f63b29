"""Stage `judge`: rows in, the same rows with ratings by models out.

load >> Measured(quality) >> [Judge(spec) for spec in judges] >> combined
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import pyarrow as pa

from lingo_hitl.config import JudgeConfig, QualityConfig
from lingo_hitl.errors import UserError
from lingo_hitl.generation.prompts import check_prompts
from lingo_hitl.generation.replies import alone
from lingo_hitl.judging.dialogue_quality.figures import excess
from lingo_hitl.judging.dialogue_quality.measure import measure
from lingo_hitl.judging.ensemble import Judgement, Opinion, combine
from lingo_hitl.judging.hearing import Heard, hear, hear_in_order, verdicts_in
from lingo_hitl.judging.probabilities import rate_by_probabilities
from lingo_hitl.judging.report import Told
from lingo_hitl.judging.written import (
    BY_TURN,
    CORRECTNESS,
    PROMPTS,
    Correctness,
    CorrectnessByTurn,
    DialogueJudge,
    UltraFeedback,
    View,
)
from lingo_hitl.llm_config import LLMSpec
from lingo_hitl.models.flow import Flow, Plain, Step, Work, load, run_flow
from lingo_hitl.models.loop import Batcher
from lingo_hitl.models.session import Session
from lingo_hitl.records import Row, dropped, judged_texts, rows_of
from lingo_hitl.stages import Outcome, RowFile, stage

if TYPE_CHECKING:
    from lingo_hitl.generation.personas import Persona
    from lingo_hitl.models.chat import ChatModel
    from lingo_hitl.models.local import LocalModel

MEASURED_AT_ONCE = 64

Hear = Callable[[Row, View], Awaitable[Heard]]
"""One judge on one aspect: what it says about a row."""


@stage("judge", needs="generate")
def judge(
    rows: pa.Table,
    config: JudgeConfig,
    *,
    session: Session,
    out: RowFile,
    personas: Mapping[str, Persona] | None = None,
) -> Outcome:
    """Rate every judged text with every judge, combine the ratings, and write the rows to `out` as they come.

    Adds `records.JUDGED`. Dialogues are measured first (`dialogue_quality`); one that fails beyond the
    limits of the config is dropped with the figure, and no judge is paid for it. Completions and outputs
    are rated on each aspect of the config, dialogues on correctness with the reference in view, as a whole
    and with `by_turn` also answer by answer. A row that no judge could rate is dropped with the last
    judge's reason. Rows without a text to rate, and all rows where the config names no judge, go on with
    nulls.

    Args:
        personas: by name, for their phrases and speech levels; one that is not there has none.

    Raises:
        UserError: a judge that cannot be had, or that gives no probabilities where the config wants them.
    """
    started = time.monotonic()
    # Without a row to rate no model is loaded.
    wanted = config if rows.num_rows else config.model_copy(update={"judges": []})
    bad: list[Row] = []
    told = Told()
    flow, total = judging(wanted, Measured(config.quality, personas or {})), rows.num_rows
    # Where no model is asked there is nothing to send to other processes.
    engine = config.engine if flow.models else "local"
    for row in run_flow(
        flow, rows_of(rows), session, what="judging", total=total, engine=engine, workers=config.workers
    ):
        told.add(row)
        if reason := _unfit(row):
            bad.append(dropped({name: row[name] for name in rows.column_names}, reason))
        else:
            out.add({name: row[name] for name in out.schema.names})
    report = {
        **told.report(),
        **session.report(),
        "seconds": round(time.monotonic() - started, 1),
    }
    return Outcome(out.close(), bad, report, unfinished=session.tally.failed > 0)


def judging(config: JudgeConfig, first: Step = load) -> Flow:
    """From a generated row to a judged one: adds the ratings of `records.JUDGED`, after what `first` adds."""
    flow = Flow(((first,),))
    if config.judges:
        flow = flow >> [Judge(n, spec, config) for n, spec in enumerate(config.judges)]
    return flow >> Plain(combined)


@dataclass(frozen=True)
class Measured(Step):
    """Adds `records.DIALOGUE_QUALITY`, and as `excess` the reason why a dialogue does not go on, or None."""

    limits: QualityConfig
    personas: Mapping[str, Persona]

    def start(self, session: Session) -> Work:
        # Many at once are faster, and in a thread they hold up nobody who waits for a model.
        batches: Batcher[Row, Row] = Batcher(lambda rows: measure(rows, self.personas), most=MEASURED_AT_ONCE)

        async def add(row: Row) -> Row:
            figures = await batches(row)
            return {**figures, "excess": excess(figures, self.limits)}

        return add


@dataclass(frozen=True)
class Judge(Step):
    """One judge rates the texts of a row on every aspect; adds `judgements_<n>`, a list of `records.JUDGEMENT`,
    and `passing_<n>`, whether another run may hear something else."""

    n: int
    spec: LLMSpec
    config: JudgeConfig

    @property
    def models(self) -> tuple[LLMSpec, ...]:
        return (self.spec,)

    def start(self, session: Session) -> Work:
        if self.config.prompts:
            check_prompts(self.config.prompts, PROMPTS, key="judge.prompts")
        llm = session.llm(self.spec)
        aspects = [*self.config.aspects, CORRECTNESS, BY_TURN]
        hearing = self._written(llm) if writes(self.spec, llm, self.config) else self._probable(llm, aspects)

        async def rate(row: Row) -> Row:
            view = view_of(row)
            aspects = self._aspects(row) if view is not None and not row.get("excess") else []
            heard = await asyncio.gather(*(hearing[aspect](row, view or {}) for aspect in aspects))
            said = [one.as_judgement(self.spec.label, aspect) for one, aspect in zip(heard, aspects, strict=True)]
            return {f"judgements_{self.n:03}": said, f"passing_{self.n:03}": any(one.passing for one in heard)}

        return rate

    def _aspects(self, row: Row) -> list[str]:
        if row["task"] != "dialogue":
            return list(dict.fromkeys(self.config.aspects))
        return [CORRECTNESS, BY_TURN] if self.config.by_turn else [CORRECTNESS]

    def _probable(self, llm: ChatModel, aspects: list[str]) -> dict[str, Hear]:
        def on(aspect: str) -> Hear:
            async def rate(row: Row, view: View) -> Heard:
                local = cast("LocalModel", llm)
                return Heard(await rate_by_probabilities(local, view, aspect=aspect, prompts=self.config.prompts), [])

            return rate

        return {aspect: on(aspect) for aspect in aspects}

    def _written(self, llm: ChatModel) -> dict[str, Hear]:
        config = self.config

        def on_answers(aspect: str) -> Hear:
            task = alone(UltraFeedback, llm, aspect=aspect, prompts=config.prompts)

            async def rate(row: Row, view: View) -> Heard:
                # The name is only a label: calling a judge otherwise must not cost its ratings.
                key = f"{config.seed} {row['id']} {self.spec.portable} {aspect}"
                return await hear_in_order(task, view, key=key, swap=config.swap)

            return rate

        def on_dialogues(kind: type[DialogueJudge]) -> Hear:
            task = alone(kind, llm, prompts=config.prompts)
            return lambda row, view: hear(task, view)

        return {
            **{aspect: on_answers(aspect) for aspect in config.aspects},
            CORRECTNESS: on_dialogues(Correctness),
            BY_TURN: on_dialogues(CorrectnessByTurn),
        }


def writes(spec: LLMSpec, llm: ChatModel, config: JudgeConfig) -> bool:
    """Whether a judge writes its ratings, rather than having them read from its probabilities.

    Raises:
        UserError: probabilities are wanted of a model that gives none.
    """
    if config.method == "probabilities" and not llm.gives_probabilities:
        raise UserError(
            f"judge '{spec.model}' gives texts, no probabilities; expected packaged/... or transformers/... with "
            "judge.method: probabilities. Use method: auto, or another judge."
        )
    return config.method == "text" or not llm.gives_probabilities


def view_of(row: Row) -> View | None:
    """What a judge sees of a row; None where it holds nothing to rate.

    A preference row's reference is not shown: with `include_reference` it is one of the texts.
    """
    language = row["language"] or "ko"
    if row["task"] == "dialogue":
        return {"language": language, "messages": row["messages"], "reference": row["reference"] or ""}
    texts = judged_texts(row)
    return {"language": language, "instruction": row["instruction"], "texts": texts} if all(texts) else None


def combined(row: Row) -> Row:
    """What all judges say together: the columns of `records.JUDGED`, and as `passing` whether that may change."""
    heard = [one for name in sorted(row) if name.startswith("judgements_") for one in row[name]]
    whole = [one for one in heard if one["aspect"] != BY_TURN]
    judgements = _together(whole, len(judged_texts(row)))
    by_turn = [one for one in heard if one["aspect"] == BY_TURN]
    turns = _together(by_turn, len(by_turn[0]["ratings"])) if by_turn else None
    judges = dict.fromkeys(one["judge"] for one in whole if any(rating is not None for rating in one["ratings"]))
    return {
        "ratings": [judgement.rating for judgement in judgements],
        "confidence": [judgement.confidence for judgement in judgements],
        "rating_spread": [judgement.spread for judgement in judgements],
        "disagreement": [judgement.disagreement for judgement in judgements],
        "rationales": [judgement.rationale for judgement in judgements],
        "turn_ratings": None if turns is None else [turn.rating for turn in turns],
        "judge": " + ".join(judges) or None,
        "judgements": heard,
        "passing": any(row[name] for name in row if name.startswith("passing_")),
    }


def _together(heard: list[Row], count: int) -> list[Judgement]:
    opinions = [(one["judge"], one["aspect"], verdicts_in(one)) for one in heard]
    return [combine([Opinion(judge, aspect, said[n]) for judge, aspect, said in opinions]) for n in range(count)]


def _unfit(row: Row) -> str | None:
    """Why a judged row does not go on, or None."""
    if row["excess"]:
        return str(row["excess"])
    if row["judgements"] and all(rating is None for rating in row["ratings"]):
        return f"no judge could rate it: {last_fault(row)}"
    return None


def last_fault(row: Row) -> str:
    """Why the last judge could not rate the first text of a judged row, or the dialogue as a whole."""
    return next(str(one["faults"][0]) for one in reversed(row["judgements"]) if one["aspect"] != BY_TURN)
