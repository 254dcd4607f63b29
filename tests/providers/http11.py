"""Just enough HTTP/1.1 for a provider: POST requests with a Content-Length, one answer each, connections kept open.

Written by hand because a loopback provider has to be cheap beside what is measured against it: a reply is one
write, and no request costs a thread.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http.client import responses
from typing import Literal

How = Literal["whole", "cut", "stalled", "reset"]
"""How a reply is sent: all of it; half, and the connection ends; half, and nothing follows; no byte but a reset."""


@dataclass(frozen=True)
class Request:
    path: str
    headers: dict[str, str]  # names in lower case
    body: bytes


@dataclass(frozen=True)
class Response:
    status: int
    content_type: str
    body: bytes
    how: How = "whole"
    retry_after: float | None = None  # seconds

    def bytes(self) -> bytes:
        later = "" if self.retry_after is None else f"Retry-After: {self.retry_after:.3f}\r\n"
        head = (
            f"HTTP/1.1 {self.status} {responses.get(self.status, '')}\r\n{later}"
            f"Content-Type: {self.content_type}\r\nContent-Length: {len(self.body)}\r\n\r\n"
        )
        return head.encode() + self.body


Answer = Callable[[Request], Awaitable[tuple[Response, Callable[[], None]]]]
"""Gives the response to a request, and what is called once all of it has been sent."""


class Connection(asyncio.Protocol):
    """One client's connection; its requests are answered one after the other."""

    def __init__(self, answer: Answer, came_or_went: Callable[[int], None]) -> None:
        self._answer = answer
        self._came_or_went = came_or_went
        self._received = bytearray()
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._came_or_went(1)

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        self._received.clear()
        self._came_or_went(-1)

    def _next(self) -> None:
        if self._task is not None or (request := self._taken()) is None:
            return
        self._task = asyncio.get_running_loop().create_task(self._see_through(request))

    def _taken(self) -> Request | None:
        """The next whole request, taken from what has been received."""
        head, end, _ = bytes(self._received).partition(b"\r\n\r\n")
        if not end:
            return None
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        start = len(head) + len(end)
        stop = start + int(headers.get("content-length", 0))
        if len(self._received) < stop:
            return None
        body = bytes(self._received[start:stop])
        del self._received[:stop]
        return Request(first.split(" ")[1], headers, body)

    async def _see_through(self, request: Request) -> None:
        response, sent = await self._answer(request)
        self._task = None
        if self._transport.is_closing():
            return
        content = response.bytes()
        if response.how == "whole":
            self._transport.write(content)
            if not self._transport.is_closing() and not self._transport.get_write_buffer_size():
                sent()
            self._next()
        elif response.how == "reset":
            client: socket.socket = self._transport.get_extra_info("socket")
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()
        else:
            self._transport.write(content[: len(content) - (len(response.body) + 1) // 2])
            if response.how == "cut":
                self._transport.close()


async def serve(answer: Answer, port: int, came_or_went: Callable[[int], None]) -> tuple[asyncio.Server, int]:
    """A listening server on the loopback, and its port; `came_or_went` hears 1 or -1 for each connection."""
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(answer, came_or_went), "127.0.0.1", port, backlog=1024
    )
    return server, server.sockets[0].getsockname()[1]
