"""Reaching an Argilla 2.8: the one of this machine or a team's by URL, with every fault as one clear line."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from argilla_setup import launcher
from lingo_hitl.config import ArgillaConfig
from lingo_hitl.errors import UserError

if TYPE_CHECKING:
    import argilla as rg

TIMEOUT_S = 120


class Refused(UserError):
    """Argilla answered 422: something in the request does not fit; the text says what."""


@dataclass
class Connection:
    """A signed-in connection to one workspace of an Argilla."""

    client: rg.Argilla
    url: str
    workspace: str

    def request(self, method: str, path: str, **options: Any) -> Any:
        """One REST call below `/api/v1/`, its reply as JSON (None where it is empty).

        Raises:
            Refused: 422.
            UserError: the server is away, refuses the key, fails, or is no Argilla.
        """
        with speaking_to(self.url):
            # Argilla packs replies with brotli, which costs the server more than a local socket gains.
            reply = self.client.http_client.request(
                method, f"/api/v1/{path}", headers={"accept-encoding": "identity"}, **options
            )
            reply.raise_for_status()
            return reply.json() if reply.content else None


def connect(config: ArgillaConfig, home: Path) -> Connection:
    """Sign in to the Argilla that a project names, or to the one that runs in `home`.

    Raises:
        UserError: it does not run, is not an Argilla, refuses the key, or lacks the workspace.
    """
    url, key = _address(config, home)
    with _quiet(), speaking_to(url):
        import argilla as rg

        client = rg.Argilla(api_url=url, api_key=key, timeout=TIMEOUT_S, retries=2)
        workspaces = [workspace.name for workspace in client.workspaces]
    if config.workspace not in workspaces:
        raise UserError(
            f"{url}: there is no workspace '{config.workspace}'; this key sees: {', '.join(workspaces) or 'none'}. "
            "Check argilla.workspace in the config."
        )
    return Connection(client, url, config.workspace)


def _address(config: ArgillaConfig, home: Path) -> tuple[str, str]:
    if config.url:
        key = os.environ.get(config.api_key_env, "")
        if not key:
            raise UserError(
                f"no API key for {config.url}: the environment variable {config.api_key_env} is empty. "
                "Set it, or put it into .env beside the config."
            )
        if not config.url.startswith(("http://", "https://")):
            raise UserError(f"argilla.url is '{config.url}'; expected a URL such as http://127.0.0.1:6900.")
        return config.url, key
    # A server that is busy catching up may be slow to answer; only one without a process does not run.
    if launcher.status(home).pid is None:
        raise UserError(f"Argilla is not running in {home}. Start it with `lingo-hitl up`.")
    credentials = launcher.credentials(home)
    return credentials.url, credentials.accounts["owner"].api_key


@contextmanager
def speaking_to(url: str) -> Iterator[None]:
    """Turns what can go wrong between us and an Argilla into one line that says what to do."""
    from argilla._exceptions import ArgillaAPIError, ArgillaCredentialsError, ArgillaError, UnauthorizedError

    try:
        yield
    except (ArgillaCredentialsError, UnauthorizedError) as error:
        raise UserError(f"{url}: refused the API key. Check the key and that its account is active.") from error
    except httpx.HTTPStatusError as error:
        raise _by_status(url, error.response.status_code, error.response.text) from error
    except ArgillaAPIError as error:
        raise _by_status(url, error.status_code, str(error)) from error
    except httpx.TimeoutException as error:
        raise UserError(f"{url}: did not answer within {TIMEOUT_S} s. Try again when it is less busy.") from error
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise UserError(
            f"{url}: no Argilla answers there ({type(error).__name__}: {error}). "
            "Start it with `lingo-hitl up`, or check argilla.url in the config; then run the same command again."
        ) from error
    except (ValueError, ArgillaError) as error:
        raise UserError(
            f"{url}: what answers there does not speak Argilla's protocol ({_brief(str(error))}). "
            "Check argilla.url in the config."
        ) from error


def _by_status(url: str, status: int, text: str) -> UserError:
    if status == httpx.codes.UNAUTHORIZED:
        return UserError(f"{url}: refused the API key (401). Check the key and that its account is active.")
    if status == httpx.codes.FORBIDDEN:
        return UserError(f"{url}: this account may not do that (403). Use the key of an owner or an admin.")
    if status == httpx.codes.UNPROCESSABLE_ENTITY:
        return Refused(f"{url}: refused what was sent (422): {_brief(text)}")
    if status == httpx.codes.NOT_FOUND:
        return UserError(f"{url}: has no such page (404). Is it an Argilla 2.8, and is argilla.url its root?")
    return UserError(f"{url}: answered {status}: {_brief(text)} Its log says more; then run the same command again.")


def _brief(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 300 else flat[:297] + "..."


@contextmanager
def _quiet() -> Iterator[None]:
    """Argilla's SDK logs and warns at sign-in about what the user did not ask."""
    logging.getLogger("httpx").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
