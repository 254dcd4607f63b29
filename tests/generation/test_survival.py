"""Runs of `lingo-hitl generate` that are killed: what was paid for is paid for once, and nothing is missing."""

from __future__ import annotations

import json
import os
import random
import select
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.providers import PASSING, Call, Faults, Latency, Provider, running, speak

ROOT = Path(__file__).resolve().parents[2]
KILLS, DIALOGUES = 20, 200
CALLS = 4 * DIALOGUES  # a question, its answer, the next question, its answer
KEYS = ["FIRST_GEMINI_API_KEY", "SECOND_GEMINI_API_KEY"]


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    """As quick as a test needs it, with a straggler here and there and every fault that passes at once."""
    latency = Latency(0.002, 0.04, stragglers=0.02, straggler_s=0.3)
    faults = Faults.spread(0.02, tuple(fault for fault in PASSING if fault != "stall"))
    with running(Provider(speak=speak, latency=latency, faults=faults)) as served:
        yield served


@pytest.fixture(scope="module")
def environment(provider) -> dict[str, str]:
    return {
        **os.environ,
        **{name: f"secret-of-{name}" for name in KEYS},
        "GEMINI_API_ENDPOINT": provider.url,
        "NO_PROXY": "127.0.0.1",
        "PYTHONPATH": str(ROOT),
    }


def project(folder: Path) -> Path:
    """A project of 200 dialogues of two turns."""
    with (folder / "seeds.jsonl").open("w", encoding="utf-8") as seeds:
        for n in range(DIALOGUES):
            row = {"instruction": f"별 {n}번은 왜 반짝이나요?", "output": f"대기가 {n}번 흔들리기 때문입니다."}
            print(json.dumps(row, ensure_ascii=False), file=seeds)
    model = {"model": "gemini/gemini-2.0-flash", "api_key_env": KEYS}
    dialogue = {"user": model, "assistant": {**model, "temperature": 0.15}, "target_turns": 2}
    content = {
        "project": "survival",
        "corpus": [{"path": "seeds.jsonl"}],
        "quotas": {key: {"requests_per_minute": 60_000} for key in KEYS},
        "generate": {"dialogue": dialogue},
    }
    path = folder / "project.yaml"
    path.write_text(json.dumps(content), encoding="utf-8")  # JSON is YAML
    return path


@dataclass(frozen=True)
class Run:
    """A process, by its file descriptor, which is readable once that has ended."""

    process: int

    def ended(self, within_s: float) -> bool:
        return bool(select.select([self.process], [], [], within_s)[0])

    def finish(self) -> None:
        assert self.ended(within_s=120)
        os.close(self.process)


class Runs:
    """Runs of the command, each in a process that was forked from one that has imported everything."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def start(self, *words: str) -> Run:
        """`lingo-hitl WORDS`, just begun."""
        assert self._process.stdin and self._process.stdout
        print(*words, file=self._process.stdin, flush=True)
        return Run(os.pidfd_open(int(self._process.stdout.readline())))

    def kill(self, words: list[str], provider: Provider, calls: int) -> None:
        """Begin `lingo-hitl WORDS`, and kill it once so many calls of it have arrived; waits for what is on its way."""
        run, until = self.start(*words), provider.count + calls
        assert provider.wait_until(lambda it: it.count >= until)
        assert not run.ended(within_s=0), "the work is not done before the last kill"
        signal.pidfd_send_signal(run.process, signal.SIGKILL)
        run.finish()
        assert provider.wait_until(lambda it: it.connections == 0)


@pytest.fixture(scope="module")
def runs(environment) -> Iterator[Runs]:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.generation.forked_runs"],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout and process.stdout.readline() == "ready\n"
        yield Runs(process)


def texts_in(journal: Path) -> set[str]:
    """What has been said and is on disk, read as the next run would read it; nothing before there is a journal."""
    if not journal.exists():
        return set()
    with closing(sqlite3.connect(journal)) as kept:
        if not kept.execute("SELECT count(*) FROM sqlite_master WHERE name = 'completions'").fetchone()[0]:
            return set()
        return {text for (text,) in kept.execute("SELECT text FROM completions WHERE text IS NOT NULL")}


def paid_twice(calls: list[Call], kept: set[str], later: list[Call]) -> list[str]:
    """Questions of `later` whose answers had been among `kept`, the texts on disk."""
    done = {call.digest for call in calls if call.said in kept}
    return [call.prompt for call in later if call.digest in done]


def used_by(calls: list[Call]) -> set[str]:
    """Answers that these calls show to the model again, as turns of a dialogue so far."""
    said = {call.said for call in calls}
    return said & {message["content"] for call in calls for message in call.messages}


def test_a_run_killed_twenty_times_pays_for_no_call_twice_and_ends_with_the_same_rows(provider, runs, tmp_path):
    config, chance = project(tmp_path), random.Random(4)
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    words = ["generate", str(config), "--workdir"]
    runs.start(*words, str(whole)).finish()
    first = len(provider.calls)
    assert len({call.digest for call in provider.calls}) == CALLS
    assert len({call.said for call in provider.calls if call.said}) == CALLS, "a text stands for its question"
    provider.faults.asked.clear()  # the second project meets the same faults

    lives, kept = [first], []
    for _ in range(KILLS):
        runs.kill([*words, str(torn)], provider, chance.randint(0, 2 * CALLS // KILLS))
        lives.append(len(provider.calls))
        kept.append(texts_in(torn / "journal.sqlite"))
    assert len(kept[-1]) > CALLS / 4 and not (torn / "generate").exists(), "the kills fell into the work"
    runs.start(*words, str(torn)).finish()
    lives.append(len(provider.calls))

    kept.append(texts_in(torn / "journal.sqlite"))
    assert len(kept[-1]) == CALLS

    calls = provider.calls
    for (start, stop), texts in zip(pairwise(lives), kept, strict=True):
        life = calls[start:stop]
        assert not paid_twice(calls[first:stop], texts, calls[stop:])
        assert used_by(life) <= texts, "what a later turn builds on is on disk"
        answered: set[str] = set()
        for call in life:
            assert call.digest not in answered, "twice in one life"
            if call.said and call.answered:
                answered.add(call.digest)
    assert all(before <= after for before, after in pairwise(kept)), "nothing that was on disk is lost"
    assert (torn / "generate" / "rows.parquet").read_bytes() == (whole / "generate" / "rows.parquet").read_bytes()
    assert pq.read_metadata(torn / "generate" / "rows.parquet").num_rows == DIALOGUES
    for file in torn.rglob("*"):
        assert not file.is_file() or b"secret-of-" not in file.read_bytes()


def test_lingo_chat_s_files_have_every_dialogue_once_though_its_run_was_killed(provider, runs, tmp_path):
    project(tmp_path)
    kills, seeds, turns = 6, 50, 2
    yaml = (ROOT / "tests" / "lingo_chat" / "basic_config.yaml").read_text(encoding="utf-8")
    for before, after in {
        '["LE", "JH"]': '["FIRST", "SECOND"]',
        "target_turn: 3": f"target_turn: {turns}",
        "start_idx: 0": f"start_idx: {DIALOGUES - seeds}",
        "./data/org/KoAlpaca_v1.1.jsonl": str(tmp_path / "seeds.jsonl"),
    }.items():
        assert before in yaml
        yaml = yaml.replace(before, after)
    words = {}
    for name in ("whole", "torn"):
        config = tmp_path / name / "basic_config.yaml"
        config.parent.mkdir()
        config.write_text(yaml.replace("./data", str(config.parent)), encoding="utf-8")
        words[name] = ["generate", "--config", str(config), "--workdir", str(config.parent / "work")]
    runs.start(*words["whole"]).finish()
    chance, first = random.Random(5), len(provider.calls)
    for _ in range(kills):
        runs.kill(words["torn"], provider, chance.randint(1, (2 * turns + 1) * seeds // kills))
    runs.start(*words["torn"]).finish()

    written = {
        name: [file.read_text(encoding="utf-8").splitlines() for file in sorted((tmp_path / name).glob("*/*.jsonl"))]
        for name in words
    }
    assert written["torn"] == written["whole"]
    raw, good = sorted(map(len, written["torn"]), reverse=True)
    assert raw == seeds > good > 0
    paid = [call.digest for call in provider.calls[first:] if call.said and call.answered]
    assert len(set(paid)) == (2 * turns + 1) * seeds
