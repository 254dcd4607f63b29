"""Headers that keep what a record carries from acting in a labeler's browser, and other sites from using the API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.datastructures import MutableHeaders

from argilla_setup.security import custom_field_frame

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
_FONTS = (".woff", ".woff2", ".ttf")


def content_security_policy(scripts: Iterable[str]) -> str:
    """The policy of every page but a custom field's; `scripts` are the hashes of the web UI's own inline scripts.

    No other inline script runs, whatever a text contains, and nothing is loaded from or sent to elsewhere.
    """
    return "; ".join(
        (
            "default-src 'self'",
            " ".join(("script-src 'self'", *scripts)),
            "script-src-attr 'none'",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "media-src 'self' data: blob:",
            "font-src 'self' data:",
            "connect-src 'self'",
            "frame-src 'self'",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    )


def secured(app: ASGIApp, scripts: Iterable[str] = ()) -> ASGIApp:
    """`app` with the headers on every reply. `scripts` as web_ui.harden returns them."""
    everywhere = {**HEADERS, "Content-Security-Policy": content_security_policy(scripts)}
    # The files of the web UI are no secret, and a custom field's frame, an origin of its own, loads them too. They are
    # asked for anew each time, for a new version's corrections must not wait for a browser's memory.
    files = {**everywhere, "Cross-Origin-Resource-Policy": "cross-origin", "Cache-Control": "no-cache"}
    fonts = {**files, "Access-Control-Allow-Origin": "*"}
    frame = {
        **files,
        "Content-Security-Policy": custom_field_frame.CONTENT_SECURITY_POLICY,
        "X-Frame-Options": "SAMEORIGIN",
    }

    def headers_of(path: str) -> dict[str, str]:
        if "/api/" in path:
            return everywhere
        if path.endswith("/" + custom_field_frame.PATH):
            return frame
        return fonts if path.endswith(_FONTS) else files

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        chosen = headers_of(scope["path"])

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in chosen.items():
                    headers[name] = value
            await send(message)

        await app(scope, receive, send_with_headers)

    return wrapped
