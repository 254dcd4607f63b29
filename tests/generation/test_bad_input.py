"""Whatever a user or a machine gets wrong: one line and exit code 2, or a recorded row; and the run resumes."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lingo_hitl.stages import read_dropped, read_rows
from tests.command_line import lingo_here
from tests.providers import Provider, Reply, gemini_error, gemini_text, openai_text, running
from tests.test_cli import refused

PROJECT = """
project: p
workdir: work
corpus: [{path: rows.jsonl}]
generate:
  dialogue: {user: gemini/talks, assistant: gemini/talks, persona: [orbit], target_turns: 1}
judge: {judges: [{model: openai/judges, base_url: JUDGES}]}
"""
SEED = {"instruction": "별은 왜 빛나나요?", "output": "핵융합 때문이에요."}
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def provider() -> Iterator[Provider]:
    with running() as served:
        served.reply_to = lambda prompt: gemini_text(
            "왜 빛나요?" if "대화를 시작하" in prompt else "핵융합 때문이에요."
        )
        yield served


def environment(provider: Provider) -> dict[str, str]:
    return {
        "GEMINI_API_ENDPOINT": provider.url,
        "GEMINI_API_KEY": "very-secret-key",
        "OPENAI_API_KEY": "very-secret-key",
        "NO_PROXY": "127.0.0.1",
    }


def project(folder: Path, *seeds: dict[str, str], yaml: str = PROJECT) -> Path:
    (folder / "rows.jsonl").write_text("".join(json.dumps(seed) + "\n" for seed in seeds or (SEED,)))
    (folder / "p.yaml").write_text(yaml, encoding="utf-8")
    return folder


def generate(folder: Path, provider: Provider) -> subprocess.CompletedProcess[str]:
    return lingo_here("generate", "p.yaml", folder=folder, **environment(provider))


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A disk of which so many bytes are left for each file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def generate_in_a_process(folder: Path, provider: Provider) -> subprocess.CompletedProcess[str]:
    """The same in a process that obeys the folders' permissions even as root."""
    obedient = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    return subprocess.run(
        [*obedient, sys.executable, "-m", "lingo_hitl.cli", "generate", "p.yaml"],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "PYTHONPATH": str(ROOT), **environment(provider)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_judge_that_answers_in_prose_costs_the_row_alone_and_is_recorded(tmp_path, provider):
    yaml = PROJECT.replace("JUDGES", f"{provider.url}/v1")
    assert generate(project(tmp_path, yaml=yaml), provider).returncode == 0
    provider.reply_to = lambda prompt: openai_text("꽤 좋은 대화라고 생각합니다. 아주 즐거웠어요!")
    ran = lingo_here("judge", "p.yaml", folder=tmp_path, **environment(provider))
    assert ran.returncode == 0, ran.stderr
    assert "0 rows      1 dropped" in ran.stdout
    (lost,) = read_dropped(tmp_path / "work", "judge")
    assert lost["reason"] == "no judge could rate it: no rating found"
    first, second = provider.prompts[2:]
    assert "no rating found" in second and "no rating found" not in first


def test_an_unknown_persona_is_one_line_and_nobody_is_asked(tmp_path, provider):
    told = refused(generate(project(tmp_path, yaml=PROJECT.replace("[orbit]", "[orbitt]")), provider))
    assert "persona 'orbitt' is not defined" in told and "Did you mean 'orbit'?" in told
    assert provider.prompts == []


def test_a_prompt_without_its_placeholder_is_one_line_and_nobody_is_asked(tmp_path, provider):
    own = tmp_path / "mine" / "ko" / "opening.md"
    own.parent.mkdir(parents=True)
    own.write_text("물어라!", encoding="utf-8")
    project(tmp_path, yaml=PROJECT.replace("target_turns: 1", "target_turns: 1, prompts: mine"))
    told = refused(generate(tmp_path, provider))
    assert "mine/ko/opening.md: placeholder {{ question }} is missing" in told
    assert provider.prompts == []
    own.write_text("대화를 시작하라: {{ question }}", encoding="utf-8")
    assert generate(tmp_path, provider).returncode == 0
    assert provider.prompts[0] == "대화를 시작하라: 별은 왜 빛나나요?"
    own.write_text("이제 대화를 시작하라: {{ question }}", encoding="utf-8")
    assert "done before" not in generate(tmp_path, provider).stdout


def test_a_judge_s_prompt_of_ones_own_is_used_or_refused(tmp_path, provider):
    own = tmp_path / "mine" / "ko" / "correctness.md"
    own.parent.mkdir(parents=True)
    judge = f"judge: {{prompts: mine, judges: [{{model: openai/judges, base_url: '{provider.url}/v1'}}]}}\n"
    project(tmp_path, yaml=PROJECT[: PROJECT.index("judge:")] + judge)
    generate(tmp_path, provider)
    asked = len(provider.prompts)
    own.write_text("점수: 1~5", encoding="utf-8")
    ran = lingo_here("judge", "p.yaml", folder=tmp_path, **environment(provider))
    assert "correctness.md: placeholder {{ dialogue }} is missing" in refused(ran) and len(provider.prompts) == asked
    own.write_text("몇 점인가?\n{{ dialogue }}", encoding="utf-8")
    provider.reply_to = lambda prompt: openai_text("점수: 3.5")
    assert lingo_here("judge", "p.yaml", folder=tmp_path, **environment(provider)).returncode == 0
    assert provider.prompts[-1].startswith("몇 점인가?\nuser: 왜 빛나요?")
    assert read_rows(tmp_path / "work", "judge")["ratings"].to_pylist() == [[3.5]]


def test_a_model_that_does_not_exist_is_one_line(tmp_path, provider):
    provider.reply_to = lambda prompt: gemini_error(404, "NOT_FOUND", "models/talks is not found")
    told = refused(generate(project(tmp_path), provider))
    assert "gemini/talks: not found" in told and "Check the model's name" in told
    assert not (tmp_path / "work" / "generate").exists()


def test_seeds_that_cannot_be_used_are_recorded_and_the_others_go_on(tmp_path, provider):
    endless = {"instruction": "끝이 있나요?", "output": "가" * 200_000}
    assert generate(project(tmp_path, {"instruction": " "}, endless, SEED), provider).returncode == 0
    reasons = [row["reason"] for row in read_dropped(tmp_path / "work", "corpus")]
    assert reasons == ["the instruction is empty", "the output is longer than 100,000 characters"]
    (row,) = read_rows(tmp_path / "work", "generate").to_pylist()
    assert row["reference"] == SEED["output"]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path.mkdir(), "Is a directory"),
        (lambda path: path.write_bytes("# 열쇠\nA=1\n".encode("cp949")), "is not UTF-8 text"),
        (lambda path: path.write_bytes("A=very-secret-key\n".encode("utf-16-le")), "holds NUL characters"),
    ],
    ids=["a folder", "cp949", "utf-16"],
)
def test_an_env_file_that_cannot_be_read_is_one_line(tmp_path, provider, make, says):
    make(project(tmp_path) / ".env")
    told = refused(generate(tmp_path, provider))
    assert ".env: " in told and says in told and "very-secret-key" not in told


def test_an_env_file_without_permission_is_one_line(tmp_path, provider):
    env = project(tmp_path) / ".env"
    env.touch(mode=0)
    assert f"{env}: cannot be read (Permission denied)" in refused(generate_in_a_process(tmp_path, provider))


def test_an_env_file_of_windows_is_read(tmp_path, provider):
    (project(tmp_path) / ".env").write_bytes(b"\xef\xbb\xbfGEMINI_API_KEY=from-the-file\r\n")
    there = {name: value for name, value in environment(provider).items() if name != "GEMINI_API_KEY"}
    assert lingo_here("generate", "p.yaml", folder=tmp_path, **there).returncode == 0
    assert set(provider.keys) == {"from-the-file"}


def test_a_full_disk_stops_the_run_and_what_was_paid_for_is_not_paid_twice(tmp_path, provider):
    seeds = [{"instruction": f"{n}번 별은 왜 빛나나요?", "output": "핵융합이에요. " * 40} for n in range(30)]

    def long(prompt: str) -> Reply:
        which = re.findall(r"\d+번", prompt)[-1]
        return gemini_text(f"{'반짝 ' * 600}{which} {'별은 왜 빛나요?' if '대화를 시작하' in prompt else '별이에요.'}")

    provider.reply_to = long
    with files_of_at_most(120_000):
        told = refused(generate(project(tmp_path, *seeds), provider))
    assert "journal.sqlite: the journal cannot be written" in told and "resumes" in told
    kept, paid = calls_in_journal(tmp_path), len(provider.prompts)
    assert 0 < kept <= paid
    assert generate(tmp_path, provider).returncode == 0
    assert len(provider.prompts) - paid == calls_in_journal(tmp_path) - kept


def test_a_journal_in_a_folder_that_may_not_be_written_is_one_line_and_nobody_is_asked(tmp_path, provider):
    work = project(tmp_path) / "work"
    generate(tmp_path, provider)
    asked = len(provider.prompts)
    shutil.rmtree(work / "generate")
    (work / "journal.sqlite").unlink()
    work.chmod(0o555)
    told = refused(generate_in_a_process(tmp_path, provider))
    work.chmod(0o755)
    assert "journal.sqlite: the journal cannot be written" in told and "permissions" in told
    assert len(provider.prompts) == asked


def calls_in_journal(folder: Path) -> int:
    from lingo_hitl.models.journal import Journal

    with Journal(folder / "work" / "journal.sqlite") as journal:
        return len(journal)
