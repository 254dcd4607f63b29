"""Secrets from files, as container engines hand them over: NAME_FILE is the file that holds what NAME would.

Passwords are given apart from addresses, so that an address can be shown in a log or an error.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from argilla_setup.errors import LauncherError

if TYPE_CHECKING:
    from collections.abc import MutableMapping

OWNER_PASSWORD = "LINGO_HITL_OWNER_PASSWORD"
OWNER_API_KEY = "LINGO_HITL_OWNER_API_KEY"
DATABASE_PASSWORD = "ARGILLA_DATABASE_PASSWORD"
REDIS_PASSWORD = "ARGILLA_REDIS_PASSWORD"
ELASTICSEARCH_PASSWORD = "ARGILLA_ELASTICSEARCH_PASSWORD"
NAMES = (
    "ARGILLA_AUTH_SECRET_KEY",
    "ARGILLA_DATABASE_URL",
    DATABASE_PASSWORD,
    "ARGILLA_REDIS_URL",
    REDIS_PASSWORD,
    "ARGILLA_ELASTICSEARCH",
    ELASTICSEARCH_PASSWORD,
    OWNER_PASSWORD,
    OWNER_API_KEY,
)
"""The variables that may be given as files."""
_WITHIN_ADDRESSES = (
    (REDIS_PASSWORD, "ARGILLA_REDIS_URL", ""),
    (ELASTICSEARCH_PASSWORD, "ARGILLA_ELASTICSEARCH", "elastic"),
)
"""Passwords that Argilla takes within an address only: whose, and for which user where it names none."""
DRIVERS_PASSWORD = "PGPASSWORD"
"""Where PostgreSQL's drivers look for a password that the address lacks."""


class SecretError(LauncherError):
    """One line for the user; never the secret."""


def read_secrets(environment: MutableMapping[str, str]) -> None:
    """Set each of NAMES whose file is given, and put passwords where Argilla and its drivers look for them.

    Raises:
        SecretError: a file cannot be read or is empty, or a secret is given twice.
    """
    for name in NAMES:
        file = environment.pop(f"{name}_FILE", None)
        if file:
            if environment.get(name):
                raise SecretError(f"both {name} and {name}_FILE are set; expected one of them. Unset {name}.")
            environment[name] = _read(Path(file), f"{name}_FILE")
    _split_database_url(environment)
    for password, url, user in _WITHIN_ADDRESSES:
        if environment.get(password):
            environment[url] = _with_password(environment, url, environment[password], user)
            del environment[password]


def _read(file: Path, name: str) -> str:
    try:
        secret = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SecretError(f"{name} is {file}, which cannot be read ({reason}). Check the file and its owner.") from None
    if not secret:
        raise SecretError(f"{name} is {file}, which is empty; a secret was expected. See docs/deploy.md.")
    return secret


def _split_database_url(environment: MutableMapping[str, str]) -> None:
    """Take the password out of PostgreSQL's address: Argilla's migrations stumble over a % in it."""
    url = environment.get("ARGILLA_DATABASE_URL", "")
    given = environment.pop(DATABASE_PASSWORD, None)
    if not url.startswith("postgres"):
        return
    parts = urlsplit(url)
    if parts.password is not None:
        user, _, place = parts.netloc.rpartition("@")
        environment["ARGILLA_DATABASE_URL"] = parts._replace(netloc=f"{user.partition(':')[0]}@{place}").geturl()
        given = given or unquote(parts.password)
    if given:
        environment[DRIVERS_PASSWORD] = given


def _with_password(environment: MutableMapping[str, str], name: str, password: str, user: str) -> str:
    if not environment.get(name):
        raise SecretError(f"a password for {name} is given, and {name} is not set. Set it to the address.")
    parts = urlsplit(environment[name])
    place = parts.netloc.rpartition("@")[2]
    return parts._replace(
        netloc=f"{quote(unquote(parts.username or user), safe='')}:{quote(password, safe='')}@{place}"
    ).geturl()
