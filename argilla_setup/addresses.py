"""Which address a server listens on, and the URL it is reached by."""

from __future__ import annotations

import socket

from argilla_setup.errors import LauncherError

DEFAULT_PORT = 6900


def choose_port(host: str, asked: int | None, last: int | None) -> int:
    """The port that was asked for, which must be free; else the last one or 6900 where free; else any free one."""
    if asked is not None:
        if not 0 < asked < 65536:
            raise LauncherError(f"port {asked} does not exist; expected 1 to 65535. Give another --port.")
        reason = why_not_free(host, asked)
        if reason:
            raise LauncherError(
                f"port {asked} on {host} cannot be used ({reason}). Give a free one with --port, or none: then one is"
                " chosen."
            )
        return asked
    for candidate in (last, DEFAULT_PORT):
        if candidate and not why_not_free(host, candidate):
            return candidate
    return any_free_port(host)


def why_not_free(host: str, port: int) -> str | None:
    """What keeps a server from listening there; None where nothing does."""
    try:
        with socket.socket(_family(host)) as probe:
            # As the server will: without it, connections that ended a moment ago would keep the port for a minute.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        return error.strerror or str(error)
    return None


def url_of(host: str, port: int) -> str:
    """The URL by which this machine reaches a server that listens on `host`."""
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}
    return f"http://{everywhere.get(host, f'[{host}]' if ':' in host else host)}:{port}"


def any_free_port(host: str) -> int:
    """A port that nothing listens on now."""
    try:
        with socket.socket(_family(host)) as probe:
            probe.bind((host, 0))
            return int(probe.getsockname()[1])
    except OSError as error:
        raise LauncherError(
            f"no server can listen on {host} ({error.strerror or error}); an address of this machine was expected."
            " Give another --host."
        ) from None


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
