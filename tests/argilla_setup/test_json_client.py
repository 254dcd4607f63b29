"""An owner's key goes to the server that was named, and whatever that answers is one line."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from argilla_setup import running
from argilla_setup.accounts import client as accounts_client
from tests.argilla_setup.refusals import refused

KEY = "k" * 43


@contextmanager
def answering(*lines):
    """The URL of a server that answers these lines, whatever they are, and the keys that it was given."""
    keys = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            keys.append(self.headers["X-Argilla-Api-Key"])
            self.wfile.write("\r\n".join(lines).encode())

        def log_message(self, *_):
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", keys
    finally:
        server.shutdown()
        server.server_close()


def refusal(tmp_path, url):
    return refused(lambda: accounts_client.listing(tmp_path, url=url))


def test_a_key_does_not_follow_a_redirect(tmp_path, monkeypatch):
    monkeypatch.setenv("ARGILLA_API_KEY", KEY)
    with answering("HTTP/1.0 200 OK", "", "[]") as (elsewhere, stolen):
        location = elsewhere.replace("//", "//user:hidden@") + "/x?token=hidden"
        with answering("HTTP/1.0 302 Found", f"Location: {location}", "", "") as (url, keys):
            said = refusal(tmp_path, url)
            assert running.ask(url, "/api/v1/me", key=KEY) is None
        assert keys == [KEY, KEY]
        assert stolen == []
        assert f"redirects to {elsewhere}," in said
        assert "hidden" not in said


@pytest.mark.parametrize("lines", [("\x1b[2Jnonsense", ""), ("HTTP/1.0 200 OK", "Content-Length: 9", "", "[]"), ("",)])
def test_an_answer_that_is_none_is_told_in_a_line(lines, tmp_path, monkeypatch):
    monkeypatch.setenv("ARGILLA_API_KEY", KEY)
    with answering(*lines) as (url, _):
        said = refusal(tmp_path, url)
        assert "gave no answer" in said
        assert said.isprintable()
        assert running.ask(url, "/api/v1/me") is None


@pytest.mark.parametrize("url", ["http://127.0.0.1:abc", "http://[::1", "http://" + "a" * 80])
def test_an_address_that_is_none_is_told_in_a_line(url, tmp_path, monkeypatch):
    monkeypatch.setenv("ARGILLA_API_KEY", KEY)
    assert f"{url} gave no answer" in refusal(tmp_path, url)


def test_a_key_that_no_header_can_hold_is_not_shown(tmp_path, monkeypatch):
    monkeypatch.setenv("ARGILLA_API_KEY", "first\nsecond")
    said = refusal(tmp_path, "http://127.0.0.1:9")
    assert "API key holds characters" in said
    assert "second" not in said
