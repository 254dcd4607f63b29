"""Where a migration goes from and to: what is taken for what, and that no password is ever shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from argilla_setup.errors import LauncherError
from argilla_setup.migration.ends import HomeEnd, PostgresEnd, SqliteEnd, end_of
from argilla_setup.migration.migrate import migrate
from tests.argilla_setup.refusals import refused

SECRET = "p%40ss-word"


def test_a_home_a_file_and_a_server(tmp_path, monkeypatch):
    home = end_of(str(tmp_path))
    assert isinstance(home, HomeEnd)
    assert (home.shown, home.database) == (str(tmp_path), tmp_path / "argilla.db")
    file = end_of("sqlite:////srv/%ED%95%9C/argilla.db?check_same_thread=False")
    assert isinstance(file, SqliteEnd)
    assert file.database == Path("/srv/한/argilla.db")

    # As Argilla's settings have it: the other driver, and its way to ask for TLS.
    url = f"postgresql+asyncpg://argilla:{SECRET}@db.internal:5433/argilla?ssl=require&command_timeout=60"
    (tmp_path / "url").write_text(url + "\n")
    monkeypatch.setenv("TO", url)
    for given in (f"file:{tmp_path / 'url'}", "env:TO"):
        end = end_of(given)
        assert isinstance(end, PostgresEnd)
        assert end.url == f"postgresql+psycopg2://argilla:{SECRET}@db.internal:5433/argilla?sslmode=require"
        assert end.shown == "postgresql://argilla@db.internal:5433/argilla"
        assert SECRET not in repr(end)
    socket = end_of("postgresql://argilla@/argilla?host=/run/postgresql")
    assert socket.shown == "postgresql://argilla@/run/postgresql/argilla"


@pytest.mark.parametrize(
    ("given", "word"),
    [
        (f"postgresql://argilla:{SECRET}@db/argilla", "was given with its password"),
        (f"postgresql://db/argilla?user=argilla&password={SECRET}", "was given with its password"),
        (f"mysql://argilla:{SECRET}@db/argilla", "expected postgresql://"),
        (f"postgresql://argilla:{SECRET}@db:port/argilla", "no database URL"),
        ("env:LINGO_NOT_SET", "LINGO_NOT_SET is not set"),
        ("file:/nowhere/url", "/nowhere/url cannot be read"),
    ],
)
def test_what_is_none_of_them_is_told_without_its_password(given, word):
    assert SECRET not in refused(lambda: end_of(given), word)


def test_ends_that_cannot_be_copied(tmp_path):
    for source, target, word in (
        (tmp_path / "home", tmp_path / "home", "are both"),
        (tmp_path / "nowhere", tmp_path / "home", "is not there"),
        (tmp_path / "stock", tmp_path / "home", f"give sqlite:///{tmp_path}/stock/argilla.db"),
    ):
        (tmp_path / "stock").mkdir(exist_ok=True)
        (tmp_path / "stock" / "argilla.db").write_bytes(b"")
        with pytest.raises(LauncherError, match=word):
            migrate(str(source), str(target))
    assert not (tmp_path / "home").exists()
