"""A loopback server that speaks OpenAI's chat protocol; a script in the test says what each model answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Messages = list[dict[str, str]]
Script = Callable[[str, Messages], str | None]
"""From a model's name and the messages it is sent to what it says; None: the server fails for this call."""


@dataclass
class ChatServer:
    script: Script
    url: str = ""
    asked: list[tuple[str, Messages]] = field(default_factory=list)

    def spec(self, served: str, **options: Any) -> dict[str, Any]:
        return {"model": f"openai/{served}", "base_url": self.url, **options}

    def asked_of(self, name: str) -> list[Messages]:
        return [messages for model, messages in self.asked if model == name]


@contextmanager
def serving(script: Script) -> Iterator[ChatServer]:
    server = ChatServer(script)
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:  # one after the other, so that a script may count its calls
                server.asked.append((body["model"], body["messages"]))
                text = server.script(body["model"], body["messages"])
            reply: dict[str, Any] = {"error": {"message": "the script fails here"}}
            if text is not None:
                choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
                usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
                reply = {"id": "1", "object": "chat.completion", "created": 0, "model": body["model"]}
                reply |= {"choices": [choice], "usage": usage}
            payload = json.dumps(reply).encode()
            self.send_response(400 if text is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    server.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
