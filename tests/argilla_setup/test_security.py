"""What a stranger gets from a server: nothing, and slowly. And what the server gets from elsewhere: nothing at all."""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import sqlite3
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from argilla_setup import environment, launcher, redis_process
from argilla_setup.home import Home
from argilla_setup.security.attempts import ADDRESS, PAIR
from tests.argilla_setup.awaiting import await_
from tests.argilla_setup.rest import TEXT, Rest, rating
from tests.conftest import free_port

pytestmark = pytest.mark.server

PAGES = ("/", "/sign-in", "/user-settings", "/api/v1/version", "/api/v1/me", "/js/handlebars.min.js")


@pytest.fixture
def client(argilla_home):
    with httpx.Client(base_url=launcher.credentials(argilla_home).url, trust_env=False, timeout=60) as client:
        yield client


def test_no_script_but_the_web_ui_s_own_and_nothing_from_elsewhere(client):
    for path in PAGES:
        headers = client.get(path).headers
        policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
        assert "unsafe" not in policy["script-src"], path
        assert policy["script-src-attr"] == policy["object-src"] == policy["frame-ancestors"] == "'none'"
        assert policy["connect-src"] == policy["form-action"] == policy["base-uri"] == "'self'"
        assert "http" not in headers["content-security-policy"]
        assert "*" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "same-origin"


def test_a_custom_field_is_an_origin_of_its_own(client):
    headers = client.get("/custom-field.html").headers
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'", "no request, no frame, no form but what follows"
    assert "allow-scripts" in policy["sandbox"]
    for may_not in ("same-origin", "top-navigation", "forms", "modals", "downloads"):
        assert may_not not in policy["sandbox"]
    assert policy["frame-ancestors"] == "'self'"


def test_other_sites_may_not_use_the_api(client):
    other = {"Origin": "https://other.example"}
    for path in ("/api/v1/me", "/api/v1/version", "/api/v1/token"):
        assert "access-control-allow-origin" not in client.get(path, headers=other).headers
        asked = {
            **other,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "x-argilla-api-key",
        }
        assert "access-control-allow-origin" not in client.options(path, headers=asked).headers


def test_strangers_learn_nothing(client, argilla_home):
    for path in ("/status", "/me", "/users", "/me/datasets", "/me/workspaces", "/webhooks", "/lingo/accounts"):
        reply = client.get(f"/api/v1{path}")
        assert reply.status_code == 401, path
        assert not re.search(r"memory|embedded|version", reply.text)
    # What could be asked, and pages that would fetch their scripts from elsewhere.
    assert client.get("/api/v1/openapi.json").status_code == 401
    for path in ("/api/v1/docs", "/api/v1/redoc", "/api/v1/docs/oauth2-redirect", "/api/v1/metrics"):
        assert client.get(path).status_code == 404, path
    assert client.get("/api/v1/settings").json() == {"argilla": {"share_your_progress_enabled": False}}
    start_page = client.get("/").text
    for path in ("/docs", "/metrics", "/share-your-progress?dataset_name=x&dataset_id=1&user_name=x"):
        assert client.get(path).text == start_page, f"{path} is nothing but the web UI"
    assert Rest(argilla_home)("GET", "/status")["search_engine"]


def test_every_way_into_the_api_asks_who_is_there(client, argilla_home):
    """Also of a later Argilla: each path of its API but those that signing in needs."""
    open_to_all = {"/version", "/token", "/settings", "/oauth2/providers"}
    paths = Rest(argilla_home)("GET", "/openapi.json")["paths"]
    assert len(paths) >= 50
    for path, methods in paths.items():
        if path in open_to_all or path.startswith("/oauth2/providers/{provider}/"):
            continue
        for method in methods:
            url = "/api/v1" + re.sub(r"\{\w+\}", "00000000-0000-0000-0000-000000000000", path)
            assert client.request(method.upper(), url).status_code == 401, f"{method} {path}"


def at(url, address):
    """A client at another address of this machine, without cookies of its own."""
    return httpx.Client(base_url=url, transport=httpx.HTTPTransport(local_address=address), timeout=60)


def sign_in(client, name, password, **more):
    return client.post("/api/v1/token", data={"username": name, "password": password}, **more)


def test_passwords_cannot_be_guessed(argilla_home):
    url, accounts = (known := launcher.credentials(argilla_home)).url, known.accounts
    right = accounts["annotator1"].password
    with at(url, "127.0.1.1") as guesser, at(url, "127.0.1.1") as minji, at(url, "127.0.1.2") as elsewhere:
        signed_in = sign_in(minji, "annotator1", right)
        assert signed_in.status_code == 201
        cookie = signed_in.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        codes = [sign_in(guesser, "annotator1", f"wrong{number}").status_code for number in range(PAIR.failures + 3)]
        assert codes == [401] * PAIR.failures + [429] * 3
        refused = sign_in(guesser, "annotator1", right)
        assert refused.status_code == 429, "not even the right one: a guess must not be told"
        assert 0 < int(refused.headers["retry-after"]) <= PAIR.seconds
        assert "min" in refused.json()["detail"]
        assert "분 뒤" in refused.json()["detail"]
        # Neither the colleagues behind the same address, nor the same name elsewhere, nor in a browser that has signed
        # in before, are shut out; and a browser lets in nobody but the name that signed in there.
        assert sign_in(guesser, "annotator2", accounts["annotator2"].password).status_code == 201
        assert sign_in(elsewhere, "annotator1", right).status_code == 201
        assert sign_in(minji, "annotator1", right).status_code == 201
        assert sign_in(guesser, "annotator1", right).status_code == 429
    # Names that do not exist are counted just so, and answered just so; a form that lacks something forgives nothing.
    # A header says nothing, not even one from this machine.
    with at(url, "127.0.0.1") as guesser:
        first = sign_in(guesser, "nobody", "wrong")
        assert first.json() == {"detail": sign_in(guesser, "annotator2", "wrong").json()["detail"]}
        forwarded = [{"X-Forwarded-For": f"10.0.0.{number}"} for number in range(PAIR.failures)]
        codes = [sign_in(guesser, "nobody", "\0" * 80, headers=header).status_code for header in forwarded[1:]]
        assert codes == [401] * (PAIR.failures - 1)
        assert guesser.post("/api/v1/token", data={"username": "nobody"}).status_code == 422
        assert sign_in(guesser, "nobody", "wrong", headers=forwarded[0]).status_code == 429
        assert sign_in(guesser, "no\0body", "wrong").status_code == 401
    # Many at once are not all tried.
    with at(url, "127.0.1.4") as guesser, ThreadPoolExecutor(30) as threads:
        codes = list(threads.map(lambda _: sign_in(guesser, "owner", "wrong").status_code, range(30)))
    assert (codes.count(401), codes.count(429)) == (PAIR.failures, 30 - PAIR.failures)


def test_keys_cannot_be_guessed(argilla_home):
    url, accounts = (known := launcher.credentials(argilla_home)).url, known.accounts
    fresh = secrets.token_urlsafe(32)
    with closing(sqlite3.connect(argilla_home / "argilla.db", timeout=30)) as database, database:
        database.execute(
            "INSERT INTO users (id, first_name, username, role, api_key, password_hash, inserted_at, updated_at)"
            " SELECT ?, 'late', 'late', 'annotator', ?, password_hash, inserted_at, updated_at"
            " FROM users WHERE username = 'annotator2'",
            (secrets.token_hex(16), fresh),
        )

    with at(url, "127.0.1.5") as client, at(url, "127.0.1.6") as elsewhere:

        def ask(key, client=client):
            return client.get("/api/v1/me", headers={"X-Argilla-Api-Key": key}).status_code

        assert ask(accounts["annotator1"].api_key) == 200
        # A path that asks for no key says nothing about one, and a script that goes on with an old one is no guesser.
        client.get("/api/v1/version", headers={"X-Argilla-Api-Key": "wrong0"})
        assert [ask("wrong0") for _ in range(ADDRESS.failures + 1)] == [401] * (ADDRESS.failures + 1)
        codes = [ask(f"wrong{number}") for number in range(ADDRESS.failures + 20)]
        assert codes == [401] * ADDRESS.failures + [429] * 20
        assert ask(accounts["annotator1"].api_key) == 200, "who was there before works on"
        assert ask(fresh) == 429
        assert ask(fresh, elsewhere) == 200


HEADERS_OF_A_PROXY = {"X-Forwarded-For": "10.1.1.1"}
ROOT = Path(__file__).parents[2]


@pytest.fixture
def server(home, tmp_path):
    """Starts of a server that others can reach, as often as need be, by one process that has imported Argilla once."""
    place = Home(home)
    place.prepare()
    address = redis_process.choose_socket(place)
    redis = redis_process.start(place, environment.location(), address)
    python = environment.python_of(environment.location())
    arguments = [home, free_port(), f"unix://{address}?db=0", tmp_path / "asked"]
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.settimeout(0.2)
        somewhere = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ARGILLA_", "NO_PROXY"))}
        process = subprocess.Popen(
            [python, "-m", "tests.argilla_setup.exposed_server", *map(str, arguments)],
            # What a user's environment may say.
            env={**kept, **dict.fromkeys(names, somewhere), "HF_HUB_DISABLE_TELEMETRY": "0", "HF_HUB_OFFLINE": "0"},
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(tmp_path / "errors").open("a"),
            text=True,
        )
        assert process.stdout.readline() == "ready\n"

        def order(**what):
            process.stdin.write(json.dumps(what) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        def refused(**variables):
            """The line with which a start is refused."""
            (tmp_path / "errors").write_text("")
            assert order(end=order(start="0.0.0.0", environment=variables)) == 3
            [line] = [line for line in (tmp_path / "errors").read_text().splitlines() if line.startswith("lingo-hitl:")]
            return line

        order.refused, order.proxy, order.url = refused, proxy, f"http://127.0.0.1:{arguments[1]}"
        yield order
        process.stdin.close()
        process.wait(30)
    redis.stop(patience_s=5)


def test_a_server_for_others(home, server, tmp_path):
    """It needs credentials that are worth the name, keeps its files to itself, and calls nobody."""
    started = server(start="0.0.0.0", environment={"LINGO_HITL_TRUSTED_PROXIES": "127.0.0.1, 10.9.0.0/16"})
    await_(lambda: launcher._answers_as_ours(Home(home), server.url), "the server")
    rest = Rest(home)
    rest("GET", "/status")
    dataset = rest.create_dataset("d", fields={"t": TEXT}, questions={"rating": rating()})
    rest.upsert(dataset, [{"external_id": "1", "fields": {"t": "글"}}])
    rest.found(dataset, "글")
    # A proxy that the operator named says who asks.
    with at(server.url, "127.0.0.1") as client:
        codes = [
            sign_in(client, "x", "wrong", headers=HEADERS_OF_A_PROXY).status_code for _ in range(PAIR.failures + 1)
        ]
        assert codes == [401] * PAIR.failures + [429]
        assert (
            sign_in(client, "x", "wrong", headers={"X-Forwarded-For": "6.6.6.6, 10.1.1.2, 10.9.0.1"}).status_code == 401
        )
    files = [home, *home.rglob("*")]
    assert {file.name for file in files} >= {"argilla.db", "argilla.db-wal", "index.db", "redis.sock", "server.log"}
    for file in files:
        assert stat.S_IMODE(file.lstat().st_mode) & 0o077 == 0, f"others may use {file}"
    server(end=started, stop=True)
    with pytest.raises(TimeoutError):
        server.proxy.accept()
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked, "what the server asks of the network was not seen"
    assert [line for line in asked if "redis.sock" not in line] == []

    assert re.search(r"0\.0\.0\.0 .*secret", server.refused(ARGILLA_AUTH_SECRET_KEY="short"))
    assert "LINGO_HITL_TRUSTED_PROXIES names '*'" in server.refused(LINGO_HITL_TRUSTED_PROXIES="*")
    with closing(sqlite3.connect(home / "argilla.db")) as database, database:
        # As somebody may have set it through the API: the name itself; and Argilla's own first user.
        database.execute("UPDATE users SET password_hash = ? WHERE username = 'annotator2'", (hashed("annotator2"),))
        database.execute(
            "INSERT INTO users (id, first_name, username, role, api_key, password_hash, inserted_at, updated_at)"
            " SELECT ?, 'argilla', 'argilla', 'owner', 'argilla.apikey', ?, inserted_at, updated_at"
            " FROM users WHERE username = 'owner'",
            (secrets.token_hex(16), hashed("1234")),
        )
    weak = server.refused()
    assert re.search(r"first: annotator2, argilla\..*rotate NAME", weak)

    version, no_web_ui, sign_in_version, no_route = server(mismatches=True)
    assert "corrections to its web UI are for 2.8.0" in version
    assert "serves no web UI" in no_web_ui
    assert sign_in_version.startswith("argilla-server is 2.8.1")
    assert "no GET /status as it was released" in no_route


def hashed(password):
    program = f"import bcrypt; print(bcrypt.hashpw({password.encode()!r}, bcrypt.gensalt(4)).decode())"
    python = environment.python_of(environment.location())
    return subprocess.run([python, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
