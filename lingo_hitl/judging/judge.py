"""Stage `judge`: rows in, the same rows with ratings by models out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa

from lingo_hitl.config import JudgeConfig, LLMSpec
from lingo_hitl.errors import UserError
from lingo_hitl.generation.replies import alone
from lingo_hitl.judging.ensemble import Judgement, Opinion, combine
from lingo_hitl.judging.verdict import Verdict
from lingo_hitl.models.session import Session
from lingo_hitl.progress import progress
from lingo_hitl.records import JUDGED, Row, add_columns, dropped, judged_texts
from lingo_hitl.stages import Outcome, stage

if TYPE_CHECKING:
    from lingo_hitl.models.chat import ChatModel
    from lingo_hitl.models.local import LocalModel

CHUNK = 256  # rows between two steps of the progress bar
CORRECTNESS = "correctness"
View = dict[str, Any]
"""What a judge sees of a row: `language`, and `instruction` and `texts`, or `dialogue` and `reference`."""


@stage("judge", needs="generate")
def judge(rows: pa.Table, config: JudgeConfig, *, session: Session) -> Outcome:
    """Rate every judged text with every judge, and combine the ratings.

    Adds `records.JUDGED`: `ratings` (1 to 5, one for each judged text, null where no judge rated it),
    `confidence` (0 to 1), `rationales` and `judge`. Completions and outputs are rated on each aspect of
    the config, dialogues on correctness with the reference in view. A row that no judge could rate is
    dropped with the last judge's reason. Rows without a text to rate, and all rows where the config names
    no judge, go on with nulls.

    Raises:
        UserError: a judge that cannot be had, or that gives no probabilities where the config wants them.
    """
    started = time.monotonic()
    content: list[Row] = rows.to_pylist()
    views = {i: view for i, row in enumerate(content) if config.judges and (view := view_of(row)) is not None}
    opinions: dict[int, list[list[Opinion]]] = {i: [[] for _ in judged_texts(content[i])] for i in views}
    asked_twice = 0
    if views:
        models = [(spec, session.llm(spec)) for spec in config.judges]
        written = {id(llm): writes(spec, llm, config) for spec, llm in models}
        with progress("judging", len(models) * len(views)) as advance:
            for spec, llm in models:
                for chunk in _chunks(list(views)):
                    asked_twice += _hear(spec, llm, config, chunk, views, opinions, written=written[id(llm)])
                    advance(len(chunk))
    return _outcome(
        rows,
        content,
        opinions,
        {
            "asked again": asked_twice,
            "models": session.tally.models(),
            "seconds": round(time.monotonic() - started, 1),
        },
    )


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
        return {"language": language, "dialogue": judged_texts(row)[0], "reference": row["reference"] or ""}
    texts = judged_texts(row)
    return {"language": language, "instruction": row["instruction"], "texts": texts} if all(texts) else None


def _hear(
    spec: LLMSpec,
    llm: ChatModel,
    config: JudgeConfig,
    chunk: Sequence[int],
    views: dict[int, View],
    opinions: dict[int, list[list[Opinion]]],
    *,
    written: bool,
) -> int:
    """One judge's opinions on some rows; how many replies had to be asked for twice."""
    again = 0
    dialogues = [i for i in chunk if "dialogue" in views[i]]
    answers = [i for i in chunk if "dialogue" not in views[i]]
    for aspect, places in [*((aspect, answers) for aspect in config.aspects), (CORRECTNESS, dialogues)]:
        seen = [views[i] for i in places]
        if not seen:
            continue
        verdicts, twice = _rate(llm, seen, aspect, written=written)
        again += twice
        for i, given in zip(places, verdicts, strict=True):
            for about, verdict in zip(opinions[i], given, strict=True):
                about.append(Opinion(spec.label, aspect, verdict))
    return again


def _rate(llm: ChatModel, views: Sequence[View], aspect: str, *, written: bool) -> tuple[list[list[Verdict]], int]:
    if not written:
        from lingo_hitl.judging.probabilities import rate_by_probabilities

        return rate_by_probabilities(cast("LocalModel", llm), views, aspect=aspect), 0
    from lingo_hitl.judging.written import Correctness, UltraFeedback, rate_written

    task = alone(Correctness, llm) if aspect == CORRECTNESS else alone(UltraFeedback, llm, aspect=aspect)
    return rate_written(task, views)


def _outcome(
    rows: pa.Table, content: Sequence[Row], opinions: dict[int, list[list[Opinion]]], report: dict[str, Any]
) -> Outcome:
    kept: list[int] = []
    columns: list[Row] = []
    bad: list[Row] = []
    for i, row in enumerate(content):
        heard = opinions.get(i)
        judgements = [combine(about) for about in heard] if heard else [Judgement() for _ in judged_texts(row)]
        if heard and all(judgement.rating is None for judgement in judgements):
            bad.append(dropped(row, f"no judge could rate it: {heard[0][-1].verdict.fault}"))
            continue
        kept.append(i)
        columns.append(_columns(judgements, heard or []))
    ratings = [rating for column in columns for rating in column["ratings"] if rating is not None]
    told = {
        "texts rated": len(ratings),
        "texts without a rating": sum(rating is None for column in columns for rating in column["ratings"]),
        "mean rating": round(sum(ratings) / len(ratings), 3) if ratings else None,
        **report,
    }
    return Outcome(add_columns(rows.take(pa.array(kept, pa.int64())), columns, JUDGED), bad, told)


def _columns(judgements: Sequence[Judgement], heard: Sequence[Sequence[Opinion]]) -> Row:
    judges = dict.fromkeys(o.judge for about in heard for o in about if o.verdict.rating is not None)
    return {
        "ratings": [judgement.rating for judgement in judgements],
        "confidence": [judgement.confidence for judgement in judgements],
        "rationales": [judgement.rationale for judgement in judgements],
        "judge": " + ".join(judges) or None,
    }


def _chunks(places: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(places), CHUNK):
        yield places[start : start + CHUNK]
