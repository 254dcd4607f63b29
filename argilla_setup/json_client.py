"""Ask a server for JSON, with an API key that goes nowhere else. Standard library only."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Any


class NoAnswerError(Exception):
    """Nothing that can be understood came back; the text says why, and holds no secret."""


class RefusedError(NoAnswerError):
    """The server answered with another code than one of success: 3xx too, for a redirect is not followed."""

    def __init__(self, code: int, detail: str | None, location: str | None) -> None:
        super().__init__(f"it answered {code}")
        self.code = code
        self.detail = detail
        """What the server said about it, where it did in Argilla's way."""
        self.location = location
        """Where a redirect leads."""


def ask(
    url: str,
    *,
    method: str | None = None,
    key: str | None = None,
    body: Any = None,
    form: dict[str, str] | None = None,
    patience_s: float,
    proxies: bool = False,
) -> Any:
    """The JSON that the server answers; GET where neither `body` (JSON) nor `form` is sent, else POST.

    Never through a proxy unless `proxies`: most of our servers are on this machine. RefusedError or NoAnswerError where
    there is no such answer within `patience_s` seconds of silence.
    """
    headers = {}
    if key:
        # What the library would say about another one quotes it.
        if not (key.isascii() and key.isprintable()):
            raise NoAnswerError("the API key holds characters that no key has")
        headers["X-Argilla-Api-Key"] = key
    data = urllib.parse.urlencode(form).encode() if form is not None else None
    if body is not None:
        data = json.dumps(body).encode()
        headers["Content-Type"] = "application/json"
    handlers: list[urllib.request.BaseHandler] = [_NoRedirects()]
    if not proxies:
        handlers.append(urllib.request.ProxyHandler({}))
    try:
        request = urllib.request.Request(url, data=data, method=method, headers=headers)
        with urllib.request.build_opener(*handlers).open(request, timeout=patience_s) as reply:
            return json.loads(reply.read())
    except urllib.error.HTTPError as error:
        with error:
            raise RefusedError(error.code, _detail(error), error.headers.get("Location")) from None
    except urllib.error.URLError as error:
        raise NoAnswerError(_one_line(error.reason)) from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise NoAnswerError(_one_line(error)) from None


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The library would send the key along, to whatever place it is told."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _one_line(reason: object) -> str:
    """Why, without what a strange server may have put into it to change the terminal."""
    line = " ".join(str(reason).split())[:200]
    return "".join(letter for letter in line if letter.isprintable()) or type(reason).__name__


def _detail(error: urllib.error.HTTPError) -> str | None:
    try:
        detail = json.loads(error.read()).get("detail")
    except (OSError, ValueError, AttributeError, http.client.HTTPException):
        return None
    return detail if isinstance(detail, str) else None
