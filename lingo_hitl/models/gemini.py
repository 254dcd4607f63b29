"""Google's Gemini through google-generativeai; no other file here knows that package.

The package's own support has ended, which is why it is kept in one place. It has no asynchronous REST
transport, so requests run in threads; one client per API key.
"""

from __future__ import annotations

import asyncio
import json
import re
import warnings
from json import JSONDecodeError
from typing import Any, ClassVar

from pydantic import PrivateAttr
from requests.adapters import HTTPAdapter

from lingo_hitl.llm_config import DEFAULT_KEYS
from lingo_hitl.models.chat import Conversation, Sampling
from lingo_hitl.models.completion import Completion
from lingo_hitl.models.keys import Key, in_seconds, keys_from_environment
from lingo_hitl.models.remote import Refusal, RemoteModel, url_from

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)
    import google.generativeai  # noqa: F401 - says what the package wants said, once and silenced
    from google.ai import generativelanguage as glm
from google.api_core import exceptions as refusals
from google.protobuf.json_format import ParseError
from requests import exceptions as network

DEFAULT_KEY = DEFAULT_KEYS["gemini"]
ENDPOINT = "GEMINI_API_ENDPOINT"
_BROKEN = (ParseError, JSONDecodeError, UnicodeDecodeError)


class GeminiModel(RemoteModel):
    """`gemini/<model>`, with the keys that `api_key_env` names (`GEMINI_API_KEY` where it names none)."""

    writes_json: ClassVar[bool] = True
    _clients: dict[str, Any] | None = PrivateAttr(None)
    _unpicklable: ClassVar[tuple[str, ...]] = ("_pool", "_clients")

    def load(self) -> None:
        super().load()
        if self._clients is not None or self.session.offline:
            return
        keys = self.keys()
        endpoint = self.spec.base_url or url_from(ENDPOINT)
        self._clients = {key.variable: _client(key, endpoint) for key in keys}
        self._pool = self.session.pool(self.spec.model, keys, patience_s=self.patience_s, endpoint=endpoint)

    def keys(self) -> list[Key]:
        return keys_from_environment(self.spec, default=DEFAULT_KEY, quotas=self.session.quotas)

    async def _call(self, key: Key, messages: Conversation, sampling: Sampling) -> Completion:
        assert self._clients is not None
        request = _request(self.spec.model.partition("/")[2], messages, sampling)
        # The package would retry 503 by itself, unseen and without end.
        ask = self._clients[key.variable].generate_content
        reply = await asyncio.get_running_loop().run_in_executor(
            self.session.threads, lambda: ask(request, timeout=self.timeout_s, retry=None)
        )
        return _read(reply)

    def _refusal(self, error: Exception) -> Refusal | None:
        if isinstance(error, refusals.TooManyRequests):
            return Refusal("limit", _in_words(error), _asked_pause(error))
        if not isinstance(error, (refusals.GoogleAPICallError, network.RequestException, *_BROKEN)):
            return None
        words = _in_words(error)
        if _refuses_key(error):
            return Refusal("key", words)
        if isinstance(error, refusals.NotFound):
            return Refusal("model", words)
        # Not every number has a class of its own: 408 and 413 are no ClientError, and 529 is no ServerError.
        code = getattr(error, "code", None)
        if isinstance(error, refusals.GoogleAPICallError) and code is not None and 400 <= code < 500 and code != 408:
            return Refusal("request", words, lasting=_status(error) == "INVALID_ARGUMENT")
        return Refusal("network" if isinstance(error, network.ConnectionError) else "server", words)

    def _place(self) -> str:
        return ENDPOINT


def _client(key: Key, endpoint: str | None) -> Any:
    place = {"api_endpoint": endpoint.rstrip("/")} if endpoint else {}
    client = glm.GenerativeServiceClient(transport="rest", client_options={"api_key": key.secret, **place})
    # By default ten connections are kept; each further call would open and close one of its own.
    session = client.transport._session  # type: ignore[attr-defined]  # of the REST transport alone
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(pool_connections=1, pool_maxsize=key.most_in_flight))
    return client


def _request(model: str, messages: Conversation, sampling: Sampling) -> Any:
    system = "\n\n".join(m["content"] for m in messages if m["role"] == "system")
    spoken = [m for m in messages if m["role"] != "system"]
    if not spoken:
        system, spoken = "", [{"role": "user", "content": system}]
    config: dict[str, Any] = {
        "candidate_count": 1,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_output_tokens": sampling.max_new_tokens,
        "top_k": sampling.top_k,
    }
    if sampling.schema:
        config["response_mime_type"] = "application/json"
        config["response_schema"] = _as_gemini_s(json.loads(sampling.schema))
    roles = {"assistant": "model"}
    return glm.GenerateContentRequest(
        model=model if "/" in model else f"models/{model}",
        contents=[glm.Content(role=roles.get(m["role"], "user"), parts=[glm.Part(text=m["content"])]) for m in spoken],
        system_instruction=glm.Content(parts=[glm.Part(text=system)]) if system else None,
        generation_config=glm.GenerationConfig({name: value for name, value in config.items() if value is not None}),
    )


def _as_gemini_s(schema: dict[str, Any]) -> dict[str, Any]:
    """A JSON Schema in the words of Gemini's own: types in capitals, and nothing that it does not know."""
    known: dict[str, Any] = {"type_": schema["type"].upper()}
    if "properties" in schema:
        known["properties"] = {name: _as_gemini_s(inner) for name, inner in schema["properties"].items()}
        known["required"] = list(schema.get("required", ()))
    if "items" in schema:
        known["items"] = _as_gemini_s(schema["items"])
    for ours, theirs in (("minItems", "min_items"), ("maxItems", "max_items"), ("description", "description")):
        if ours in schema:
            known[theirs] = schema[ours]
    return known


def _read(reply: Any) -> Completion:
    """The text of a reply, or the reason in the provider's words why it has none."""
    usage = reply.usage_metadata
    counts: dict[str, Any] = {
        "input_tokens": usage.prompt_token_count,
        # What a model thinks is paid for as output, and only the total tells of it.
        "output_tokens": max(usage.candidates_token_count, usage.total_token_count - usage.prompt_token_count),
    }
    if not reply.candidates:
        reason = reply.prompt_feedback.block_reason
        return Completion(None, f"prompt blocked: {reason.name}" if reason else "no candidates", **counts)
    candidate = reply.candidates[0]
    text = "".join(part.text for part in candidate.content.parts)
    ended = getattr(candidate.finish_reason, "name", str(candidate.finish_reason))
    if ended == "MAX_TOKENS":
        # The text up to there is paid for, and as with every other provider `finish` says that it is cut.
        return Completion(text, "length", **counts) if text.strip() else Completion(None, "MAX_TOKENS", **counts)
    if ended != "STOP":  # unspecified is also every reason that is newer than the package
        return Completion(None, f"stopped: {ended}", **counts)
    return Completion(text, "stop", **counts) if text.strip() else Completion(None, "empty reply", **counts)


def _asked_pause(error: refusals.GoogleAPICallError) -> float | None:
    """Seconds that a refusal asks to wait, or None where it does not say."""
    # Over REST the details are the reply's JSON: {"@type": ".../google.rpc.RetryInfo", "retryDelay": "17.5s"}.
    said = [str(detail.get("retryDelay", "")) for detail in error.details if isinstance(detail, dict)]
    return max((pause for text in said if (pause := in_seconds(text)) is not None), default=None)


def _refuses_key(error: Exception) -> bool:
    # A mistyped key is a 400 INVALID_ARGUMENT whose details say API_KEY_INVALID.
    if isinstance(error, refusals.Unauthorized | refusals.Forbidden):
        return True
    said = f"{getattr(error, 'reason', '')} {error}"
    return isinstance(error, refusals.BadRequest) and ("API_KEY_INVALID" in said or "API key not valid" in said)


def _status(error: refusals.GoogleAPICallError) -> str | None:
    """The word that Google has for a refusal; several share the number 400."""
    try:
        return str(error.response.json()["error"]["status"])
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def _in_words(error: Exception) -> str:
    if isinstance(error, network.Timeout):
        return "timeout"
    if isinstance(error, network.ConnectionError):
        return "no connection"
    if isinstance(error, _BROKEN):
        return "the reply is not JSON (does a proxy answer?)"
    code = getattr(error, "code", None)
    message = str(getattr(error, "message", None) or type(error).__name__)
    message = re.sub(r"^[A-Z]+ https?://\S+: ", "", message)
    if "<html" in message.lower():
        message = "a web page instead of a reply (does a proxy answer?)"
    return f"{int(code)} {message}" if code else message
