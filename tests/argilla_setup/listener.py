"""A real HTTP server on the loopback that webhooks are sent to."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.argilla_setup.awaiting import await_


class Listener:
    """What was received, in order; `held` keeps senders waiting while it is not set."""

    def __init__(self, url):
        self.url = url
        self.received = []
        self.held = threading.Event()
        self.held.set()
        self.asking = 0
        self.reply = 200

    def events(self, kind):
        return [item["data"] for item in list(self.received) if item["type"] == kind]

    def await_events(self, kind, count):
        """The events of a kind, once there are at least `count`."""
        await_(lambda: len(self.events(kind)) >= count, f"{count} {kind}", lambda: len(self.events(kind)))
        return self.events(kind)


@contextmanager
def listening():
    """A Listener that answers until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            listener.asking += 1
            listener.held.wait(60)
            listener.received.append(body)
            try:
                self.send_response(listener.reply)
                self.send_header("content-length", "0")
                self.end_headers()
            except OSError:
                return  # whoever asked was killed

        def log_message(self, *_):
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listener = Listener(f"http://127.0.0.1:{server.server_port}/hook?token=listener-secret")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield listener
    finally:
        listener.held.set()
        server.shutdown()
        thread.join()
        server.server_close()
