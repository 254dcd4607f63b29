"""What compose.yaml promises a team: no container engine is needed to see it, and none runs here."""

from __future__ import annotations

import fnmatch
import re
import stat
import tomllib
import uuid
from pathlib import Path

import pytest

from argilla_setup import environment
from argilla_setup.errors import LauncherError
from argilla_setup.secret_files import SecretError, read_secrets
from argilla_setup.team import search_template, team_secrets
from tests.argilla_setup.team_server import COMPOSE_FILE, compose

SERVICES = compose()["services"]
RUNNING = [name for name, service in SERVICES.items() if service["restart"] == "unless-stopped"]
ROOT_FREE = [name for name in SERVICES if name != "elasticsearch"]
"""Elasticsearch writes its keystore beside its settings at each start."""


def dockerfile(service):
    build = SERVICES[service].get("build")
    return (COMPOSE_FILE.parent / build["dockerfile"]).read_text() if build else None


def test_only_the_servers_port_is_published_and_on_the_loopback():
    published = {name: service["ports"] for name, service in SERVICES.items() if service.get("ports")}
    assert list(published) == ["server"]
    assert all(port.startswith("127.0.0.1:") for port in published["server"])
    for name in ("database", "redis", "elasticsearch"):
        assert SERVICES[name]["networks"] == ["inside"], name
    assert compose()["networks"]["inside"] == {"internal": True}


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_is_watched_bounded_and_unprivileged(name):
    service = SERVICES[name]
    if name in RUNNING:
        assert service["healthcheck"]["test"]
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert service.get("read_only", False) is (name in ROOT_FREE)
    user = service.get("user") or next(iter(re.findall(r"^USER (\S+)", dockerfile(name) or "", re.M)), None)
    # Elasticsearch's own image ends with its own user.
    assert (user and not user.startswith(("root", "0"))) or name == "elasticsearch"
    assert "docker.sock" not in str(service)


def test_images_are_pinned():
    images = [service["image"] for service in SERVICES.values()]
    images += [found for name in SERVICES for found in re.findall(r"^FROM (\S+)", dockerfile(name) or "", re.M)]
    for image in images:
        assert re.search(r":\d+\.\d+(\.\d+)?(-[\w.-]+)?$", image), image
    version = tomllib.loads(Path("pyproject.toml").read_text())["project"]["version"]
    assert SERVICES["server"]["image"].endswith(f":{version}")


def test_every_secret_is_a_declared_file_and_none_is_written_in_the_file():
    declared = compose()["secrets"]
    assert set(declared) == set(team_secrets.BYTES)
    used = {secret for service in SERVICES.values() for secret in service.get("secrets", ())}
    assert used == set(declared)
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|KEY|TOKEN", variable):
                assert variable.endswith("_FILE"), f"{name}: {variable}"
                assert Path(value).name in service["secrets"], f"{name}: {value}"
            assert not re.search(r"://[^/@]*:[^/@]+@", value), f"{name}: {variable} holds a password"


def test_the_server_waits_for_what_it_needs():
    assert SERVICES["server"]["depends_on"]["search-template"]["condition"] == "service_completed_successfully"
    assert SERVICES["search-template"]["depends_on"]["elasticsearch"]["condition"] == "service_healthy"
    for name in ("database", "redis"):
        assert SERVICES["server"]["depends_on"][name]["condition"] == "service_healthy"


def test_secrets_are_generated_once_and_nobody_else_reaches_them(tmp_path):
    folder = tmp_path / "secrets"
    made = team_secrets.make(folder)
    assert {file.name for file in made} == set(team_secrets.BYTES)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    before = {file.name: file.read_text() for file in folder.iterdir()}
    assert len(set(before.values())) == len(before)
    assert min(len(secret.strip()) for secret in before.values()) >= 20
    assert team_secrets.make(folder) == []
    (folder / "redis_password").unlink()
    assert [file.name for file in team_secrets.make(folder)] == ["redis_password"]
    after = {file.name: file.read_text() for file in folder.iterdir()}
    assert {name for name in before if before[name] != after[name]} == {"redis_password"}
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "notes").write_text("")
    with pytest.raises(LauncherError, match="other files"):
        team_secrets.make(tmp_path / "else")


def test_secrets_from_files_reach_argilla_and_its_drivers(tmp_path):
    (tmp_path / "password").write_text("p@ss/w%rd\n")
    file = str(tmp_path / "password")
    given = {
        "ARGILLA_DATABASE_URL": "postgresql+asyncpg://argilla@database:5432/argilla",
        "ARGILLA_DATABASE_PASSWORD_FILE": file,
        "ARGILLA_REDIS_URL": "redis://redis:6379/0",
        "ARGILLA_REDIS_PASSWORD_FILE": file,
        "ARGILLA_ELASTICSEARCH": "https://search:9200",
        "ARGILLA_ELASTICSEARCH_PASSWORD_FILE": file,
        "ARGILLA_AUTH_SECRET_KEY_FILE": file,
    }
    variables = dict(given)
    read_secrets(variables)
    assert variables["PGPASSWORD"] == variables["ARGILLA_AUTH_SECRET_KEY"] == "p@ss/w%rd"
    assert variables["ARGILLA_DATABASE_URL"] == given["ARGILLA_DATABASE_URL"]
    assert variables["ARGILLA_REDIS_URL"] == "redis://:p%40ss%2Fw%25rd@redis:6379/0"
    assert variables["ARGILLA_ELASTICSEARCH"] == "https://elastic:p%40ss%2Fw%25rd@search:9200"

    whole = {"ARGILLA_DATABASE_URL": "postgresql+asyncpg://argilla:a%25b@database/argilla"}
    read_secrets(whole)
    assert whole == {"ARGILLA_DATABASE_URL": "postgresql+asyncpg://argilla@database/argilla", "PGPASSWORD": "a%b"}

    for wrong, says in (
        ({"ARGILLA_AUTH_SECRET_KEY": "x", "ARGILLA_AUTH_SECRET_KEY_FILE": file}, "both"),
        ({"ARGILLA_AUTH_SECRET_KEY_FILE": str(tmp_path / "absent")}, "cannot be read"),
        ({"ARGILLA_REDIS_PASSWORD_FILE": file}, "ARGILLA_REDIS_URL"),
    ):
        with pytest.raises(SecretError, match=says) as raised:
            read_secrets(wrong)
        assert "p@ss" not in str(raised.value)


@pytest.mark.server
def test_the_korean_analyzer_reaches_each_index_that_argilla_makes():
    [code] = environment.location().glob("lib/python3*/site-packages/argilla_server/search_engine/commons.py")
    source = code.read_text()
    assert 'return f"rg.{dataset.id}"' in source
    assert 'return {es_field_for_record_field(field.name): {"type": "text"}}' in source
    assert '"analyzer"' not in source
    assert fnmatch.fnmatch(f"rg.{uuid.uuid4()}", search_template.PATTERN)
    analysis = search_template.TEMPLATE["template"]["settings"]["index"]["analysis"]
    assert analysis["analyzer"]["default"]["tokenizer"] in analysis["tokenizer"]
    plugins = dockerfile("elasticsearch")
    assert "analysis-nori" in plugins
    assert "analysis-icu" in plugins
