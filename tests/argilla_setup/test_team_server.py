"""The application module as a team runs it, with PostgreSQL and Redis: the same results, sign-ins and repairs."""

from __future__ import annotations

import stat
import subprocess
import uuid

import httpx
import pytest

from argilla_setup import launcher
from argilla_setup.accounts import client as accounts_client
from argilla_setup.security.attempts import PAIR
from lingo_hitl.annotation.argilla_api import connect
from lingo_hitl.annotation.pull import pull
from lingo_hitl.annotation.push import push
from lingo_hitl.config import Project
from lingo_hitl.ledger import Ledger
from tests.annotation.conftest import People, mapped_rows, mapped_table
from tests.argilla_setup.rest import TEXT, Rest, rating
from tests.argilla_setup.team_server import team_command
from tests.conftest import free_port

pytestmark = pytest.mark.server


def sign_in(team, name, password, **headers):
    form = {"username": name, "password": password}
    url = f"http://127.0.0.1:{team.port}/api/v1/token"
    return httpx.post(url, data=form, headers=headers, trust_env=False, timeout=60)


def labelled(home, argilla, folder):
    """What comes home after a push, answers of all kinds, and a second push and sync; without ids and times."""
    content = {"project": f"team{uuid.uuid4().hex[:6]}", "workdir": folder, "corpus": [{"path": "sample:ko"}]}
    project = Project.model_validate({**content, "generate": {"instruction": {}}, "argilla": argilla})
    people = People.__new__(People)
    people.home, people.project, people.connection = home, project, connect(project.argilla, home)
    rows = mapped_rows(12)
    with Ledger(folder / f"{project.project}.sqlite") as ledger:
        states = [push(mapped_table(rows), project, connection=people.connection, ledger=ledger).rows["state"]]
        for n in range(6):
            people.answer("annotator1", rows[n]["id"], rating=n % 5 + 1, correction=f"고친 글 {n}")
        people.answer("annotator2", rows[0]["id"], rating=1)
        people.answer("annotator2", rows[1]["id"], status="draft", rating=2)
        people.answer("annotator2", rows[2]["id"], status="discarded")
        syncs = [pull(project, connection=people.connection, ledger=ledger).datasets]
        gone = people.records()[rows[0]["id"]]["responses"][0]["id"]
        people.request("owner", "DELETE", f"responses/{gone}")
        rows[7] = {**rows[7], "ratings": [5.0]}
        states.append(push(mapped_table(rows), project, connection=people.connection, ledger=ledger).rows["state"])
        syncs.append(pull(project, connection=people.connection, ledger=ledger).datasets)
        counts = [[(found.new, found.edited, found.retracted) for found in sync.values()] for sync in syncs]
        answers = sorted((answer.row, answer.person, str(answer.body["values"])) for answer in ledger.answers())
    return [state.to_pylist() for state in states], counts, answers


def test_push_labelling_and_sync_give_what_they_give_on_one_machine(team, argilla_home, tmp_path, monkeypatch):
    monkeypatch.setenv("ARGILLA_API_KEY", team.secret("owner_api_key"))
    by_url = labelled(team.home, {"url": f"http://127.0.0.1:{team.port}"}, tmp_path)
    assert by_url == labelled(argilla_home, {}, tmp_path)
    assert by_url[1] == [[(9, 0, 0)], [(0, 0, 1)]]


def test_the_database_is_postgresql_and_no_secret_is_written_down(team):
    Rest(team.home)("GET", "/me")
    assert not (team.home / "argilla.db").exists()
    [[users]] = team.postgres.query("SELECT count(*) FROM users", database="argilla")
    assert users == "3"
    secrets = [team.postgres.password, team.redis_url.split(":")[2].partition("@")[0], team.secret("auth_secret_key")]
    for file in [item for item in team.home.rglob("*") if item.is_file() and "code" not in item.parts]:
        text = file.read_bytes().decode("utf-8", "replace")
        assert not any(secret in text for secret in secrets), file
    assert stat.S_IMODE((team.home / "credentials.json").stat().st_mode) == 0o600
    assert stat.S_IMODE((team.folder / "secrets").stat().st_mode) == 0o700


def test_the_owner_signs_in_with_the_given_password_and_guesses_are_limited(team):
    assert launcher.credentials(team.home).accounts["owner"].password == team.secret("owner_password")
    assert sign_in(team, "owner", "1234").status_code == 401
    assert sign_in(team, "owner", team.secret("owner_password")).is_success
    # By the address that the proxy names: the colleague next door is not kept waiting.
    tries = [sign_in(team, "annotator2", f"wrong{n}", **{"X-Forwarded-For": "10.1.1.1"}) for n in range(9)]
    assert [reply.status_code for reply in tries] == [401] * PAIR.failures + [429] * (9 - PAIR.failures)
    password = launcher.credentials(team.home).accounts["annotator2"].password
    assert sign_in(team, "annotator2", password, **{"X-Forwarded-For": "10.1.1.2"}).is_success


def test_accounts_are_applied_by_address(team, tmp_path, monkeypatch):
    monkeypatch.setenv("ARGILLA_API_KEY", team.secret("owner_api_key"))
    nowhere, there = tmp_path / "no home", {"url": f"http://127.0.0.1:{team.port}"}
    file = tmp_path / "accounts.yaml"
    file.write_text("workspaces: [lingo]\nusers:\n  annotator1: {}\n  annotator2: {}\n  서준: {display: 박서준}\n")
    [made] = [change for change in accounts_client.apply(nowhere, file, **there) if change.what == "created"]
    assert sign_in(team, "서준", made.password).is_success
    assert accounts_client.apply(nowhere, file, **there) == []
    new = accounts_client.rotate(nowhere, "서준", key=False, **there)
    assert sign_in(team, "서준", made.password).status_code == 401
    assert sign_in(team, "서준", new.password).is_success
    file.write_text("workspaces: [lingo]\nusers:\n  annotator1: {}\n  annotator2: {}\n")
    assert [change.what for change in accounts_client.apply(nowhere, file, **there)] == ["deactivated"]
    assert sign_in(team, "서준", new.password).status_code == 401
    active = {user.name for user in accounts_client.listing(nowhere, **there) if user.active}
    assert active == {"owner", "annotator1", "annotator2"}
    monkeypatch.setenv("ARGILLA_API_KEY", "wrong")
    with pytest.raises(launcher.LauncherError, match="ARGILLA_API_KEY"):
        accounts_client.listing(nowhere, **there)


def test_after_a_kill_the_index_is_made_equal_to_the_tables(team):
    owner = Rest(team.home)
    fields, questions = {"t": TEXT}, {"rating": rating()}
    dataset = owner.create_dataset("kept", fields=fields, questions=questions, vectors={"v": 2})
    items = [{"external_id": str(n), "fields": {"t": f"공통 {n}"}, "vectors": {"v": [1.0, n]}} for n in range(30)]
    owner.upsert(dataset, items)
    team.kill()
    # What a crash between Argilla's commit and the index leaves behind, in both directions.
    gone = "DELETE FROM records WHERE external_id IN ('0', '1')"
    changed = "UPDATE records SET fields = '{\"t\": \"바뀐 글\"}', updated_at = now() WHERE external_id = '2'"
    # An older state, as after a dump was restored: the index must not hold on to the newer one.
    older = (
        "UPDATE records SET fields = '{\"t\": \"옛 글\"}', updated_at = now() - interval '9 d' WHERE external_id = '3'"
    )
    for statement in (
        gone,
        changed,
        older,
        "UPDATE vectors SET value = '[-1, -9]', updated_at = now() + interval '1 s'",
    ):
        team.postgres.query(statement, database="argilla")
    team.start()
    assert set(owner.found(dataset, "공통")) == {str(n) for n in range(4, 30)}
    assert (owner.found(dataset, "바뀐"), owner.found(dataset, "옛")) == (["2"], ["3"])
    reply = owner.search(dataset, vector={"name": "v", "value": [1.0, 9.0]})
    assert len(reply["items"]) == 28
    assert max(item["query_score"] for item in reply["items"]) < 0.01


def test_a_fault_of_the_operator_is_one_line(team):
    def says(**more):
        command = team_command(team.folder, free_port())
        variables = {**team.variables, **more}
        done = subprocess.run(
            command, env=variables, cwd=team.folder, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 3, done.stderr
        return done.stderr

    wrong = team.folder / "wrong"
    wrong.write_text("not it")
    line = says(ARGILLA_DATABASE_PASSWORD_FILE=str(wrong))
    assert "password authentication failed" in line
    assert "ARGILLA_DATABASE_URL" in line
    assert "not it" not in line
    wrong.write_text("")
    assert "is empty" in says(ARGILLA_REDIS_PASSWORD_FILE=str(wrong))
