"""Google's Gemini through google-generativeai; no other file here knows that package.

The package's own support has ended, which is why it is kept in one place. It has no asynchronous REST
transport, so requests run in threads; one client per API key.
"""

from __future__ import annotations

import os
import random
import re
import threading
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from json import JSONDecodeError
from typing import Any, ClassVar

from pydantic import PrivateAttr

from lingo_hitl.errors import UserError
from lingo_hitl.models.chat import ChatModel, Conversation, Done, Request, Sampling
from lingo_hitl.models.journal import Completion
from lingo_hitl.models.keys import Key, KeyRing, keys_from_environment

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)
    import google.generativeai as genai
    from google.ai import generativelanguage as glm
from google.api_core import exceptions as refusals
from google.protobuf.json_format import ParseError
from requests import exceptions as network

DEFAULT_KEY = "GEMINI_API_KEY"
ENDPOINT = "GEMINI_API_ENDPOINT"
_THREADS_PER_KEY, _MOST_THREADS = 4, 16
_LONGEST_PAUSE_S = 30.0
_TRANSIENT = (refusals.ServerError, refusals.RetryError, network.RequestException, ParseError, JSONDecodeError)


class GeminiModel(ChatModel):
    """`gemini/<model>`, with the keys that `api_key_env` names (`GEMINI_API_KEY` where it names none).

    A blocked prompt, a refusal, a reply cut at max_new_tokens and an empty reply give no text and a
    reason, which the journal keeps. A request that meets `attempts` server errors or timeouts gives no
    text either, and is asked again by the next run.

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

    _ring: KeyRing | None = PrivateAttr(None)
    _clients: dict[str, Any] | None = PrivateAttr(None)
    _unpicklable: ClassVar[tuple[str, ...]] = ("_ring", "_clients")

    def load(self) -> None:
        super().load()
        if self._ring is not None:
            return
        keys = keys_from_environment(self.spec, default=DEFAULT_KEY)
        endpoint = self.spec.base_url or os.environ.get(ENDPOINT)
        place = {"api_endpoint": endpoint.rstrip("/")} if endpoint else {}
        self._clients = {
            key.variable: glm.GenerativeServiceClient(transport="rest", client_options={"api_key": key.secret, **place})
            for key in keys
        }
        self._ring = KeyRing(self.spec.model, keys, patience_s=self.patience_s)

    def _ask(self, requests: Sequence[Request], sampling: Sampling, done: Done) -> None:
        if self._ring is None:
            self.load()
        assert self._ring is not None
        stop = threading.Event()
        threads = min(_MOST_THREADS, _THREADS_PER_KEY * len(self._ring.keys), len(requests))
        fault: BaseException | None = None
        with ThreadPoolExecutor(threads, thread_name_prefix="gemini") as pool:
            try:
                futures = [
                    pool.submit(self._answer, self._ring, i, r, sampling, done, stop) for i, r in enumerate(requests)
                ]
                for future in as_completed(futures):
                    # What is in flight is paid for: let it come home before the run stops.
                    if (error := future.exception()) is not None and fault is None:
                        fault = error
                        stop.set()
            except BaseException:
                stop.set()
                raise
        if fault is not None:
            raise fault

    def _answer(
        self, ring: KeyRing, position: int, request: Request, sampling: Sampling, done: Done, stop: threading.Event
    ) -> None:
        """See one request through; without a call of `done` only where `stop` is set or an error is raised."""
        started = time.monotonic()
        tries = 0
        limited_since: float | None = None
        while (key := ring.take(stop, limited_since)) is not None:
            try:
                reply = self._call(key, request.messages, sampling)
            except refusals.TooManyRequests as error:
                limited_since = limited_since or time.monotonic()
                ring.rest(key, _asked_pause(error), backoff_s=self.backoff_s)
                continue
            except (refusals.ClientError, *_TRANSIENT) as error:
                why = ring.without_secrets(_in_words(error))
                if _refuses_key(error):
                    ring.put_out(key, f"refused ({why})")
                    continue
                if isinstance(error, refusals.NotFound):
                    raise UserError(f"{self.spec.model}: not found ({why}). Check the model's name.") from None
                if isinstance(error, refusals.ClientError):
                    return done(position, Completion.failed(why, seconds=time.monotonic() - started))
                tries += 1
                if tries < self.attempts:
                    pause = min(_LONGEST_PAUSE_S, self.backoff_s * 2.0 ** (tries - 1))
                    if stop.wait(pause * random.uniform(0.5, 1.0)):
                        return None
                    continue
                if isinstance(error, network.ConnectionError):
                    raise UserError(
                        f"{self.spec.model}: the server cannot be reached ({why}). Check the network and "
                        f"{ENDPOINT}, and run again: the run resumes where it stopped."
                    ) from None
                why = f"{why}, {tries} times"
                return done(position, Completion.failed(why, seconds=time.monotonic() - started))
            ring.worked(key)
            return done(position, _read(reply, seconds=time.monotonic() - started))
        return None

    def _call(self, key: Key, messages: Conversation, sampling: Sampling) -> Any:
        assert self._clients is not None
        system = "\n\n".join(m["content"] for m in messages if m["role"] == "system")
        spoken = [m for m in messages if m["role"] != "system"]
        if not spoken:
            system, spoken = "", [{"role": "user", "content": system}]
        model: Any = genai.GenerativeModel(self.spec.model.partition("/")[2], system_instruction=system or None)
        model._client = self._clients[key.variable]
        config: dict[str, Any] = {
            "candidate_count": 1,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_output_tokens": sampling.max_new_tokens,
        }
        return model.generate_content(
            [{"role": "model" if m["role"] == "assistant" else "user", "parts": [m["content"]]} for m in spoken],
            generation_config={**config, "top_k": sampling.top_k} if sampling.top_k else config,
            # The package would retry 503 by itself, unseen and without end.
            request_options={"timeout": self.timeout_s, "retry": None},
        )


def _read(reply: Any, *, seconds: float) -> Completion:
    """The text of a reply, or the reason in the provider's words why it has none."""
    usage = reply.usage_metadata
    counts: dict[str, Any] = {
        "input_tokens": usage.prompt_token_count,
        "output_tokens": usage.candidates_token_count,
        "seconds": seconds,
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
    if ended not in ("STOP", "FINISH_REASON_UNSPECIFIED"):
        return Completion(None, f"stopped: {ended}", **counts)
    return Completion(text, "stop", **counts) if text.strip() else Completion(None, "empty reply", **counts)


def _asked_pause(error: refusals.GoogleAPICallError) -> float | None:
    """Seconds that a refusal asks to wait, or None where it does not say."""
    # Over REST the details are the reply's JSON: {"@type": ".../google.rpc.RetryInfo", "retryDelay": "17.5s"}.
    said = [str(detail.get("retryDelay", "")) for detail in error.details if isinstance(detail, dict)]
    pauses = [float(text[:-1]) for text in said if re.fullmatch(r"\d+(\.\d+)?s", text)]
    return max(pauses, default=None)


def _refuses_key(error: Exception) -> bool:
    # A mistyped key is a 400 INVALID_ARGUMENT whose details say API_KEY_INVALID.
    if isinstance(error, refusals.Unauthorized | refusals.Forbidden):
        return True
    said = f"{getattr(error, 'reason', '')} {error}"
    return isinstance(error, refusals.BadRequest) and ("API_KEY_INVALID" in said or "API key not valid" in said)


def _in_words(error: Exception) -> str:
    if isinstance(error, network.Timeout):
        return "timeout"
    if isinstance(error, network.ConnectionError):
        return "no connection"
    if isinstance(error, ParseError | JSONDecodeError):
        return "the reply is not JSON (does a proxy answer?)"
    code = getattr(error, "code", None)
    message = str(getattr(error, "message", None) or type(error).__name__)
    message = re.sub(r"^[A-Z]+ https?://\S+: ", "", message)
    if "<html" in message.lower():
        message = "a web page instead of a reply (does a proxy answer?)"
    return f"{int(code)} {message}" if code else message
