"""OpenAI, and every server that speaks its protocol (vLLM, Ollama), through distilabel's own client."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import ClassVar

import openai
from distilabel.models.llms import OpenAILLM
from distilabel.typing import GenerateOutput
from openai.types.chat import ChatCompletion
from pydantic import PrivateAttr, SecretStr

from lingo_hitl.llm_config import DEFAULT_KEYS
from lingo_hitl.models.chat import Conversation, Sampling
from lingo_hitl.models.completion import Completion
from lingo_hitl.models.keys import Key, in_seconds, keys_from_environment
from lingo_hitl.models.remote import Reason, Refusal, RemoteModel, url_from
from lingo_hitl.models.wrapped import SIDE_BY_SIDE, known_arguments, read_output

DEFAULT_KEY = DEFAULT_KEYS["openai"]
ENDPOINT = "OPENAI_BASE_URL"
KEYLESS = "no key"
"""Stands for the key of a server of one's own that asks for none."""

CONTENT_FILTER = "content_filter"


class _NoReplyError(Exception):
    """What came with status 200 is no completion."""


# The first that fits holds.
_MEANINGS: dict[type[Exception], Reason] = {
    openai.AuthenticationError: "key",
    openai.PermissionDeniedError: "key",
    openai.NotFoundError: "model",
    openai.APITimeoutError: "server",
    openai.APIConnectionError: "network",
    openai.InternalServerError: "server",
    openai.APIStatusError: "request",
    openai.APIError: "server",
    json.JSONDecodeError: "server",
    UnicodeDecodeError: "server",
    _NoReplyError: "server",
}
_WORDS: dict[type[Exception], str] = {
    openai.APITimeoutError: "timeout",
    openai.APIConnectionError: "no connection",
    _NoReplyError: "the reply is no completion (does a proxy answer?)",
}


class _Client(OpenAILLM):
    """distilabel's client, which hands on why each reply ended and knows a reply from a web page."""

    def _generations_from_openai_completion(self, completion: ChatCompletion) -> GenerateOutput:
        try:
            output = super()._generations_from_openai_completion(completion)
            ended = [choice.finish_reason for choice in completion.choices]
        except (AttributeError, TypeError) as error:
            # The package checks no reply: a web page comes as text, and {"error": ...} with nothing in it.
            raise _NoReplyError from error
        output["statistics"]["finish_reasons"] = ended
        return output


class OpenAIModel(RemoteModel):
    """`openai/<model>`: OpenAI itself, or with `base_url` any server that speaks its protocol.

    A server of one's own is sent a key only where `api_key_env` names one: `OPENAI_API_KEY` is for OpenAI.
    """

    writes_json: ClassVar[bool] = True
    _clients: dict[str, _Client] | None = PrivateAttr(None)
    _unpicklable: ClassVar[tuple[str, ...]] = ("_pool", "_clients")

    def load(self) -> None:
        super().load()
        if self._clients is not None or self.session.offline:
            return
        base_url, keys = self._base_url(), self.keys()
        where = {"base_url": base_url} if base_url else {}
        name = self.spec.model.partition("/")[2]
        self._clients = {
            key.variable: _Client(
                model=name, api_key=SecretStr(key.secret), max_retries=0, timeout=int(self.timeout_s), **where
            )
            for key in keys
        }
        # It warns of each reply without a text; that is counted here, and told of its row.
        logging.getLogger(f"distilabel.llm.{name}").setLevel(logging.ERROR)
        for client in self._clients.values():
            client.load()
        self._pool = self.session.pool(self.spec.model, keys, patience_s=self.patience_s, endpoint=base_url)

    def keys(self) -> list[Key]:
        if self._base_url() is not None and not self.spec.api_key_env:
            return [Key(KEYLESS, "none", allowed_in_flight=self.spec.in_flight or SIDE_BY_SIDE)]
        return keys_from_environment(self.spec, default=DEFAULT_KEY, quotas=self.session.quotas)

    def _base_url(self) -> str | None:
        return self.spec.base_url or url_from(ENDPOINT)

    async def _call(self, key: Key, messages: Conversation, sampling: Sampling) -> Completion:
        assert self._clients is not None
        client = self._clients[key.variable]
        arguments = known_arguments(client.agenerate, sampling)
        extra = arguments.pop("extra_body", {})
        if sampling.schema:
            form = {"name": "reply", "schema": json.loads(sampling.schema), "strict": True}
            extra = {**extra, "response_format": {"type": "json_schema", "json_schema": form}}
        output = await client.agenerate(input=messages, num_generations=1, **arguments, extra_body=extra or None)
        return _read(output, sampling)

    def _refusal(self, error: Exception) -> Refusal | None:
        words = " ".join(str(error).split())
        if isinstance(error, openai.RateLimitError):
            return Refusal("limit", words, in_seconds(error.response.headers.get("retry-after", "")))
        for kind, reason in _MEANINGS.items():
            if isinstance(error, kind):
                lasting = isinstance(error, openai.BadRequestError | openai.UnprocessableEntityError)
                return Refusal(reason, _WORDS.get(kind) or f"{type(error).__name__}: {words}", lasting=lasting)
        return None

    def _place(self) -> str:
        return f"base_url ({self.spec.base_url or 'its usual place'})"


def _read(output: GenerateOutput, sampling: Sampling) -> Completion:
    """The completion, and how it ended in the server's own word, where it has one."""
    completion = read_output(output, sampling)
    ended = (output["statistics"].get("finish_reasons") or [None])[0]
    if ended == CONTENT_FILTER:
        return replace(completion, text=None, finish=f"stopped: {ended}")
    if completion.text is not None and ended in ("stop", "length"):
        return replace(completion, finish=ended)
    return completion
