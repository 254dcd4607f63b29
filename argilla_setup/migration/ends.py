"""Where a migration comes from and goes to: a home, a SQLite file or a PostgreSQL. Passwords are never shown."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from argilla_setup.errors import LauncherError
from argilla_setup.home import Home

DRIVER = "postgresql+psycopg2"
_RENAMED = {"ssl": "sslmode"}
_OF_LIBPQ = ("host", "port", "sslmode", "sslrootcert", "sslcert", "sslkey", "connect_timeout", "options", "passfile")
"""What a URL may ask of the driver; asyncpg, which Argilla uses, has others, that mean nothing here."""


@dataclass(frozen=True)
class HomeEnd:
    """A home folder of ours."""

    home: Home
    next_step = "Start it: lingo-hitl up --home {shown}. Its search index is built at the first start."

    @property
    def shown(self) -> str:
        return str(self.home.path)

    @property
    def database(self) -> Path:
        return self.home.database

    def task(self) -> dict[str, str]:
        return {"shown": self.shown, "path": str(self.database)}


@dataclass(frozen=True)
class SqliteEnd:
    """A SQLite file, as of an Argilla that somebody started without us."""

    database: Path
    next_step = (
        "A home reads it as its argilla.db; an Argilla with Elasticsearch needs:"
        " python -m argilla_server search-engine reindex"
    )

    @property
    def shown(self) -> str:
        return f"sqlite:///{self.database}"

    def task(self) -> dict[str, str]:
        return {"shown": self.shown, "path": str(self.database)}


@dataclass(frozen=True)
class PostgresEnd:
    """A PostgreSQL database; `shown` names it without user's password and options."""

    shown: str
    url: str = field(repr=False)
    next_step = (
        "Start or restart its server: the embedded search index is built then. With Elasticsearch:"
        " python -m argilla_setup.reindex --home HOME, as docs/deploy.md says."
    )

    def task(self) -> dict[str, str]:
        return {"shown": self.shown, "url": self.url}


def end_of(text: str) -> HomeEnd | SqliteEnd | PostgresEnd:
    """What `text` names: a folder, a URL, or `env:NAME` or `file:PATH` that hold a URL; else LauncherError."""
    kind, _, rest = text.partition(":")
    if kind == "env":
        given = os.environ.get(rest, "").strip()
        if not given:
            raise LauncherError(f"the environment variable {rest} is not set; a database URL was expected in it.")
        return _end_of_url(given, said=text)
    if kind == "file":
        path = Path(rest).expanduser()
        try:
            return _end_of_url(path.read_text(encoding="utf-8").strip(), said=text)
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8"
            raise LauncherError(f"{path} cannot be read ({reason}); a file with a database URL was expected.") from None
    if "://" in text:
        end = _end_of_url(text, said="the URL")
        if isinstance(end, PostgresEnd) and _has_password(text):
            raise LauncherError(
                f"{end.shown} was given with its password, which stays in the shell's history and is seen in the list"
                " of processes. Put the URL into a file or a variable, and give file:PATH or env:NAME."
            )
        return end
    return HomeEnd(Home(Path(text).expanduser().absolute()))


def _end_of_url(url: str, *, said: str) -> SqliteEnd | PostgresEnd:
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        raise LauncherError(f"{said} is no database URL; expected postgresql://... or sqlite:///PATH.") from None
    kind = parts.scheme.partition("+")[0]
    if kind == "sqlite" and parts.path:
        # Three slashes, then the path: sqlite:////an/absolute one, sqlite:///a/relative one.
        return SqliteEnd(Path(unquote(parts.path[1:])).expanduser().absolute())
    if kind not in ("postgresql", "postgres"):
        raise LauncherError(
            f"{said} is no URL of a database that Argilla uses; expected postgresql://... or sqlite:///PATH."
        )
    asked = [(_RENAMED.get(name, name), value) for name, value in parse_qsl(parts.query)]
    options = urlencode([(name, value) for name, value in asked if name in _OF_LIBPQ])
    host = next((value for name, value in asked if name == "host"), parts.hostname or "")
    user = f"{parts.username}@" if parts.username else ""
    return PostgresEnd(
        shown=f"postgresql://{user}{host}{port}{parts.path}",
        url=f"{DRIVER}://{parts.netloc}{parts.path}{f'?{options}' if options else ''}",
    )


def _has_password(url: str) -> bool:
    parts = urlsplit(url)
    return parts.password is not None or any(name == "password" for name, _ in parse_qsl(parts.query))
