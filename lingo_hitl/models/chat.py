"""A distilabel LLM with the journal in between: what every provider here is.

`ChatModel` works in any distilabel Task, alone or in a Pipeline, and can be awaited call by call. A
provider says how one request is answered (`_answer`); replaying and storing are settled by the session.
"""

from __future__ import annotations

import asyncio
import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from distilabel.models.llms.base import LLM
from pydantic import Field, SkipValidation

from lingo_hitl.config import LLMSpec
from lingo_hitl.errors import UserError
from lingo_hitl.models.journal import Completion, completion_key
from lingo_hitl.models.loop import submit
from lingo_hitl.models.session import Session

if TYPE_CHECKING:
    import numpy as np
    from distilabel.typing import FormattedInput, GenerateOutput

Conversation = list[dict[str, str]]
Schema = Mapping[str, Any]
"""JSON Schema that a reply is to follow."""


@dataclass(frozen=True)
class Sampling:
    """How a text is drawn; part of the journal's key."""

    temperature: float
    top_p: float
    top_k: int | None
    max_new_tokens: int
    seed: int
    schema: str | None = None  # JSON Schema that the text is to follow, as JSON


@dataclass(frozen=True)
class Request:
    """One text to be written: the conversation so far, and which of the answers to it (0, 1, ...)."""

    messages: Conversation
    sample: int


class ChatModel(LLM):
    """A language model that never asks twice for what it was told once.

    In a Task's output, `distilabel_metadata["statistics_<task>"]["finish_reason"]` says for each
    generation how it ended: "stop", "length", or, where the generation is None, why there is none.

    Attributes:
        spec: which model, and how it samples. A system prompt there goes before conversations that
            have none of their own.
        session: where completions are kept, and what the run's models share.
        first_sample: the number of the first sample that is asked for; see `further`.
    """

    spec: LLMSpec
    session: SkipValidation[Session] = Field(default_factory=Session.in_memory, exclude=True, repr=False)
    first_sample: int = 0

    gives_probabilities: ClassVar[bool] = False
    """Whether `choice_probabilities` works."""
    writes_json: ClassVar[bool] = False
    """Whether a reply can be held to a JSON Schema; elsewhere `schema` is passed over."""
    _unpicklable: ClassVar[tuple[str, ...]] = ()

    @property
    def model_name(self) -> str:
        """The name of this model in records."""
        return self.spec.label

    def further(self, sample: int) -> ChatModel:
        """The same model, whose answers to a conversation are numbers `sample`, `sample` + 1, ..."""
        return self.model_copy(update={"first_sample": sample})

    async def acomplete(
        self,
        conversation: FormattedInput,
        *,
        sample: int = 0,
        max_new_tokens: int | None = None,
        temperature: float | None = None,
        schema: Schema | None = None,
    ) -> Completion:
        """One completion: replayed where the journal has it, else asked for, and on disk before this returns.

        Arguments left out are the spec's. To be awaited on the models' event loop (`models.loop`).

        Raises:
            UserError: nothing can be had from the model at all (no key, no server); what was complete by
                then is in the journal, and a rerun goes on from there.
        """
        sampling = self._sampling(max_new_tokens, temperature, schema)
        request = Request(self._messages(conversation), sample)
        return await self.session.once(self._key(request, sampling), self, request, sampling)

    async def answer(self, request: Request, sampling: Sampling) -> Completion:
        """A completion from the model itself, whatever the journal has; for the session to call."""
        return _tidied(await self._answer(request, sampling))

    async def achoice_probabilities(
        self, conversation: FormattedInput, choices: Sequence[str], *, prefix: str = ""
    ) -> np.ndarray:
        """How likely each choice is as the next words, float64 [choices]; only models on this machine can tell.

        Raises:
            UserError: this model gives texts only.
        """
        raise UserError(
            f"{self.spec.model} gives texts, not probabilities: expected packaged/... or transformers/... "
            "where probabilities are asked for. Use such a judge, or judge.method: text."
        )

    def complete(
        self,
        conversations: Sequence[FormattedInput],
        *,
        num_generations: int = 1,
        first_sample: int | None = None,
        max_new_tokens: int | None = None,
        temperature: float | None = None,
    ) -> list[list[Completion]]:
        """`num_generations` completions for each conversation, in the order given; waits for all of them.

        Raises:
            UserError: as `acomplete`.
        """
        start = self.first_sample if first_sample is None else first_sample

        async def all_of_them() -> list[Completion]:
            calls = [
                self.acomplete(conversation, sample=start + n, max_new_tokens=max_new_tokens, temperature=temperature)
                for conversation in conversations
                for n in range(num_generations)
            ]
            results = await asyncio.gather(*calls, return_exceptions=True)
            return [_or_raise(result) for result in results]

        completions = submit(all_of_them()).result()
        return [completions[i : i + num_generations] for i in range(0, len(completions), num_generations)]

    def generate(
        self,
        inputs: list[FormattedInput],
        num_generations: int = 1,
        max_new_tokens: int | None = None,
        temperature: float | None = None,
    ) -> list[GenerateOutput]:
        """What distilabel's Tasks call; `complete` in distilabel's form.

        Args:
            inputs: conversations.
            num_generations: samples for each conversation.
            max_new_tokens: longest completion in tokens; the spec's where absent.
            temperature: sampling temperature; the spec's where absent.
        """
        groups = self.complete(
            inputs, num_generations=num_generations, max_new_tokens=max_new_tokens, temperature=temperature
        )
        return [
            {
                "generations": [completion.text for completion in group],
                "statistics": {
                    "input_tokens": [completion.input_tokens for completion in group],
                    "output_tokens": [completion.output_tokens for completion in group],
                    "finish_reason": [completion.finish for completion in group],
                    "note": [completion.note for completion in group],
                },
            }
            for group in groups
        ]

    @abstractmethod
    async def _answer(self, request: Request, sampling: Sampling) -> Completion:
        """What the model says; a failure that concerns this request alone is a completion without a text."""

    def _identity(self) -> str:
        """What stands for the model in the journal's key: the same wherever the project lies."""
        return self.spec.model

    def _sampling(self, max_new_tokens: int | None, temperature: float | None, schema: Schema | None) -> Sampling:
        spec = self.spec
        held = schema is not None and self.writes_json
        return Sampling(
            temperature=spec.temperature if temperature is None else temperature,
            top_p=spec.top_p,
            top_k=spec.top_k,
            max_new_tokens=max_new_tokens or spec.max_new_tokens,
            seed=spec.seed,
            schema=json.dumps(schema, ensure_ascii=False, sort_keys=True) if held else None,
        )

    def _messages(self, conversation: FormattedInput) -> Conversation:
        if isinstance(conversation, str):
            conversation = [{"role": "user", "content": conversation}]
        if isinstance(conversation, tuple) or any(not isinstance(m["content"], str) for m in conversation):
            raise UserError(
                f"{self.model_name}: structured output and images are not supported; expected text messages."
            )
        messages = [{"role": m["role"], "content": _writable(m["content"])} for m in conversation]
        if self.spec.system_prompt and not any(m["role"] == "system" for m in messages):
            messages.insert(0, {"role": "system", "content": self.spec.system_prompt})
        return messages

    def _key(self, request: Request, sampling: Sampling) -> bytes:
        # The name is only a label: calling a model otherwise must not cost its completions.
        where = f"{self._identity()} {self.spec.base_url or ''}"
        return completion_key(where, request.messages, vars(sampling), request.sample)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """distilabel copies its steps; clients, weights and the session are shared by the copies."""
        return self.model_copy(update={"generation_kwargs": dict(self.generation_kwargs or {})})

    def __getstate__(self) -> dict[Any, Any]:
        """distilabel's Pipeline sends the model to another process, where `load` makes the rest anew."""
        state = super().__getstate__()
        private = {**(state.get("__pydantic_private__") or {}), **dict.fromkeys(self._unpicklable)}
        return {**state, "__pydantic_private__": private}


def _or_raise(result: Completion | BaseException) -> Completion:
    if isinstance(result, BaseException):
        raise result
    return result


def _tidied(completion: Completion) -> Completion:
    """The completion as it can be stored, with an empty text as no text."""
    if completion.text is None:
        return completion
    text = _writable(completion.text)
    if not text.strip():
        return replace(completion, text=None, finish="empty reply")
    return replace(completion, text=text)


def _writable(text: str) -> str:
    """Lone surrogates, which no file and no request can hold, become question marks."""
    return text.encode("utf-8", "replace").decode()
