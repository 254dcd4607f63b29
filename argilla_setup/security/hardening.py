"""All that makes Argilla safe for a team: applied to the exact version it was written for, or the start is refused."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from argilla_server.constants import DEFAULT_API_KEY, DEFAULT_PASSWORD
from argilla_server.contexts.accounts import verify_password
from argilla_server.models import User
from argilla_server.security.settings import settings as sign_in_settings
from sqlalchemy import select

from argilla_setup.accounts import api as accounts_api
from argilla_setup.accounts.credentials_file import CredentialsFile
from argilla_setup.accounts.owner_sign_in import SHORTEST_PASSWORD
from argilla_setup.errors import LauncherError
from argilla_setup.home import read_json, write_private
from argilla_setup.security import sign_in, web_ui
from argilla_setup.security.headers import secured

if TYPE_CHECKING:
    from sqlalchemy.orm import Session
    from starlette.types import ASGIApp

    from argilla_setup.home import Home

SECRET = "ARGILLA_AUTH_SECRET_KEY"
PROXIES = "LINGO_HITL_TRUSTED_PROXIES"
SHORTEST_SECRET = 32
FEWEST_LETTERS = 10
SHORTEST_KEY = 20
GUESSED_FIRST = ("", DEFAULT_PASSWORD, "12345678", "123456789", "password", "qwerty123", "argilla123", "lingo1234")


class HardeningError(LauncherError):
    """One line for the user: why the server is not started."""


def hardened(app: Any, version: str, home: Home) -> ASGIApp:
    """Argilla's application with its web UI corrected, signing in limited, accounts managed and headers set."""
    try:
        scripts = web_ui.harden(app, version)
        sign_in.apply(version)
    except (web_ui.WebUiMismatchError, sign_in.SignInMismatchError) as error:
        raise HardeningError(f"{error}. Delete the server environment and run `lingo-hitl up` again.") from None
    accounts_api.mount(home.credentials)
    return secured(app, scripts)


def refuse_if_exposed(session: Session, home: Home, host: str) -> None:
    """HardeningError where others can reach `host` and the secret or somebody's password or key is a weak one."""
    if is_loopback(host):
        return
    secret = sign_in_settings.secret_key
    if len(secret) < SHORTEST_SECRET or len(set(secret)) < FEWEST_LETTERS or os.environ.get(SECRET) != secret:
        raise HardeningError(
            f"{host} is reached from other machines, and the secret that signs sessions is too short or not kept;"
            f" expected {SHORTEST_SECRET} random characters in {SECRET}. Unset it, and {home.secrets} is used."
        )
    weak = _weak_users(session, home)
    if weak:
        names = ", ".join(weak)
        raise HardeningError(
            f"{host} is reached from other machines, and these users have passwords or API keys that anybody would try"
            f" first: {names}. Run `lingo-hitl up` without --host, `lingo-hitl accounts rotate NAME` for each, then"
            " this again."
        )


def trusted_proxies() -> str | None:
    """Addresses and networks, from LINGO_HITL_TRUSTED_PROXIES, whose word on where a request comes from counts.

    Nobody's unless they are named: with a header of their own making, guesses would come from everywhere.
    HardeningError where one is no address.
    """
    named = [part.strip() for part in os.environ.get(PROXIES, "").split(",") if part.strip()]
    for each in named:
        try:
            ipaddress.ip_network(each)
        except ValueError:
            raise HardeningError(
                f"{PROXIES} names {each!r}; expected addresses or networks, such as 10.0.0.5 or 172.18.0.0/16."
            ) from None
    return ",".join(named) or None


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _weak_users(session: Session, home: Home) -> list[str]:
    """Users whose password or API key is among the first that are tried. Hashes that were checked are remembered."""
    checked_file = home.run / "checked-passwords.json"
    checked = set(read_json(checked_file).get("checked", []))
    users = list(session.scalars(select(User).order_by(User.username)))
    made = {
        name: str(account.get("password")) for name, account in CredentialsFile.read(home.credentials).accounts.items()
    }
    with ThreadPoolExecutor() as threads:
        found = list(
            threads.map(
                lambda user: _digest(user) not in checked and _is_guessable(user, made.get(user.username, "")), users
            )
        )
    strong = [_digest(user) for user, weak in zip(users, found, strict=True) if not weak]
    write_private(checked_file, json.dumps({"checked": strong}) + "\n")
    return [
        user.username
        for user, weak in zip(users, found, strict=True)
        if weak or user.api_key == DEFAULT_API_KEY or len(user.api_key) < SHORTEST_KEY
    ]


def _is_guessable(user: User, made: str) -> bool:
    """`made` is the password that was generated for the user, where it is known: then one look is enough."""
    guesses = (user.username, f"{user.username}1234", *GUESSED_FIRST)
    if len(made) >= SHORTEST_PASSWORD and made not in guesses and verify_password(made, user.password_hash):
        return False
    return any(verify_password(guess, user.password_hash) for guess in guesses)


def _digest(user: User) -> str:
    # What was checked against an earlier list is checked again.
    return hashlib.sha256(f"{GUESSED_FIRST}:{user.username}:{user.password_hash}".encode()).hexdigest()
