"""Models behind an API: keys in turn, retries, and what each refusal means for the row, the key and the run."""

from __future__ import annotations

import asyncio
import os
import random
import time
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import PrivateAttr

from lingo_hitl.errors import UserError
from lingo_hitl.llm_config import checked_url
from lingo_hitl.models.chat import ChatModel, Conversation, Request, Sampling
from lingo_hitl.models.completion import Completion
from lingo_hitl.models.keys import Key, KeyPool, request_size

_LONGEST_PAUSE_S = 30.0

Reason = Literal["limit", "key", "model", "request", "network", "server"]


@dataclass(frozen=True)
class Refusal:
    """Why a call gave no completion.

    limit: the key is over its limit. key: the key is not accepted. model: there is no such model.
    request: this request is not accepted, and would not be a second time. network: nobody answers.
    server: anything that may go better the next time.
    """

    reason: Reason
    words: str
    pause_s: float | None = None  # limit: how long the provider asks to wait
    lasting: bool = False  # request: it would be refused in another run too


class RemoteModel(ChatModel):
    """A model that is called over the network with API keys.

    A blocked prompt, a refusal, a reply cut at max_new_tokens and an empty reply give no text and a
    reason, which the journal keeps. A request that meets `attempts` server errors or timeouts gives no
    text either, and is asked again by the next run. Where nobody answers, and no other request went well
    meanwhile, the run stops.

    Attributes:
        timeout_s: seconds without a byte after which a request counts as lost.
        attempts: tries of one request that meets server errors, timeouts or a broken reply.
        backoff_s: pause after the first of them, doubled each time, with jitter.
        patience_s: longest wait for a key that is over its limit, before the run stops.
    """

    timeout_s: float = 120.0
    attempts: int = 5
    backoff_s: float = 1.0
    patience_s: float = 900.0

    _pool: KeyPool | None = PrivateAttr(None)
    _refuses_schemas: bool = PrivateAttr(False)

    @abstractmethod
    async def _call(self, key: Key, messages: Conversation, sampling: Sampling) -> Completion:
        """One try; raises whatever the provider's client raises."""

    @abstractmethod
    def _refusal(self, error: Exception) -> Refusal | None:
        """What an error of `_call` means; None: it is none of the provider's, but a fault of ours."""

    @abstractmethod
    def keys(self) -> list[Key]:
        """The keys that the environment has for this model.

        Raises:
            UserError: it has none.
        """

    @abstractmethod
    def _place(self) -> str:
        """Where the server is looked for, in words for an error: a setting that may be wrong."""

    async def _answer(self, request: Request, sampling: Sampling) -> Completion:
        if self._pool is None:
            self.load()
        assert self._pool is not None
        size = request_size(request.messages)
        sent = size + len((sampling.schema or "").encode())
        async with self.session.budget.room(self.spec.model, size=sent, max_new_tokens=sampling.max_new_tokens):
            return await self._tried(self._pool, request, sampling, size)

    async def _tried(self, pool: KeyPool, request: Request, sampling: Sampling, size: int) -> Completion:
        started, tries, first_sent = time.monotonic(), 0, 0.0
        limited_since: float | None = None
        asked = replace(sampling, schema=None) if self._refuses_schemas else sampling
        while True:
            key, sent = await pool.take(pool.expected_tokens(size), limited_since)
            used: int | None = None
            usage = self.session.tally.of(self.spec.portable, key.variable)
            began = time.monotonic()
            first_sent = first_sent or asyncio.get_running_loop().time()
            try:
                completion = await self._call(key, request.messages, asked)
                completion = self.session.budget.pay(self.spec.model, completion)
                used = completion.input_tokens
            except Exception as error:
                refusal = self._refusal(error)
                if refusal is None:
                    raise
            else:
                pool.worked(key)
                self._refuses_schemas = self._refuses_schemas or asked != sampling
                usage.came(completion)
                return replace(completion, seconds=time.monotonic() - began)
            finally:
                pool.give_back(key, sent, used=used, size=size)
            why = pool.without_secrets(refusal.words)
            if refusal.reason == "limit":
                usage.limited += 1
                limited_since = limited_since or asyncio.get_running_loop().time()
                pool.rest(key, sent, refusal.pause_s, backoff_s=self.backoff_s)
                continue
            if refusal.reason == "key":
                pool.put_out(key, f"refused ({why})")
                self.session.tally.refuse(self.spec.portable, key.variable, why)
                continue
            if refusal.reason == "model":
                raise UserError(f"{self.spec.model}: not found ({why}). Check the model's name.")
            if refusal.lasting and asked.schema:
                # Many servers of one's own know no schemas; the prompt asks for the form in words as well.
                asked = replace(asked, schema=None)
                usage.retries += 1
                continue
            tries += 1
            if refusal.reason == "request" or tries >= self.attempts:
                if refusal.reason == "network" and pool.worked_at < first_sent:
                    raise UserError(
                        f"{self.spec.model}: the server cannot be reached ({why}). Check the network and "
                        f"{self._place()}, and run again: the run resumes where it stopped."
                    )
                usage.blocked += refusal.lasting
                usage.failed += not refusal.lasting
                why = why if refusal.reason == "request" else f"{why}, {tries} times"
                return Completion.failed(why, lasting=refusal.lasting, seconds=time.monotonic() - started)
            usage.retries += 1
            pause = min(_LONGEST_PAUSE_S, self.backoff_s * 2.0 ** (tries - 1)) * random.uniform(0.5, 1.0)
            await self.session.stop.sleep(pause)


def url_from(variable: str) -> str | None:
    """The endpoint that an environment variable names; None where it names none.

    Raises:
        UserError: it is nothing that `base_url` could be.
    """
    try:
        return checked_url(os.environ.get(variable, "")) or None
    except ValueError as error:
        raise UserError(f"{variable}: {error}") from error
