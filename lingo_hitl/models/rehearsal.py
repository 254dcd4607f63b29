"""What a run would ask of each model, found by running its flow on some rows with made-up replies.

No call is made. What the journal has is used as it is; in the place of anything else stands a text of the
length that is to be expected, or an object that fits the JSON Schema, so that the flow goes its usual way.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any

from lingo_hitl.llm_config import BudgetConfig, LLMSpec, Quota
from lingo_hitl.models.completion import Completion
from lingo_hitl.models.flow import Flow
from lingo_hitl.models.journal import Journal
from lingo_hitl.models.keys import BYTES_PER_TOKEN, request_size
from lingo_hitl.models.loop import submit
from lingo_hitl.models.session import Session
from lingo_hitl.records import Row

if TYPE_CHECKING:
    from lingo_hitl.models.chat import ChatModel, Request, Sampling

ASSUMED_SHARE = 0.5
"""Of max_new_tokens, where the journal knows no reply of a model."""
ASSUMED_SECONDS = 2.0
"""That a call takes, likewise."""
ENOUGH = 3
"""Replies from which a mean is taken."""


@dataclass
class Asked:
    """What one row asked of one model; `known` of the calls are in the journal."""

    calls: float = 0
    known: float = 0
    input_tokens: float = 0.0
    output_tokens: float = 0.0
    new_input_tokens: float = 0.0  # of the calls that are not known
    new_output_tokens: float = 0.0


@dataclass
class Sums:
    """Sums of what the journal's completions had, as far as the rehearsed rows met them."""

    replies: int = 0
    bytes: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0

    def add(self, size: int, completion: Completion) -> None:
        self.replies += 1
        self.bytes += size
        self.input_tokens += completion.input_tokens
        self.output_tokens += completion.output_tokens
        self.seconds += completion.seconds


@dataclass
class Rehearsed:
    """What some rows asked, row by row and model by model, and which means that rests on."""

    rows: list[dict[str, Asked]] = field(default_factory=list)
    models: dict[str, ChatModel] = field(default_factory=dict)

    def known(self) -> list[bool]:
        """Whether the journal has all that a row asks for."""
        return [all(asked.known == asked.calls for asked in row.values()) for row in self.rows]


class Rehearsal(Session):
    """A session whose models are never called."""

    def __init__(self, journal: Journal, *, quotas: Mapping[str, Quota], budget: BudgetConfig) -> None:
        # Prices are asked for afterwards: one that is missing is no reason not to count the calls.
        super().__init__(journal, quotas=quotas, budget=budget.model_copy(update={"max_cost": None}), offline=True)
        self.sums: defaultdict[str, Sums] = defaultdict(Sums)  # by model
        self._by_sampling: defaultdict[tuple[str, float, int], Sums] = defaultdict(Sums)
        self._before = journal.means()
        self._row: dict[str, Asked] = {}
        self._models: dict[str, ChatModel] = {}

    def llm(self, spec: LLMSpec) -> ChatModel:
        """The model, not loaded."""
        model = super().llm(spec)
        self._models.setdefault(spec.portable, model)
        return model

    def run(self, flow: Flow, rows: Iterable[Row]) -> Rehearsed:
        """Take rows through a flow, one after another.

        Raises:
            UserError: a model that is not known, or whose package is not installed.
        """
        work = flow.start(self)
        rehearsed = Rehearsed(models=self._models)
        for row in rows:
            self._row = {}
            submit(_one(work, dict(row))).result()
            rehearsed.rows.append(self._row)
        return rehearsed

    async def once(self, key: bytes, model: ChatModel, request: Request, sampling: Sampling) -> Completion:
        """What the journal has, or something made up; it is counted for the row either way."""
        name, size = model.spec.portable, request_size(request.messages)
        asked = self._row.setdefault(name, Asked())
        asked.calls += 1
        sums = self._by_sampling[name, sampling.temperature, sampling.max_new_tokens]
        if (known := self.journal.get(key)) is not None:
            self.sums[name].add(size, known)
            sums.add(size, known)
            asked.known += 1
            asked.input_tokens += known.input_tokens
            asked.output_tokens += known.output_tokens
            return known
        made = self._made_up(key, name, size, sums, sampling)
        asked.input_tokens += made.input_tokens
        asked.output_tokens += made.output_tokens
        asked.new_input_tokens += made.input_tokens
        asked.new_output_tokens += made.output_tokens
        return made

    def seconds(self, model: str) -> float | None:
        """How long a call of a model takes in the mean; None where the journal does not know."""
        if (sums := self.sums[model]).replies >= ENOUGH:
            return sums.seconds / sums.replies
        before = self._before.get(model)
        return before.seconds if before and before.replies >= ENOUGH else None

    def knows(self, model: str) -> bool:
        """Whether the lengths of its replies are means of what is in the journal."""
        before = self._before.get(model)
        return self.sums[model].replies >= ENOUGH or bool(before and before.replies >= ENOUGH)

    def _made_up(self, key: bytes, name: str, size: int, sums: Sums, sampling: Sampling) -> Completion:
        before = self._before.get(name)
        if sums.replies >= ENOUGH:
            length = sums.output_tokens / sums.replies
        elif before and before.replies >= ENOUGH:
            length = min(before.output_tokens, sampling.max_new_tokens)
        else:
            length = ASSUMED_SHARE * sampling.max_new_tokens
        of_model = self.sums[name]
        measured = of_model.replies >= ENOUGH and of_model.input_tokens > 0
        per_token = of_model.bytes / of_model.input_tokens if measured else BYTES_PER_TOKEN
        text = _text(key, int(length * per_token))
        if sampling.schema is not None:
            text = json.dumps(_fitting(json.loads(sampling.schema), text), ensure_ascii=False)
        return Completion(text, input_tokens=round(size / per_token), output_tokens=round(length))


async def _one(work: Any, row: Row) -> Row:
    done: Row = await work(row)
    return done


def _text(key: bytes, size: int) -> str:
    """Words that no other text has, as a question: what a user asks may not be anything else."""
    drawn = random.Random(key)
    words: list[str] = []
    length = 0
    while length < size - 1 or len(words) < 3:
        # Letters, and not syllables of a small set: two texts of those would pass for copies of each other.
        words.append("".join(drawn.choices(ascii_lowercase, k=drawn.randint(3, 9))))
        length += len(words[-1]) + 1
    return f"{' '.join(words)}?"


def _fitting(schema: dict[str, Any], text: str) -> Any:
    """Something that fits a JSON Schema of the kinds that judges use."""
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type")
    if kind == "object":
        properties = schema.get("properties", {})
        return {name: _fitting(inner, text[: len(text) // len(properties)]) for name, inner in properties.items()}
    if kind == "array":
        return [_fitting(schema.get("items", {}), text) for _ in range(schema.get("minItems", 1))]
    if kind in ("integer", "number"):
        return schema.get("minimum", 1)
    return kind == "boolean" or text
