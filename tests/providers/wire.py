"""The wire protocols of Gemini (REST generateContent) and of OpenAI (chat completions): calls read, replies made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from typing import Any

from tests.providers.http11 import Request

Reply = tuple[int, Any]
"""Status, and JSON or a web page as text or, in another encoding than UTF-8, as bytes."""
RESET: Reply = (0, "")
"""No reply: the connection is reset."""
Messages = list[dict[str, str]]

_ROLES = {"user": "user", "model": "assistant"}


@dataclass
class Call:
    """One request that arrived. Times are on the monotonic clock, which all processes of a machine share."""

    number: int
    key: str
    model: str
    gemini: bool
    messages: Messages
    body: dict[str, Any] = field(repr=False)
    arrived: float = 0.0
    answered: float | None = None  # when the whole reply had been sent
    status: int | None = None
    fault: str | None = None  # which one was injected
    said: str | None = None  # the text of the reply

    @property
    def prompt(self) -> str:
        """The last message."""
        return self.messages[-1]["content"]

    @cached_property
    def digest(self) -> str:
        """16 hex digits that stand for what was asked of which model, and how."""
        asked = [self.model, self.messages, self.body.get("generationConfig"), self.body.get("temperature")]
        text = json.dumps(asked, sort_keys=True)
        return blake2b(text.encode(), digest_size=8).hexdigest()

    @property
    def schema(self) -> Mapping[str, Any] | None:
        """The JSON schema that the reply is to follow."""
        if self.gemini:
            config = self.body.get("generationConfig", {})
            return config.get("responseSchema") or config.get("responseJsonSchema")
        form = self.body.get("response_format") or {}
        return (form.get("json_schema") or {}).get("schema")

    @property
    def longest(self) -> int:
        """Tokens that the reply may have."""
        if self.gemini:
            return int(self.body.get("generationConfig", {}).get("maxOutputTokens", 8192))
        return int(self.body.get("max_completion_tokens") or self.body.get("max_tokens") or 8192)


def read_call(request: Request, number: int) -> Call:
    """The call that a request makes, whichever of the two protocols it speaks."""
    body = json.loads(request.body)
    if ":generateContent" in request.path:
        model = request.path.partition("/models/")[2].partition(":")[0]
        key = request.headers.get("x-goog-api-key", "")
        messages = [_message(_ROLES[content.get("role", "user")], content) for content in body["contents"]]
        if system := body.get("systemInstruction"):
            messages.insert(0, _message("system", system))
        return Call(number, key, model, True, messages, body)
    key = request.headers.get("authorization", "").removeprefix("Bearer ")
    return Call(number, key, body["model"], False, body["messages"], body)


def _message(role: str, content: Mapping[str, Any]) -> dict[str, str]:
    return {"role": role, "content": "".join(part.get("text", "") for part in content["parts"])}


def tokens_of(text: str) -> int:
    """About how many tokens a text has: one for each three of its UTF-8 bytes."""
    return (len(text.encode("utf-8", "replace")) + 2) // 3


def gemini_text(text: str, finish: str = "STOP", *, tokens_in: int = 7, tokens_out: int = 3) -> Reply:
    candidate = {"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": finish, "index": 0}
    return 200, {"candidates": [candidate], "usageMetadata": _gemini_usage(tokens_in, tokens_out)}


def gemini_blocked(reason: str = "SAFETY", *, tokens_in: int = 7) -> Reply:
    """What Gemini says of a prompt that it does not answer: no candidates at all."""
    return 200, {"promptFeedback": {"blockReason": reason}, "usageMetadata": _gemini_usage(tokens_in, 0)}


def gemini_error(code: int, status: str, message: str, *details: dict[str, Any]) -> Reply:
    return code, {"error": {"code": code, "message": message, "status": status, "details": list(details)}}


def over_limit(seconds: float, quota: str = "GenerateRequestsPerMinutePerProjectPerModel") -> Reply:
    """Gemini's 429, with the time after which the key may be used again."""
    failure = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": quota}]}
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{seconds:.9g}s"}
    return gemini_error(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota.", failure, info)


def openai_text(text: str | None, finish: str = "stop", *, tokens_in: int = 5, tokens_out: int = 2) -> Reply:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    usage = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out}
    reply = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}
    return 200, reply


def openai_error(code: int, message: str, kind: str = "server_error") -> Reply:
    return code, {"error": {"message": message, "type": kind, "code": None}}


def _gemini_usage(tokens_in: int, tokens_out: int) -> dict[str, int]:
    return {
        "promptTokenCount": tokens_in,
        "candidatesTokenCount": tokens_out,
        "totalTokenCount": tokens_in + tokens_out,
    }
