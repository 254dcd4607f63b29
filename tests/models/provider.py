"""A loopback server that speaks the wire protocols of Gemini (REST generateContent) and of OpenAI."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, Any]  # status, and JSON or text


@dataclass
class Provider:
    """What it was asked, and what it is to answer next; without plans it answers well."""

    url: str = ""
    planned: deque[Reply] = field(default_factory=deque)
    bad_keys: dict[str, Reply] = field(default_factory=dict)
    reply_to: Callable[[str], Reply | None] = lambda prompt: None
    delay_s: float = 0.0
    prompts: list[str] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)


def gemini_text(text: str, finish: str = "STOP") -> Reply:
    candidate = {"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": finish}
    return 200, {
        "candidates": [candidate],
        "usageMetadata": {"promptTokenCount": 7, "candidatesTokenCount": 3, "totalTokenCount": 10},
    }


def gemini_error(code: int, status: str, message: str, *details: dict[str, Any]) -> Reply:
    return code, {"error": {"code": code, "message": message, "status": status, "details": list(details)}}


def over_limit(seconds: float) -> Reply:
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{seconds}s"}
    return gemini_error(429, "RESOURCE_EXHAUSTED", "Quota exceeded.", info)


def openai_text(text: str | None) -> Reply:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    return 200, {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [choice],
        "usage": usage,
    }


@contextmanager
def running() -> Iterator[Provider]:
    provider = Provider()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            gemini = ":generateContent" in self.path
            bearer = self.headers.get("Authorization", "").removeprefix("Bearer ")
            key = self.headers.get("x-goog-api-key", "") if gemini else bearer
            prompt = body["contents"][-1]["parts"][0]["text"] if gemini else body["messages"][-1]["content"]
            with provider.lock:
                provider.prompts.append(prompt)
                provider.bodies.append(body)
                provider.keys[key] += 1
                refused = provider.bad_keys.get(key)
                planned = provider.planned.popleft() if provider.planned and not refused else None
            time.sleep(provider.delay_s)
            good = gemini_text(f"answer to {prompt}") if gemini else openai_text(f"answer to {prompt}")
            status, reply = refused or planned or provider.reply_to(prompt) or good
            text = reply if isinstance(reply, str) else json.dumps(reply)
            payload = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/html" if isinstance(reply, str) else "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, *_: Any) -> None:
            pass

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except (ConnectionError, BrokenPipeError):
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    provider.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
