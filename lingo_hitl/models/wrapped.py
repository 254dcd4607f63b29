"""Any distilabel LLM with the journal in between."""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import Any, ClassVar

from distilabel.models.llms.base import LLM, AsyncLLM
from pydantic import Field, PrivateAttr

from lingo_hitl.models.chat import ChatModel, Request, Sampling
from lingo_hitl.models.completion import Completion
from lingo_hitl.models.loop import Batcher

SIDE_BY_SIDE = 16
"""Requests under way at once for a model that has no keys, where the config does not say how many."""


class WrappedModel(ChatModel):
    """A distilabel LLM whose completions are kept one by one.

    An error on one request gives no text and the reason for that one alone, and is asked again by the
    next run.

    Attributes:
        inner: the LLM that is asked.
    """

    inner: LLM = Field(exclude=True, repr=False)

    _room: asyncio.Semaphore | None = PrivateAttr(None)
    _batcher: Batcher[tuple[Request, Sampling], Completion] | None = PrivateAttr(None)
    _unpicklable: ClassVar[tuple[str, ...]] = ("_room", "_batcher")

    def load(self) -> None:
        super().load()
        self._room = asyncio.Semaphore(self.spec.in_flight or SIDE_BY_SIDE)
        self._batcher = Batcher(self._in_batch, most=self.spec.batch_size)
        self.inner.load()

    def unload(self) -> None:
        self.inner.unload()

    async def _answer(self, request: Request, sampling: Sampling) -> Completion:
        usage = self.session.tally.of(self.spec.portable)
        if isinstance(self.inner, AsyncLLM):
            completion = await self._alone(self.inner, request, sampling)
        else:
            assert self._batcher is not None
            completion = await self._batcher((request, sampling))
        if completion.lasting:
            usage.came(completion)
        else:
            usage.failed += 1
        return completion

    async def _alone(self, inner: AsyncLLM, request: Request, sampling: Sampling) -> Completion:
        assert self._room is not None
        async with self._room:
            started = time.monotonic()
            try:
                output = await inner.agenerate(
                    input=request.messages, num_generations=1, **known_arguments(inner.agenerate, sampling)
                )
            except Exception as error:
                words = " ".join(str(error).split())[:200]
                return Completion.failed(f"{type(error).__name__}: {words}", seconds=time.monotonic() - started)
            return read_output(output, sampling, seconds=time.monotonic() - started)

    def _in_batch(self, asked: list[tuple[Request, Sampling]]) -> list[Completion]:
        completions: dict[int, Completion] = {}
        for sampling in dict.fromkeys(sampling for _, sampling in asked):
            places = [place for place, (_, own) in enumerate(asked) if own == sampling]
            started = time.monotonic()
            outputs = self.inner.generate_outputs(
                inputs=[asked[place][0].messages for place in places],
                num_generations=1,
                **known_arguments(self.inner.generate, sampling),
            )
            seconds = (time.monotonic() - started) / len(places)
            for place, output in zip(places, outputs, strict=True):
                completions[place] = read_output(output, sampling, seconds=seconds)
        return [completions[place] for place in range(len(asked))]


def known_arguments(function: Any, sampling: Sampling) -> dict[str, Any]:
    """The sampling parameters that an LLM takes; OpenAI's takes top_k only for servers that know it."""
    known = inspect.signature(function).parameters
    wanted: dict[str, Any] = {
        "max_new_tokens": sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
    }
    arguments = {name: value for name, value in wanted.items() if name in known and value is not None}
    if sampling.top_k and "top_k" not in known and "extra_body" in known:
        arguments["extra_body"] = {"top_k": sampling.top_k}
    return arguments


def read_output(output: Any, sampling: Sampling, *, seconds: float = 0.0) -> Completion:
    """One generation of a distilabel LLM, which does not say how it ended: a full length means cut."""
    text = output["generations"][0] if output["generations"] else None
    statistics = output.get("statistics") or {}
    counts: dict[str, Any] = {name: (statistics.get(name) or [0])[0] or 0 for name in ("input_tokens", "output_tokens")}
    if text is None:
        return Completion(None, "no text in the reply", seconds=seconds, **counts)
    cut = counts["output_tokens"] >= sampling.max_new_tokens
    return Completion(text, "length" if cut else "stop", seconds=seconds, **counts)
