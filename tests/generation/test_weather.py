"""Dialogues through a provider in bad weather: a fault is met again, or it is told of its own row and of no other."""

from __future__ import annotations

import json

import pytest

from lingo_hitl.pipeline import generate
from lingo_hitl.project_file import load_project
from lingo_hitl.stages import read_dropped, read_rows
from tests.providers import LASTING, PASSING, Faults, Provider, gemini_error, running, speak

SECRETS = {f"{name}_GEMINI_API_KEY": f"secret-of-{name}" for name in ("AN", "BO", "CHO")}
DIALOGUES = 30
REASONS = {"prompt blocked: SAFETY", "stopped: SAFETY", "empty reply", "MAX_TOKENS"}


@pytest.fixture
def talk(tmp_path, monkeypatch):
    """A function that runs `lingo-hitl generate` against a provider: manifest, dialogues by seed, dropped by seed."""
    for name, secret in SECRETS.items():
        monkeypatch.setenv(name, secret)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with (tmp_path / "seeds.jsonl").open("w", encoding="utf-8") as seeds:
        for n in range(DIALOGUES):
            row = {"instruction": f"별 {n}번은 왜 반짝이나요?", "output": f"대기가 {n}번 흔들리기 때문입니다."}
            print(json.dumps(row, ensure_ascii=False), file=seeds)
    model = {"model": "gemini/gemini-2.0-flash", "api_key_env": list(SECRETS)}
    content = {
        "project": "weather",
        "corpus": [{"path": "seeds.jsonl"}],
        "quotas": {name: {"requests_per_minute": 60_000} for name in SECRETS},
        "generate": {"dialogue": {"user": model, "assistant": model, "target_turns": 2}},
    }
    (tmp_path / "project.yaml").write_text(json.dumps(content), encoding="utf-8")

    def run(provider, folder):
        monkeypatch.setenv("GEMINI_API_ENDPOINT", provider.url)
        workdir = tmp_path / folder
        manifest = generate(load_project(tmp_path / "project.yaml", workdir=workdir))
        rows = {row["seed"]: row["messages"] for row in read_rows(workdir, "generate").to_pylist()}
        lost = {row["id"]: row["reason"] for row in read_dropped(workdir, "generate")}
        held = b"".join(path.read_bytes() for path in workdir.rglob("*") if path.is_file())
        assert not any(secret.encode() in held for secret in SECRETS.values())
        return manifest, rows, lost

    return run


def test_faults_that_pass_change_no_row_and_a_dead_key_s_work_is_done_by_the_others(talk):
    with running(Provider(speak=speak)) as fair:
        _, expected, _ = talk(fair, "fair")
    passing = Faults.spread(0.08, tuple(fault for fault in PASSING if fault != "stall"))
    dead = gemini_error(403, "PERMISSION_DENIED", f"key {SECRETS['BO_GEMINI_API_KEY']} is not yours")
    with running(Provider(speak=speak, faults=passing, bad_keys={SECRETS["BO_GEMINI_API_KEY"]: dead})) as foul:
        manifest, rows, lost = talk(foul, "foul")
        met = {call.fault for call in foul.calls}
    assert len(met) > 4, "there was some weather"
    assert (rows, lost) == (expected, {}) and len(rows) == DIALOGUES
    used = manifest.report["models"]["gemini/gemini-2.0-flash"]
    assert used["calls"] == 4 * DIALOGUES and used["retries"] > 0
    assert manifest.unfinished is False


def test_a_question_that_a_provider_will_not_answer_ends_its_own_dialogue_and_no_other(talk):
    with running(Provider(speak=speak)) as fair:
        _, expected, _ = talk(fair, "fair")
    with running(Provider(speak=speak, faults=Faults.spread(0.12, LASTING))) as foul:
        manifest, rows, lost = talk(foul, "foul")
        asked = foul.count
        again, *same = talk(foul, "foul")
        assert (foul.count, again.skipped, same) == (asked, True, [rows, lost]), "refusals are not asked again"
    untouched = [seed for seed in rows if rows[seed] == expected[seed]]
    assert DIALOGUES / 3 < len(untouched) < DIALOGUES
    assert rows.keys() | lost.keys() == expected.keys() and not rows.keys() & lost.keys()
    assert lost and all(reason.split("failed: ")[1] in REASONS for reason in lost.values())
    assert manifest.report["models"]["gemini/gemini-2.0-flash"]["blocked"] > 0
