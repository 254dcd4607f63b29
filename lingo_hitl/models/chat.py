"""A distilabel LLM with the journal in between: what every provider here is.

`ChatModel` works in any distilabel Task, alone or in a Pipeline. A provider says how a list of requests
is answered (`_ask`); replaying, storing and the order of results are settled here.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from distilabel.models.llms.base import LLM
from pydantic import Field, SkipValidation

from lingo_hitl.config import LLMSpec
from lingo_hitl.errors import UserError
from lingo_hitl.models.journal import Completion, Journal, completion_key

if TYPE_CHECKING:
    import numpy as np
    from distilabel.typing import FormattedInput, GenerateOutput

Conversation = list[dict[str, str]]


@dataclass(frozen=True)
class Sampling:
    """How a text is drawn; part of the journal's key."""

    temperature: float
    top_p: float
    top_k: int | None
    max_new_tokens: int
    seed: int


@dataclass(frozen=True)
class Request:
    """One text to be written: the conversation so far, and which of the answers to it (0, 1, ...)."""

    messages: Conversation
    sample: int


Done = Callable[[int, Completion], None]
"""Called with a request's position and its completion as soon as that exists; it is on disk on return."""


class ChatModel(LLM):
    """A language model that never asks twice for what it was told once.

    In a Task's output, `distilabel_metadata["statistics_<task>"]["finish_reason"]` says for each
    generation how it ended: "stop", "length", or, where the generation is None, why there is none.

    Attributes:
        spec: which model, and how it samples. A system prompt there goes before conversations that
            have none of their own.
        journal: where completions are kept.
        first_sample: the number of the first sample that is asked for; see `further`.
    """

    spec: LLMSpec
    journal: SkipValidation[Journal] = Field(default_factory=Journal.in_memory, exclude=True, repr=False)
    first_sample: int = 0

    gives_probabilities: ClassVar[bool] = False
    """Whether `choice_probabilities` works."""
    _unpicklable: ClassVar[tuple[str, ...]] = ()

    @property
    def model_name(self) -> str:
        """The name of this model in records."""
        return self.spec.label

    def further(self, sample: int) -> ChatModel:
        """The same model, whose answers to a conversation are numbers `sample`, `sample` + 1, ..."""
        return self.model_copy(update={"first_sample": sample})

    def complete(
        self,
        conversations: Sequence[FormattedInput],
        *,
        num_generations: int = 1,
        first_sample: int | None = None,
        max_new_tokens: int | None = None,
        temperature: float | None = None,
    ) -> list[list[Completion]]:
        """`num_generations` completions for each conversation, in the order given.

        Those in the journal are replayed; the others are asked for together, and each is on disk before
        this returns. Equal conversations get equal completions. Arguments left out are the spec's.

        Raises:
            UserError: nothing can be had from the model at all (no key, no server); what was complete by
                then is in the journal, and a rerun goes on from there.
        """
        sampling = self._sampling(max_new_tokens, temperature)
        start = self.first_sample if first_sample is None else first_sample
        requests = [
            Request(messages, start + sample)
            for messages in map(self._messages, conversations)
            for sample in range(num_generations)
        ]
        keys = [self._key(request, sampling) for request in requests]
        first_with = {key: place for place, key in reversed(list(enumerate(keys)))}
        known = {key: found for key in first_with if (found := self.journal.get(key)) is not None}
        missing = sorted(place for key, place in first_with.items() if key not in known)

        def done(position: int, completion: Completion) -> None:
            key = keys[missing[position]]
            known[key] = _tidied(completion)
            self.journal.put(key, known[key], model=self.spec.model)

        if missing:
            self._ask([requests[place] for place in missing], sampling, done)
        completions = [known[key] for key in keys]
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

    def choice_probabilities(
        self, conversations: Sequence[FormattedInput], choices: Sequence[str], *, prefix: str = ""
    ) -> np.ndarray:
        """How likely each choice is as the next words; only models on this machine can tell.

        Raises:
            UserError: this model gives texts only.
        """
        raise UserError(
            f"{self.spec.model} gives texts, not probabilities: expected packaged/... or transformers/... "
            "where probabilities are asked for. Use such a judge, or judge.method: text."
        )

    @abstractmethod
    def _ask(self, requests: Sequence[Request], sampling: Sampling, done: Done) -> None:
        """Answer every request, in any order, calling `done` for each once; `done` is thread-safe."""

    def _sampling(self, max_new_tokens: int | None, temperature: float | None) -> Sampling:
        spec = self.spec
        return Sampling(
            temperature=spec.temperature if temperature is None else temperature,
            top_p=spec.top_p,
            top_k=spec.top_k,
            max_new_tokens=max_new_tokens or spec.max_new_tokens,
            seed=spec.seed,
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
        where = f"{self.spec.model} {self.spec.base_url or ''}"
        return completion_key(where, request.messages, vars(sampling), request.sample)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """distilabel copies its steps; clients, weights and the journal are shared by the copies."""
        return self.model_copy(update={"generation_kwargs": dict(self.generation_kwargs or {})})

    def __getstate__(self) -> dict[Any, Any]:
        """distilabel's Pipeline sends the model to another process, where `load` makes the rest anew."""
        state = super().__getstate__()
        private = {**(state.get("__pydantic_private__") or {}), **dict.fromkeys(self._unpicklable)}
        return {**state, "__pydantic_private__": private}


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
