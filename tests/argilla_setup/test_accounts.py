"""Users, roles and workspaces from a file: made so, kept so, nobody deleted, and passwords shown once."""

from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import closing

import httpx
import pytest

from argilla_setup import launcher
from argilla_setup.accounts import client as accounts_client
from argilla_setup.errors import LauncherError
from lingo_hitl.cli import main
from tests.argilla_setup.rest import TEXT, Rest, rating
from tests.conftest import free_port, running_home

pytestmark = pytest.mark.server

TEAM = """
workspaces: [lingo, review]
users:
  minji: {display: 김민지, workspaces: [lingo, review]}
  서준: {display: 박서준}
  jiwoo: {display: 이지우, role: admin, workspaces: [review]}
"""


@pytest.fixture(scope="module")
def home():
    """One server for the module, for starting one takes seconds; each test begins with a file of its own."""
    with running_home() as home:
        yield home


def start(home, port=None):
    return launcher.up(home, port=port, say=lambda line: None)


def lose_credentials(home):
    """Stop the server and delete its credentials.json; the port, which was in it too."""
    port = httpx.URL(launcher.credentials(home).url).port
    launcher.down(home)
    (home / "credentials.json").unlink()
    return port


def apply(home, text, **more):
    file = home.parent / "accounts.yaml"
    file.write_text(text, encoding="utf-8")
    return accounts_client.apply(home, file, **more)


def done(changes):
    return {(change.what, change.name) for change in changes}


def token(home, name, password):
    """The reply to a sign-in as the web UI makes it."""
    url = launcher.credentials(home).url
    form = {"username": name, "password": password}
    return httpx.post(f"{url}/api/v1/token", data=form, trust_env=False, timeout=60)


def me(home, **headers):
    url = launcher.credentials(home).url
    reply = httpx.get(f"{url}/api/v1/me", headers=headers, trust_env=False, timeout=60)
    return reply.json()["username"] if reply.is_success else reply.status_code


def as_session(token_):
    return {"Authorization": f"Bearer {token_.json()['access_token']}"}


def test_a_team_comes_changes_leaves_and_comes_back(home):
    tried = apply(home, TEAM, dry_run=True)
    assert all(change.password is None for change in tried)
    assert {user.name for user in accounts_client.listing(home)} == {"owner", "annotator1", "annotator2"}

    made = apply(home, TEAM)
    assert (
        done(made)
        == done(tried)
        == {
            ("workspace created", "review"),
            ("created", "minji"),
            ("created", "서준"),
            ("created", "jiwoo"),
            ("deactivated", "annotator1"),
            ("deactivated", "annotator2"),
        }
    )
    passwords = {change.name: change.password for change in made if change.password}
    assert set(passwords) == {"minji", "서준", "jiwoo"}
    assert all(len(password) >= 16 for password in passwords.values())
    assert not any(password in repr(made) for password in passwords.values())
    assert apply(home, TEAM) == [], "the second time there is nothing to do"

    listed = {user.name: user for user in accounts_client.listing(home)}
    minji = listed["minji"]
    assert (minji.display, minji.role, minji.workspaces) == ("김민지", "annotator", ("lingo", "review"))
    assert listed["서준"].workspaces == ("lingo",)
    assert (listed["jiwoo"].role, listed["jiwoo"].workspaces) == ("admin", ("review",))
    assert (listed["annotator1"].active, listed["annotator1"].workspaces) == (False, ())

    # Minji answers, in a session and with a key, and is then no longer listed.
    signed_in = token(home, "minji", passwords["minji"])
    assert signed_in.status_code == 201
    session = as_session(signed_in)
    owner = Rest(home)
    key = next(user["api_key"] for user in owner("GET", "/users")["items"] if user["username"] == "minji")
    assert me(home, **session) == me(home, **{"X-Argilla-Api-Key": key}) == "minji"
    dataset = owner.create_dataset("work", fields={"t": TEXT}, questions={"rating": rating()})
    record = owner.upsert(dataset, [{"external_id": "1", "fields": {"t": "글"}}])[0]["id"]
    body = {"values": {"rating": {"value": 4}}, "status": "submitted"}
    owner("POST", f"/records/{record}/responses", json=body, headers={"X-Argilla-Api-Key": key})

    smaller = "users: {서준: {display: 박 서준, role: admin}, jiwoo: {display: 이지우, role: admin, workspaces: []}}"
    changes = apply(home, smaller)
    assert done(changes) == {
        ("deactivated", "minji"),
        ("display", "서준"),
        ("role", "서준"),
        ("left", "jiwoo"),
        ("workspace removed", "review"),
    }
    assert apply(home, smaller) == []
    [left] = [change for change in changes if change.name == "minji"]
    assert "1 answer stays" in left.detail
    assert token(home, "minji", passwords["minji"]).status_code == 401
    assert me(home, **session) == 401, "an open session ends"
    assert me(home, **{"X-Argilla-Api-Key": key}) == 401
    assert token(home, "서준", passwords["서준"]).status_code == 201, "others keep their passwords"
    [item] = owner("GET", f"/datasets/{dataset}/records", params={"include": "responses"})["items"]
    assert [answer["values"]["rating"]["value"] for answer in item["responses"]] == [4]

    # `up` brings nobody back, and makes nobody again; not even where credentials.json was lost.
    assert not start(home).started_now, "the annotators of `up` are known to be gone"
    start(home, lose_credentials(home))
    listed = {user.name: user for user in accounts_client.listing(home)}
    assert {name for name, user in listed.items() if user.active} == {"owner", "서준", "jiwoo"}
    assert listed["minji"].answers == 1
    assert token(home, "서준", passwords["서준"]).status_code == 201
    assert set(launcher.credentials(home).accounts) == {"owner"}

    back = apply(home, TEAM)
    assert ("reactivated", "minji") in done(back)
    [returned] = [change for change in back if change.what == "reactivated"]
    assert returned.password != passwords["minji"]
    assert token(home, "minji", returned.password).status_code == 201
    assert token(home, "minji", passwords["minji"]).status_code == 401
    assert me(home, **{"X-Argilla-Api-Key": key}) == 401, "the old key stays dead"
    assert me(home, **session) == 401, "and so does the old session"
    [item] = Rest(home)("GET", f"/datasets/{dataset}/records", params={"include": "responses"})["items"]
    assert len(item["responses"]) == 1


def test_a_workspace_goes_only_when_it_is_empty(home):
    apply(home, "workspaces: [lingo, full, empty]\nusers: {minji: {workspaces: [full, empty]}}")
    owner = Rest(home)
    full = next(item["id"] for item in owner("GET", "/me/workspaces")["items"] if item["name"] == "full")
    owner.create_draft("kept", workspace=full)
    changes = apply(home, "users: {minji: }")
    assert done(changes) == {("joined", "minji"), ("left", "minji"), ("workspace removed", "empty")}
    assert {item["name"] for item in owner("GET", "/me/workspaces")["items"]} == {"lingo", "full"}
    assert apply(home, "users: {minji: }") == []
    assert [item["name"] for item in owner("GET", "/me/datasets")["items"]].count("kept") == 1


def test_rotate_and_where_secrets_are(home):
    apply(home, "users: {someone: }")
    port = lose_credentials(home)
    with closing(sqlite3.connect(home / "argilla.db")) as database, database:
        # As an owner may have done through the API: the toolkit's own owner is no owner any more.
        database.execute("UPDATE users SET role = 'annotator' WHERE username = 'owner'")
        database.execute("DELETE FROM users WHERE username = 'annotator1'")
    start(home, port)
    before = launcher.credentials(home).accounts
    assert set(before) == {"owner", "annotator1"}, "annotator2, who was deactivated, stays so"
    session = as_session(token(home, "annotator1", before["annotator1"].password))
    changed = accounts_client.rotate(home, "annotator1", key=False)
    assert changed.api_key is None
    assert me(home, **session) == 401, "a session ends with its password"
    after = launcher.credentials(home).accounts
    assert after["annotator1"].password == changed.password != before["annotator1"].password
    assert after["annotator1"].api_key == before["annotator1"].api_key
    assert token(home, "annotator1", changed.password).status_code == 201
    assert token(home, "annotator1", before["annotator1"].password).status_code == 401

    both = accounts_client.rotate(home, "owner")
    assert me(home, **{"X-Argilla-Api-Key": before["owner"].api_key}) == 401
    assert me(home, **{"X-Argilla-Api-Key": both.api_key}) == "owner"
    assert launcher.credentials(home).accounts["owner"].api_key == both.api_key
    assert accounts_client.listing(home), "the toolkit goes on with the new key"
    assert (home / "credentials.json").stat().st_mode & 0o077 == 0

    made = {change.name: change for change in apply(home, "users: {haneul: , annotator1: , annotator2: }")}
    rotated = accounts_client.rotate(home, "haneul", password=False)
    for secret in (made["haneul"].password, rotated.api_key):
        for file in home.rglob("*"):
            if file.is_file() and file.suffix not in (".db", ".db-wal", ".sqlite"):
                assert secret.encode() not in file.read_bytes(), f"{file.name} holds a secret that was shown once"
    assert made["haneul"].password.encode() not in (home / "argilla.db").read_bytes()

    with pytest.raises(LauncherError, match=r"no user 'haneull'.*haneul"):
        accounts_client.rotate(home, "haneull")
    apply(home, "users: {annotator1: }")
    with pytest.raises(LauncherError, match="haneul is deactivated"):
        accounts_client.rotate(home, "haneul")

    # Deleted through Argilla's API, and listed again: somebody new, whose password is not the one in the file.
    rest = Rest(home)
    [annotator1] = [user["id"] for user in rest("GET", "/users")["items"] if user["username"] == "annotator1"]
    rest("DELETE", f"/users/{annotator1}")
    [anew] = [change for change in apply(home, "users: {annotator1: }") if change.what == "created"]

    # The key in the file is the one that counts, for instance after an older database was put back. An empty password,
    # as a restore leaves it, is no password.
    launcher.down(home)
    data = json.loads((home / "credentials.json").read_text())
    data["accounts"]["owner"].update(api_key="k" * 43, password="")
    (home / "credentials.json").write_text(json.dumps(data))
    start(home)
    assert me(home, **{"X-Argilla-Api-Key": "k" * 43}) == "owner"
    assert token(home, "annotator1", anew.password).status_code == 201, "a start leaves it alone"
    assert token(home, "owner", "").status_code in (401, 422)
    assert token(home, "owner", launcher.credentials(home).accounts["owner"].password).status_code == 201
    assert {user.name for user in accounts_client.listing(home) if user.active} == {"owner", "annotator1"}


def test_who_may_ask(argilla_home):
    rest = Rest(argilla_home, "annotator1")
    url = f"{rest.credentials.url}/api/v1/lingo/accounts"
    for method, path in (("GET", ""), ("POST", "/apply"), ("POST", "/rotate")):
        body = {"text": "users: {annotator1: {role: owner}}", "name": "annotator1"} if path else None
        assert rest.client.request(method, url + path, json=body).status_code == 403
        assert httpx.request(method, url + path, json=body, trust_env=False).status_code == 401


@pytest.fixture
def cli(monkeypatch, capsys):
    """`lingo-hitl accounts ...`: its exit code, output and errors."""

    def run(*arguments, home):
        monkeypatch.setattr(sys, "argv", ["lingo-hitl", "accounts", *map(str, arguments), "--home", str(home)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, *capsys.readouterr()

    return run


def test_mistakes_are_one_line(argilla_home, tmp_path, cli, monkeypatch):
    monkeypatch.delenv("ARGILLA_API_KEY", raising=False)
    file = tmp_path / "accounts.yaml"

    def refused(*arguments, home=argilla_home):
        code, out, errors = cli(*arguments, home=home)
        assert (code, out, len(errors.splitlines())) == (2, "", 1), errors
        return errors

    for text, words in (
        ("users:\n  minji:\n    role: boss\n", ("accounts.yaml line 3", "'boss'", "annotator")),
        ("users: {minji: {workspaces: [lingoo]}}", ("line 1", "did you mean 'lingo'")),
        ("users: [\n", ("not YAML",)),
        ("users: {owner: {role: admin}}", ("line 1", "needs it to be an owner")),
    ):
        file.write_text(text)
        said = refused("apply", file)
        assert all(word in said for word in words), said
    file.write_bytes("users: {minji: {display: 김민지}}".encode("euc-kr"))
    assert "not UTF-8" in refused("apply", file)
    assert "cannot be read" in refused("apply", tmp_path / "nowhere.yaml")
    assert "no user 'nobody'" in refused("rotate", "nobody")
    assert "is not running" in refused("list", home=tmp_path / "nothing")
    # A team's server is reached by its URL, with a key that is nowhere but in the environment.
    credentials = launcher.credentials(argilla_home)
    assert "ARGILLA_API_KEY is empty" in refused("list", "--url", credentials.url)
    monkeypatch.setenv("ARGILLA_API_KEY", "wrong" * 8)
    said = refused("list", "--url", credentials.url)
    assert "refused the API key" in said
    assert "wrong" not in said
    monkeypatch.setenv("ARGILLA_API_KEY", credentials.accounts["annotator1"].api_key)
    assert "an owner's business" in refused("list", "--url", credentials.url)
    monkeypatch.setenv("ARGILLA_API_KEY", credentials.accounts["owner"].api_key)
    code, out, _errors = cli("list", "--url", credentials.url + "/", home=tmp_path / "nothing")
    assert (code, "annotator2" in out) == (0, True)
    assert "gave no answer" in refused("list", "--url", f"http://127.0.0.1:{free_port()}")
    assert [user.name for user in accounts_client.listing(argilla_home) if not user.active] == []


def test_the_commands_print_what_they_did(home, cli):
    apply(home, "users: {someone: }")
    file = home.parent / "accounts.yaml"
    file.write_text(TEAM, encoding="utf-8-sig")
    assert "dry run" in cli("apply", file, "--dry-run", home=home)[1]
    code, out, _errors = cli("apply", file, home=home)
    assert code == 0
    assert out.count("password ") == 3
    assert "shown once" in out
    assert cli("apply", file, home=home)[1] == "Nothing to do: the accounts are as the file says.\n"
    listed = json.loads(cli("list", "--json", home=home)[1])
    assert {user["name"] for user in listed if user["active"]} == {"owner", "minji", "서준", "jiwoo"}
    assert "김민지" in cli("list", home=home)[1]
    rotated = json.loads(cli("rotate", "minji", "--password", "--json", home=home)[1])
    assert rotated["api_key"] is None
    assert token(home, "minji", rotated["password"]).status_code == 201
