"""A provider on the loopback that speaks Gemini's and OpenAI's protocols, in a thread of the tests' own process.

It answers well unless told otherwise, and remembers every call. `python -m tests.providers` is the same as a
process of its own.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from random import Random
from typing import IO, Any

from tests.providers import wire
from tests.providers.conditions import Fault, Faults, Latency, Quotas
from tests.providers.http11 import Request, Response, serve
from tests.providers.wire import Call, Messages, Reply

Speaker = Callable[[Call], str | None]
"""From a call to what the model says; None: the server fails for this call."""
Script = Callable[[str, Messages], str | None]
"""The same from a model's name and the messages it is sent."""
_PAGE = "<html><body><h1>502 Bad Gateway</h1></body></html>"
_BREAKS = {"cut": "cut", "stall": "stalled", "reset": "reset"}


def echo(call: Call) -> str:
    """The plainest of all models."""
    return f"answer to {call.prompt}"


@dataclass
class Provider:
    """How it is to answer, and what it was asked.

    Attributes:
        speak: what its models say: an `echo`, or `brain.speak`, or a test's own.
        planned: the next replies, one for each call, whatever is asked.
        bad_keys: keys that are refused, and how.
        reply_to: a reply of one's own to a prompt (the last message), or None.
        delay_s: seconds before each reply, beside those of `latency`.
        quotas: what each key may ask.
        faults, latency: as named.
        out: where each call is written down as it arrives and as its reply is sent, one JSON list a line:
            ["arrived", number, seconds, key, digest], ["sent", number, seconds, status, fault].
        bodies_out: where the body of each call is written down, one JSON object a line.
        remember: keep every call in `calls`; without it memory does not grow.
    """

    url: str = ""
    speak: Speaker = echo
    planned: deque[Reply] = field(default_factory=deque)
    bad_keys: dict[str, Reply] = field(default_factory=dict)
    reply_to: Callable[[str], Reply | None] = lambda prompt: None
    delay_s: float = 0.0
    quotas: Quotas | None = None
    faults: Faults = field(default_factory=Faults)
    latency: Latency = field(default_factory=Latency)
    out: IO[str] | None = None
    bodies_out: IO[str] | None = None
    remember: bool = True
    calls: list[Call] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition, repr=False)
    count: int = 0  # calls that have arrived
    answered: int = 0  # those whose reply was sent, all of it
    connections: int = 0  # open at the moment

    @property
    def prompts(self) -> list[str]:
        """The last message of each call, in the order of their arrival."""
        return [call.prompt for call in list(self.calls)]

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [call.body for call in list(self.calls)]

    @property
    def keys(self) -> Counter[str]:
        """How many calls each key made."""
        return Counter(call.key for call in list(self.calls))

    @property
    def asked(self) -> list[tuple[str, Messages]]:
        """Model and messages of each call."""
        return [(call.model, call.messages) for call in list(self.calls)]

    def asked_of(self, model: str) -> list[Messages]:
        return [messages for name, messages in self.asked if name == model]

    def spec(self, served: str, **options: Any) -> dict[str, Any]:
        """The section of a config that asks this server, in OpenAI's protocol, for the model `served`."""
        return {"model": f"openai/{served}", "base_url": f"{self.url}/v1", **options}

    def wait_until(self, reached: Callable[[Provider], bool], timeout_s: float = 60) -> bool:
        """Wait for calls and replies; False where what is waited for is not there within `timeout_s`."""
        with self.changed:
            return self.changed.wait_for(lambda: reached(self), timeout_s)

    def connect(self, change: int) -> None:
        with self.changed:
            self.connections += change
            self.changed.notify_all()

    async def answer(self, request: Request) -> tuple[Response, Callable[[], None]]:
        """See one request through; what is returned beside the response notes that it was sent."""
        with self.changed:
            self.count += 1
            call = wire.read_call(request, self.count)
            call.arrived = time.monotonic()
            if self.remember:
                self.calls.append(call)
            self.changed.notify_all()
        digest = call.digest
        self._write("arrived", call.number, call.arrived, call.key, digest)
        if self.bodies_out is not None:
            self.bodies_out.write(json.dumps(call.body) + "\n")
        fault, chance = self.faults.meet(digest)
        refusal = self._refusal(call)
        if refusal is None:
            wait = self.delay_s + self.latency.draw(chance)
            if wait:
                await asyncio.sleep(wait)
            response = self._response(call, fault, chance)
        else:
            response = refusal
        call.status = response.status

        def sent() -> None:
            with self.changed:
                call.answered = time.monotonic()
                self.answered += 1
                self.changed.notify_all()
            self._write("sent", call.number, call.answered, call.status, call.fault)

        return response, sent

    def _refusal(self, call: Call) -> Response | None:
        """What is said at once: a key that is not good, or a quota that is used up."""
        if call.key in self.bad_keys:
            return _as_response(self.bad_keys[call.key])
        if self.quotas is None:
            return None
        limit = self.quotas.admit(call.key, call.arrived, _tokens_in(call))
        if limit is None:
            return None
        call.fault = limit.quota
        return _over_limit(call, limit.seconds, limit.quota)

    def _response(self, call: Call, fault: Fault | None, chance: Random) -> Response:
        reply = self.planned.popleft() if self.planned else self.reply_to(call.prompt)
        if reply is not None:
            return _as_response(reply)
        call.fault = fault
        if fault == "429":
            return _over_limit(call, 2 / (self.quotas.scale if self.quotas else 20))
        if fault in ("500", "502", "503"):
            return _as_response(_failure(call, fault))
        if fault in ("safety", "blocked", "empty"):
            return _as_response(_withheld(call, fault))
        said = self.speak(call)
        if said is None:
            return _as_response(wire.openai_error(400, "the script fails here", "invalid_request_error"))
        finish = "max_tokens" if fault == "max_tokens" or wire.tokens_of(said) > call.longest else "stop"
        call.said = said[: max(1, len(said) // 2)] if fault == "max_tokens" else said
        whole = _as_response(_text(call, call.said, finish))
        if fault == "truncated":
            call.said = None
            return Response(200, whole.content_type, whole.body[: len(whole.body) // 2])
        if fault in _BREAKS:
            call.said = None
            return Response(200, whole.content_type, whole.body, _BREAKS[fault])  # type: ignore[arg-type]
        return whole

    def _write(self, *values: object) -> None:
        if self.out is not None:
            self.out.write(json.dumps(values) + "\n")


def _over_limit(call: Call, seconds: float, quota: str = "GenerateRequestsPerMinutePerProjectPerModel") -> Response:
    if call.gemini:
        return _as_response(wire.over_limit(seconds, quota))
    reply = wire.openai_error(429, f"Rate limit reached. Please try again in {seconds:.3f}s.", "rate_limit_error")
    return replace(_as_response(reply), retry_after=seconds)


def _failure(call: Call, fault: str) -> Reply:
    if fault == "502":
        return 502, _PAGE
    code, status = (500, "INTERNAL") if fault == "500" else (503, "UNAVAILABLE")
    return wire.gemini_error(code, status, "oops") if call.gemini else wire.openai_error(code, "oops")


def _text(call: Call, text: str, finish: str) -> Reply:
    counts = {"tokens_in": _tokens_in(call), "tokens_out": wire.tokens_of(text)}
    if call.gemini:
        return wire.gemini_text(text, finish.upper(), **counts)
    return wire.openai_text(text, "length" if finish == "max_tokens" else finish, **counts)


def _withheld(call: Call, fault: str) -> Reply:
    if not call.gemini:
        return wire.openai_text(None if fault == "empty" else "", "stop" if fault == "empty" else "content_filter")
    if fault == "blocked":
        return wire.gemini_blocked(tokens_in=_tokens_in(call))
    return wire.gemini_text("", "STOP" if fault == "empty" else "SAFETY", tokens_in=_tokens_in(call), tokens_out=0)


def _tokens_in(call: Call) -> int:
    return sum(wire.tokens_of(message["content"]) for message in call.messages)


def _as_response(reply: Reply) -> Response:
    status, content = reply
    if reply == wire.RESET:
        return Response(200, "text/html", b"", "reset")
    if isinstance(content, str | bytes):
        return Response(status, "text/html", content.encode() if isinstance(content, str) else content)
    return Response(status, "application/json", json.dumps(content).encode())


@contextmanager
def running(provider: Provider | None = None, port: int = 0) -> Iterator[Provider]:
    """A provider that listens on the loopback until the block ends."""
    provider = Provider() if provider is None else provider
    ready = threading.Event()
    stop: list[Callable[[], None]] = []

    async def listen() -> None:
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        stop.append(lambda: loop.call_soon_threadsafe(ended.set))
        server, bound = await serve(provider.answer, port, provider.connect)
        provider.url = f"http://127.0.0.1:{bound}"
        ready.set()
        await ended.wait()
        server.close()

    thread = threading.Thread(target=lambda: asyncio.run(listen()), name="provider", daemon=True)
    thread.start()
    ready.wait()
    try:
        yield provider
    finally:
        stop[0]()
        thread.join()


@contextmanager
def serving(script: Script) -> Iterator[Provider]:
    """A provider whose models say what `script` tells them to."""
    with running(Provider(speak=lambda call: script(call.model, call.messages))) as provider:
        yield provider
