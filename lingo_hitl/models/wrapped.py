"""Any distilabel LLM with the journal in between, OpenAI's and OpenAI-compatible servers among them."""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
import time
from collections.abc import Sequence
from typing import Any, ClassVar

from distilabel.models.llms.base import LLM, AsyncLLM
from pydantic import Field, PrivateAttr, SecretStr

from lingo_hitl.config import LLMSpec
from lingo_hitl.errors import UserError
from lingo_hitl.models.chat import ChatModel, Done, Request, Sampling
from lingo_hitl.models.journal import Completion, Journal
from lingo_hitl.models.keys import keys_from_environment

SIDE_BY_SIDE = 16  # requests under way at once


class WrappedModel(ChatModel):
    """A distilabel LLM whose completions are kept one by one.

    An error on one request gives no text and the reason for that one alone, and is asked again by the
    next run; a refused key, an unknown model and a server that cannot be reached stop the run.

    Attributes:
        inner: the LLM that is asked.
    """

    inner: LLM = Field(exclude=True, repr=False)

    _lock: threading.Lock = PrivateAttr(default_factory=threading.Lock)
    _unpicklable: ClassVar[tuple[str, ...]] = ("_lock",)

    def load(self) -> None:
        super().load()
        self._lock = threading.Lock()
        self.inner.load()

    def unload(self) -> None:
        self.inner.unload()

    def _ask(self, requests: Sequence[Request], sampling: Sampling, done: Done) -> None:
        with self._lock:
            if isinstance(self.inner, AsyncLLM):
                self.inner.event_loop.run_until_complete(self._ask_all(self.inner, requests, sampling, done))
            else:
                self._ask_in_batches(requests, sampling, done)

    async def _ask_all(self, inner: AsyncLLM, requests: Sequence[Request], sampling: Sampling, done: Done) -> None:
        free = asyncio.Semaphore(SIDE_BY_SIDE)
        arguments = _known_arguments(inner.agenerate, sampling)
        fault: UserError | None = None

        async def ask(position: int, request: Request) -> None:
            nonlocal fault
            async with free:
                if fault is not None:
                    return
                started = time.monotonic()
                try:
                    output = await inner.agenerate(input=request.messages, num_generations=1, **arguments)
                except Exception as error:
                    fault = fault or self._fault(error)
                    if fault is None:
                        reason = f"{type(error).__name__}: {self._in_words(error)}"
                        done(position, Completion.failed(reason, seconds=time.monotonic() - started))
                else:
                    done(position, _read(output, sampling, seconds=time.monotonic() - started))

        await asyncio.gather(*(ask(i, request) for i, request in enumerate(requests)))
        if fault is not None:
            raise fault

    def _ask_in_batches(self, requests: Sequence[Request], sampling: Sampling, done: Done) -> None:
        arguments = _known_arguments(self.inner.generate, sampling)
        for start in range(0, len(requests), self.spec.batch_size):
            batch = requests[start : start + self.spec.batch_size]
            started = time.monotonic()
            outputs = self.inner.generate_outputs(
                inputs=[request.messages for request in batch], num_generations=1, **arguments
            )
            seconds = (time.monotonic() - started) / len(batch)
            for i, output in enumerate(outputs, start):
                done(i, _read(output, sampling, seconds=seconds))

    def _fault(self, error: Exception) -> UserError | None:
        """What to tell the user where no other request can do better, else None."""
        kind, words = type(error).__name__, self._in_words(error)
        if kind in ("AuthenticationError", "PermissionDeniedError"):
            names = ", ".join(self.spec.api_key_env or ["OPENAI_API_KEY"])
            return UserError(
                f"{self.spec.model}: the API key was refused ({words}). Set {names} to one that works and "
                "run again: the run resumes where it stopped."
            )
        if kind == "NotFoundError":
            return UserError(f"{self.spec.model}: not found ({words}). Check the model's name and base_url.")
        if kind == "APIConnectionError":
            return UserError(
                f"{self.spec.model}: the server cannot be reached at {self.spec.base_url or 'its usual place'} "
                "(no connection). Check base_url and that it runs, and run again: the run resumes where it stopped."
            )
        return None

    def _in_words(self, error: Exception) -> str:
        words = " ".join(str(error).split())
        key = getattr(self.inner, "api_key", None)
        secret = key.get_secret_value() if isinstance(key, SecretStr) else ""
        return (words.replace(secret, "$key") if secret else words)[:200]


def openai_model(spec: LLMSpec, *, journal: Journal) -> WrappedModel:
    """`openai/<model>`: OpenAI itself, or with `base_url` any server that speaks its protocol.

    A server of one's own is sent a key only where `api_key_env` names one: `OPENAI_API_KEY` is for OpenAI.

    Raises:
        UserError: no key, neither in `api_key_env` nor needed by a server of one's own.
    """
    from distilabel.models.llms import OpenAILLM

    base_url = spec.base_url or os.environ.get("OPENAI_BASE_URL")
    keyless = base_url is not None and not spec.api_key_env
    secret = "none" if keyless else keys_from_environment(spec, default="OPENAI_API_KEY")[0].secret
    where = {"base_url": base_url} if base_url else {}
    inner = OpenAILLM(model=spec.model.partition("/")[2], api_key=SecretStr(secret), **where)
    return WrappedModel(spec=spec, journal=journal, inner=inner)


def _known_arguments(function: Any, sampling: Sampling) -> dict[str, Any]:
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


def _read(output: Any, sampling: Sampling, *, seconds: float) -> Completion:
    """One generation of a distilabel LLM, which does not say how it ended: a full length means cut."""
    text = output["generations"][0] if output["generations"] else None
    statistics = output.get("statistics") or {}
    counts: dict[str, Any] = {name: (statistics.get(name) or [0])[0] or 0 for name in ("input_tokens", "output_tokens")}
    if text is None:
        return Completion(None, "no text in the reply", seconds=seconds, **counts)
    cut = counts["output_tokens"] >= sampling.max_new_tokens
    return Completion(text, "length" if cut else "stop", seconds=seconds, **counts)
