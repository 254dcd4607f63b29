"""What a stranger gets from a server: nothing, and slowly. And what the server gets from elsewhere: nothing at all."""

from __future__ import annotations

import re
import socket
import sqlite3
import subprocess
import threading
from contextlib import closing, suppress

import httpx
import pytest

from argilla_setup import environment, launcher
from argilla_setup.attempts import ADDRESS, PAIR
from argilla_setup.launcher import LauncherError
from tests.argilla_setup.rest import Rest
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
    reply = client.get("/api/v1/status")
    assert reply.status_code == 401
    assert not re.search(r"memory|embedded|version", reply.text)
    for path in ("/me", "/users", "/me/datasets", "/me/workspaces", "/webhooks", "/lingo/accounts"):
        assert client.get(f"/api/v1{path}").status_code == 401, path
    assert Rest(argilla_home)("GET", "/status")["search_engine"]


def test_every_way_into_the_api_asks_who_is_there(client):
    """Also of a later Argilla: each path of its API but those that signing in needs."""
    open_to_all = {"/version", "/token", "/settings", "/oauth2/providers"}
    paths = client.get("/api/v1/openapi.json").json()["paths"]
    assert len(paths) >= 50
    for path, methods in paths.items():
        if path in open_to_all or path.startswith("/oauth2/providers/"):
            continue
        for method in methods:
            url = "/api/v1" + re.sub(r"\{\w+\}", "00000000-0000-0000-0000-000000000000", path)
            assert client.request(method.upper(), url).status_code == 401, f"{method} {path}"


def sign_in(url, name, password, address=None):
    # The header counts only from this machine itself, where a reverse proxy of the operator's sets it.
    headers = {"X-Forwarded-For": address} if address else {}
    form = {"username": name, "password": password}
    return httpx.post(f"{url}/api/v1/token", data=form, headers=headers, trust_env=False, timeout=60)


def test_passwords_cannot_be_guessed(home, start):
    url = start().url
    accounts = launcher.credentials(home).accounts
    right = accounts["annotator1"].password
    assert sign_in(url, "annotator1", right, "10.0.0.9").status_code == 201
    codes = [
        sign_in(url, "annotator1", f"wrong{number}", "10.0.0.1").status_code for number in range(PAIR.failures + 3)
    ]
    assert codes == [401] * PAIR.failures + [429] * 3
    refused = sign_in(url, "annotator1", right, "10.0.0.1")
    assert refused.status_code == 429, "not even the right one: a guess must not be told"
    assert 0 < int(refused.headers["retry-after"]) <= PAIR.seconds
    assert "min" in refused.json()["detail"]
    assert "분 뒤" in refused.json()["detail"]
    # The colleagues behind the same address, and the same name elsewhere, are not shut out.
    assert sign_in(url, "annotator2", accounts["annotator2"].password, "10.0.0.1").status_code == 201
    assert sign_in(url, "annotator1", right, "10.0.0.9").status_code == 201
    # Names that do not exist are counted just so, and answered just so.
    codes = [sign_in(url, "nobody", "wrong", "10.0.0.2").status_code for _ in range(PAIR.failures + 1)]
    assert codes == [401] * PAIR.failures + [429]
    # A hundred at once are not all tried.
    codes = []
    threads = [
        threading.Thread(target=lambda: codes.append(sign_in(url, "owner", "wrong", "10.0.0.3").status_code))
        for _ in range(30)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes.count(401) == PAIR.failures
    assert codes.count(429) == 30 - PAIR.failures


def test_keys_cannot_be_guessed(home, start):
    url = start().url
    keys = {name: account.api_key for name, account in launcher.credentials(home).accounts.items()}

    def ask(key, address="10.0.0.1"):
        headers = {"X-Argilla-Api-Key": key, "X-Forwarded-For": address}
        return httpx.get(f"{url}/api/v1/me", headers=headers, trust_env=False, timeout=60).status_code

    assert ask(keys["annotator1"]) == 200
    # A path that asks for no key says nothing about one.
    headers = {"X-Argilla-Api-Key": "wrong0", "X-Forwarded-For": "10.0.0.1"}
    httpx.get(f"{url}/api/v1/version", headers=headers, trust_env=False)
    codes = [ask(f"wrong{number}") for number in range(ADDRESS.failures + 20)]
    assert codes == [401] * ADDRESS.failures + [429] * 20
    assert ask(keys["annotator1"]) == 200, "who was there before works on"
    assert ask(keys["annotator2"], "10.0.0.2") == 200


def test_nothing_calls_out(home, start, monkeypatch):
    """Whatever the server asks of the outside would come to this proxy."""
    called = []
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.settimeout(0.2)
        address = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, address)
        monkeypatch.setenv("NO_PROXY", "")
        monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "0")  # what a user's environment may say
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        start()
        rest = Rest(home)
        rest("GET", "/me")
        rest("GET", "/status")
        rest.client.get("/api/v1/me", headers={"X-Argilla-Api-Key": "wrong"})
        with suppress(TimeoutError):
            called.append(proxy.accept()[0].recv(1000))
    assert called == []


def test_a_server_for_others_needs_credentials_that_are_worth_the_name(home):
    port = free_port()

    def up(host):
        return launcher.up(home, host=host, port=port, say=lambda line: None)

    assert up("0.0.0.0").url.startswith("http://127.0.0.1"), "with generated credentials it starts"
    launcher.down(home)

    with closing(sqlite3.connect(home / "argilla.db")) as database, database:
        # The bcrypt hash of annotator2's own name, as somebody may have set it through the API.
        weak = hashed("annotator2")
        database.execute("UPDATE users SET password_hash = ? WHERE username = 'annotator2'", (weak,))
    with pytest.raises(LauncherError, match=r"annotator2.*rotate NAME") as caught:
        up("0.0.0.0")
    assert "\n" not in str(caught.value)
    assert "annotator1" not in str(caught.value)
    assert not launcher.status(home).running
    assert up("127.0.0.1").started_now, "on this machine alone it starts"
    launcher.down(home)


def test_the_default_user_of_argilla_is_refused_to_others(home):
    port = free_port()
    launcher.up(home, port=port, say=lambda line: None)
    launcher.down(home)
    with closing(sqlite3.connect(home / "argilla.db")) as database, database:
        database.execute(
            "INSERT INTO users (id, first_name, username, role, api_key, password_hash, inserted_at, updated_at)"
            " SELECT '00000000000000000000000000000001', 'argilla', 'argilla', 'owner', 'argilla.apikey', ?,"
            " inserted_at, updated_at FROM users WHERE username = 'owner'",
            (hashed("1234"),),
        )
    with pytest.raises(LauncherError, match="argilla"):
        launcher.up(home, host="0.0.0.0", port=port, say=lambda line: None)


def hashed(password):
    program = f"import bcrypt; print(bcrypt.hashpw({password.encode()!r}, bcrypt.gensalt(4)).decode())"
    python = environment.python_of(environment.location())
    return subprocess.run([python, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
