"""The launcher's side of accounts: what `lingo-hitl accounts` asks of a running server. Standard library only."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from argilla_setup import json_client, launcher
from argilla_setup.errors import LauncherError
from argilla_setup.home import Home, read_json

PATIENCE_S = 300.0
API_KEY = "ARGILLA_API_KEY"


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


def apply(home: Path, file: Path, *, dry_run: bool = False, url: str | None = None) -> list[AccountChange]:
    """Make the running server's users, roles and workspaces those that `file` (an accounts.yaml) lists.

    The server is that of `home`, or the team's at `url`, where an owner's key is taken from ARGILLA_API_KEY. Returns
    what was done, with the passwords that were made, which are kept nowhere else; nothing the second time.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise LauncherError(f"{file} is not UTF-8 (byte {error.start}). Save it as UTF-8.") from None
    except OSError as error:
        raise LauncherError(f"{file} cannot be read ({error.strerror}). Give the path of an accounts.yaml.") from None
    answer = _server(home, url).ask("POST", "/apply", {"text": text, "place": str(file), "dry_run": dry_run})
    return [AccountChange(**change) for change in answer]


def rotate(home: Path, name: str, *, password: bool = True, key: bool = True, url: str | None = None) -> AccountChange:
    """A new password, API key or both for one user; sessions with the old password end."""
    asked = {"name": name, "password": password, "key": key}
    return AccountChange(**_server(home, url).ask("POST", "/rotate", asked))


def listing(home: Path, *, url: str | None = None) -> list[ListedUser]:
    """Every user of the running server, by name."""
    users = _server(home, url).ask("GET", "")
    return [ListedUser(**{**user, "workspaces": tuple(user["workspaces"])}) for user in users]


@dataclass(frozen=True)
class _Server:
    """Where a server answers, with an owner's key."""

    url: str
    key: str = field(repr=False)
    home: Home | None
    """None where the server is another machine's."""

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        try:
            return json_client.ask(
                f"{self.url}/api/v1/lingo/accounts{path}",
                method=method,
                key=self.key,
                body=body,
                patience_s=PATIENCE_S,
                # A home's server is on this machine.
                proxies=self.home is None,
            )
        except json_client.RefusedError as error:
            redirects = 300 <= error.code < 400
            raise LauncherError(self._redirected(error) if redirects else self._explain(error)) from None
        except json_client.NoAnswerError as error:
            again = "Run `lingo-hitl up`" if self.home else "Check the URL and whether it runs"
            raise LauncherError(
                f"the server at {self.url} gave no answer ({error}){self._log()}. {again}, then this again."
            ) from None

    def _explain(self, error: json_client.RefusedError) -> str:
        if error.code == 422 and error.detail:
            return error.detail
        if error.code == 401 and self.home:
            return (
                f"the server refused the owner's API key of {self.home.credentials}. Run `lingo-hitl down`, then"
                " `lingo-hitl up`: it sets the key of that file."
            )
        if error.code == 401:
            return f"{self.url} refused the API key in {API_KEY}. Set it to an owner's."
        if error.code == 404 and self.home:
            return "the server is of an earlier lingo-hitl. Run `lingo-hitl down`, then `lingo-hitl up`."
        if error.code == 404:
            return f"{self.url} is no server of this lingo-hitl: it knows no accounts. Check the URL, or update it."
        return f"the server answered {error.code}{f' ({error.detail})' if error.detail else ''}{self._log()}."

    def _redirected(self, error: json_client.RefusedError) -> str:
        try:
            to = urlsplit(error.location or "")
        except ValueError:
            to = urlsplit("")
        # No more of the address: the rest may be secret.
        place = f"{to.scheme}://{to.netloc.rpartition('@')[2]}" if to.netloc else "another page of its own"
        return (
            f"{self.url} redirects to {place}, and an API key is not sent on. If that is the server, give its URL with"
            " --url."
        )

    def _log(self) -> str:
        return f"; see {self.home.log}" if self.home else ""


def _server(home: Path, url: str | None) -> _Server:
    if url:
        key = os.environ.get(API_KEY, "").strip()
        if not url.startswith(("http://", "https://")):
            raise LauncherError(f"--url is {url!r}; expected a URL such as https://argilla.example.org.")
        if not key:
            raise LauncherError(f"no API key for {url}: {API_KEY} is empty. Set it to an owner's key.")
        return _Server(url.rstrip("/"), key, None)
    place = Home(Path(home).expanduser().absolute())
    now = launcher.status(place.path)
    if now.pid is None or now.url is None:
        raise LauncherError(f"the server of {place.path} is not running. Run `lingo-hitl up`, then this again.")
    owner = read_json(place.credentials).get("accounts", {}).get("owner", {})
    return _Server(now.url, str(owner.get("api_key")), place)
