"""Several completions of one prompt: a pool of models, one rewrite, and where asked for the corpus's own output.

    load >> [answer(model) for model in pool] >> group >> apart >> evolve

Two completions of a prompt are never near-copies of each other: whoever says what stands there already is
asked for other samples, and left out where it says it again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lingo_hitl.config import Evolve, PreferenceConfig
from lingo_hitl.errors import UserError
from lingo_hitl.generation.prompts import PROMPTS, check_prompts
from lingo_hitl.generation.replies import Reply, alone, ask, same_text
from lingo_hitl.llm_config import LLMSpec
from lingo_hitl.models.flow import Flow, Plain, Step, Work, load
from lingo_hitl.models.session import Session
from lingo_hitl.records import Row, dropped, identified

if TYPE_CHECKING:
    from distilabel.steps.tasks.base import Task

MOST = 4  # completions of one prompt; the labelling template has no more fields
REFERENCE = "reference"  # who wrote the corpus's own output
GRAM = 3  # characters; what near-copies share
COPY = "a near-copy of another completion"


def preference(config: PreferenceConfig) -> Flow:
    """From a corpus row to its completions: adds `written` (each a text, its model, its parent) and `faults`.

    Raises:
        UserError: the rows could never have 2 to 4 completions.
    """
    check_size(config)
    flow = load >> [Answer(n, spec) for n, spec in enumerate(config.pool)] >> Group(config.include_reference)
    flow = flow >> Apart(tuple(config.pool), config.near_copy, config.resamples)
    return flow >> Rewritten(config.evolve, config.near_copy, config.resamples) if config.evolve else flow


def check_size(config: PreferenceConfig) -> None:
    """Refuse a config whose rows could never have 2 to 4 completions.

    Raises:
        UserError: fewer or more.
    """
    size = len(config.pool) + (config.evolve is not None) + config.include_reference
    if not 2 <= size <= MOST:
        raise UserError(
            f"generate.preference: pool, evolve and include_reference make {size} completions of a prompt; "
            f"expected 2 to {MOST}. Change the pool."
        )


@dataclass(frozen=True)
class Answer(Step):
    """One model answers the prompt; adds `answer_<n>`."""

    n: int
    spec: LLMSpec

    @property
    def models(self) -> tuple[LLMSpec, ...]:
        return (self.spec,)

    def start(self, session: Session) -> Work:
        task = _text_generation(self.spec, session)

        async def answer(row: Row) -> Row:
            reply = await ask(task, row, refuse=_refuse)
            told = {"text": reply.text, "model": self.spec.label, "fault": reply.fault, "sample": reply.sample}
            return {f"answer_{self.n}": told}

        return answer


@dataclass(frozen=True)
class Group(Step):
    """What the pool said, in one list, after the corpus's own output where that joins in."""

    include_reference: bool

    def start(self, session: Session) -> Work:
        return Plain(self._group).start(session)

    def _group(self, row: Row) -> Row:
        answers = [row[name] for name in sorted(name for name in row if name.startswith("answer_"))]
        written = [
            {"text": a["text"], "model": a["model"], "parent": None, "pool": n, "sample": a["sample"]}
            for n, a in enumerate(answers)
        ]
        if self.include_reference and row["output"]:
            reference = {"text": row["output"], "model": REFERENCE, "parent": None, "pool": None, "sample": None}
            written.insert(0, reference)
        faults = [f"{a['model']}: {a['fault']}" for a in answers if a["text"] is None]
        return {"written": [w for w in written if w["text"] is not None], "faults": faults}


@dataclass(frozen=True)
class Apart(Step):
    """Whoever wrote a near-copy of a completion before it is asked for other samples, or left out."""

    pool: tuple[LLMSpec, ...]
    near_copy: float
    resamples: int

    @property
    def models(self) -> tuple[LLMSpec, ...]:
        return self.pool

    def start(self, session: Session) -> Work:
        tasks = [_text_generation(spec, session) for spec in self.pool]

        async def apart(row: Row) -> Row:
            kept: list[Row] = []
            faults = list(row["faults"])
            for one in row["written"]:
                if one["pool"] is None or not _is_copy(one["text"], kept, self.near_copy):
                    kept.append(one)
                    continue
                reply = await self._again(tasks[one["pool"]], row, kept, first_sample=one["sample"] + 1)
                if reply.text is None:
                    faults.append(f"{one['model']}: {reply.fault}")
                else:
                    kept.append({**one, "text": reply.text})
            return {"written": kept, "faults": faults}

        return apart

    async def _again(self, task: Task, row: Row, kept: Sequence[Row], *, first_sample: int) -> Reply:
        def refuse(view: Row, text: str) -> str | None:
            return COPY if _is_copy(text, kept, self.near_copy) else _refuse(view, text)

        if task.llm.spec.temperature == 0 or not self.resamples:
            return Reply(None, COPY)
        return await ask(task, row, refuse=refuse, first_sample=first_sample, samples=self.resamples)


@dataclass(frozen=True)
class Rewritten(Step):
    """EvolQuality: the first completion by a model, rewritten `times` times.

    The last rewrite that could be used joins, with its parent named.
    """

    config: Evolve
    near_copy: float
    resamples: int

    @property
    def models(self) -> tuple[LLMSpec, ...]:
        return (self.config.llm,)

    def start(self, session: Session) -> Work:
        from lingo_hitl.generation.rewrite import Rewrite

        if self.config.prompts:
            check_prompts(self.config.prompts, PROMPTS, key="evolve.prompts")
        task = alone(Rewrite, session.llm(self.config.llm), prompts=self.config.prompts)
        label = f"{self.config.llm.label}+evolquality"

        async def evolve(row: Row) -> Row:
            parent = next((place for place, w in enumerate(row["written"]) if w["model"] != REFERENCE), None)
            if parent is None:
                return {}
            text = original = row["written"][parent]["text"]
            for _ in range(self.config.times):
                reply = await ask(task, {**row, "response": text}, refuse=self._refuse, samples=1 + self.resamples)
                if reply.text is None:
                    break
                text = reply.text
            if text == original:
                return {"faults": [*row["faults"], f"{label}: {reply.fault}"]}
            rewrite = {"text": text, "model": label, "parent": original, "pool": None, "sample": None}
            return {"written": [*row["written"], rewrite]}

        return evolve

    def _refuse(self, view: Row, text: str) -> str | None:
        if any(mark in text.lower() for mark in ("#given ", "#rewritten ", "#주어진 ", "#고친 ")):
            return "repeats the rewriting prompt"
        return COPY if _is_copy(text, view["written"], self.near_copy) else _refuse(view, text)


def finished(row: Row) -> tuple[Row | None, Row | None, int]:
    """A row of task "preference" or a dropped one, and how many completions were left out.

    The order of a row's completions is that of a hash of their texts, so that place says nothing about
    the model; `models` tells who wrote each, `parents` which other one it is a rewrite of.
    """
    written = sorted(row["written"], key=lambda one: _place(row, one["text"]))
    texts = [one["text"] for one in written]
    grown = {
        "task": "preference",
        "seed": row["id"],
        **{key: row[key] for key in ("source", "source_id", "language", "instruction")},
        "reference": row["output"] or None,
        "completions": texts,
        "models": [one["model"] for one in written],
        "parents": [texts.index(one["parent"]) if one["parent"] in texts else None for one in written],
    }
    if len(written) < 2:
        why = f" ({row['faults'][-1]})" if row["faults"] else ""
        reason = f"fewer than 2 different completions{why}"
        return None, dropped({**grown, "id": row["id"]}, reason), len(row["faults"])
    return identified(grown), None, len(row["faults"])


def similarity(one: str, other: str) -> float:
    """How alike two texts are, 0 to 1: the Jaccard similarity of their character 3-grams, white space and case aside.

    (Broder, 1997.) Texts too short for that are alike only where they are the same.
    """
    if same_text(one, other):
        return 1.0
    a, b = _grams(one), _grams(other)
    return len(a & b) / len(a | b) if a and b else 0.0


def _grams(text: str) -> set[str]:
    bare = "".join(text.casefold().split())
    return {bare[i : i + GRAM] for i in range(len(bare) - GRAM + 1)}


def _is_copy(text: str, others: Sequence[Row], limit: float) -> bool:
    return any(similarity(text, other["text"]) >= limit for other in others)


def _text_generation(spec: LLMSpec, session: Session) -> Task:
    from distilabel.steps.tasks import TextGeneration

    return alone(TextGeneration, session.llm(spec))


def _refuse(view: Row, text: str) -> str | None:
    return "only repeats the prompt" if same_text(text, view["instruction"]) else None


def _place(row: Row, text: str) -> bytes:
    return hashlib.blake2b(f"{row['id']}\0{text}".encode("utf-8", "replace"), digest_size=8).digest()
