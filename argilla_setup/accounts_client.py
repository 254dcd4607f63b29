"""The launcher's side of accounts: what `lingo-hitl accounts` asks of a running server. Standard library only."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from argilla_setup import launcher
from argilla_setup.errors import LauncherError
from argilla_setup.home import Home, read_json

PATIENCE_S = 300.0


@dataclass(frozen=True)
class AccountChange:
    """One thing that was done to a user or a workspace. Secrets are shown once; its repr holds none."""

    what: str
    name: str
    detail: str
    password: str | None = field(default=None, repr=False)
    api_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class ListedUser:
    """One user of the server."""

    name: str
    display: str
    role: str
    workspaces: tuple[str, ...]
    active: bool
    answers: int


@dataclass(frozen=True)
class TeamServer:
    """A server of lingo-hitl that is no home of this machine; its repr holds no secret."""

    url: str
    api_key: str = field(repr=False)
    """An owner's."""


def apply(home: Path | TeamServer, file: Path, *, dry_run: bool = False) -> list[AccountChange]:
    """Make the running server's users, roles and workspaces those that `file` (an accounts.yaml) lists.

    Returns what was done, with the passwords that were made, which are kept nowhere else; nothing the second time.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise LauncherError(f"{file} is not UTF-8 (byte {error.start}). Save it as UTF-8.") from None
    except OSError as error:
        raise LauncherError(f"{file} cannot be read ({error.strerror}). Give the path of an accounts.yaml.") from None
    answer = _ask(home, "POST", "/apply", {"text": text, "place": str(file), "dry_run": dry_run})
    return [AccountChange(**change) for change in answer]


def rotate(home: Path | TeamServer, name: str, *, password: bool = True, key: bool = True) -> AccountChange:
    """A new password, API key or both for one user; sessions with the old password end."""
    return AccountChange(**_ask(home, "POST", "/rotate", {"name": name, "password": password, "key": key}))


def listing(home: Path | TeamServer) -> list[ListedUser]:
    """Every user of the running server, by name."""
    return [ListedUser(**{**user, "workspaces": tuple(user["workspaces"])}) for user in _ask(home, "GET", "")]


def _ask(home: Path | TeamServer, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    place = None
    if isinstance(home, TeamServer):
        url, key, opener = home.url.rstrip("/"), home.api_key, urllib.request.build_opener()
        if not url.startswith(("http://", "https://")):
            raise LauncherError(f"{url} is no address of a server; expected one such as https://argilla.example.org.")
    else:
        place = Home(Path(home).expanduser().absolute())
        now = launcher.status(place.path)
        if not now.running or now.url is None:
            raise LauncherError(f"the server of {place.path} is not running. Run `lingo-hitl up`, then this again.")
        url = now.url
        key = str(read_json(place.credentials).get("accounts", {}).get("owner", {}).get("api_key"))
        # Never through a proxy: the server is this machine's.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(
        f"{url}/api/v1/lingo/accounts{path}",
        data=json.dumps(body).encode() if body is not None else None,
        method=method,
        headers={"X-Argilla-Api-Key": key, "Content-Type": "application/json"},
    )
    try:
        with opener.open(request, timeout=PATIENCE_S) as reply:
            return json.loads(reply.read())
    except urllib.error.HTTPError as error:
        raise LauncherError(_explain(error, place)) from None
    except (OSError, ValueError) as error:
        advice = f"; see {place.log}. Run `lingo-hitl up`, then this again." if place else ". Check the address."
        raise LauncherError(f"the server at {url} gave no answer ({error}){advice}") from None


def _explain(error: urllib.error.HTTPError, place: Home | None) -> str:
    try:
        detail = json.loads(error.read()).get("detail")
    except (OSError, ValueError, AttributeError):
        detail = None
    if error.code == 422 and isinstance(detail, str):
        return detail
    if place is None:
        return {
            401: "the server refused the API key. Give an owner's in ARGILLA_API_KEY.",
            403: "the API key is not an owner's. Give an owner's in ARGILLA_API_KEY.",
            404: "the server is no lingo-hitl server, or an earlier one: it manages no accounts. Check the address.",
        }.get(error.code, f"the server answered {error.code}{f' ({detail})' if isinstance(detail, str) else ''}.")
    if error.code == 401:
        return (
            f"the server refused the owner's API key of {place.credentials}. Run `lingo-hitl down`, then"
            " `lingo-hitl up`: it sets the key of that file."
        )
    if error.code == 404:
        return "the server is of an earlier lingo-hitl. Run `lingo-hitl down`, then `lingo-hitl up`."
    return f"the server answered {error.code}{f' ({detail})' if isinstance(detail, str) else ''}; see {place.log}."
