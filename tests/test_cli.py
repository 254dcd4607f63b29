"""What a user sees when something is wrong: one line, exit code 2, and nothing half-written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lingo_hitl.stages import Outcome, file_sha256, run_stage
from tests.annotation.conftest import mapped_rows, mapped_table

PROJECT = """
project: p
workdir: work
corpus: [{path: CORPUS}]
generate: {instruction: {}}
"""


def lingo(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does, with a home folder of its own."""
    return subprocess.run(
        [sys.executable, "-m", "lingo_hitl.cli", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(folder),
            "LINGO_HITL_HOME": str(folder / "home"),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(Path(__file__).parents[1]),
            **environment,
        },
    )


def refused(result: subprocess.CompletedProcess[str]) -> str:
    """The one line of a refusal."""
    assert result.returncode == 2, result.stdout + result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    return lines[0]


def write_project(folder: Path, corpus: str | None, *, name: str = "rows.jsonl", text: str = PROJECT) -> None:
    if corpus is not None:
        (folder / name).write_text(corpus, encoding="utf-8")
    (folder / "p.yaml").write_text(text.replace("CORPUS", name), encoding="utf-8")


GOOD = '{"instruction": "별은 왜 빛나나요?", "output": "핵융합 때문이에요."}\n'


@pytest.mark.parametrize(
    ("name", "corpus", "says"),
    [
        ("rows.jsonl", GOOD * 6 + "{broken\n" + GOOD, "rows.jsonl:7: "),
        ("rows.jsonl", "", "empty"),
        ("rows.csv", "Frage,Antwort\na,b\n", "Frage"),
        ("rows.jsonl", None, "rows.jsonl"),
        ("rows.xlsx", "x", "rows.xlsx"),
    ],
)
def test_a_bad_corpus_stops_before_anything_is_written(tmp_path, name, corpus, says):
    write_project(tmp_path, corpus, name=name)
    assert says in refused(lingo("generate", "p.yaml", folder=tmp_path))
    assert not [path for path in (tmp_path / "work").rglob("*") if path.name != ".lock"]


def test_a_misspelt_key_is_told_with_the_right_one(tmp_path):
    write_project(tmp_path, GOOD, text=PROJECT + "currate: {}\n")
    assert "unknown key 'currate'. Did you mean 'curate'?" in refused(lingo("run", "p.yaml", folder=tmp_path))
    assert not (tmp_path / "work").exists()


def test_a_stage_whose_input_is_not_there_names_the_stage_to_run(tmp_path):
    write_project(tmp_path, GOOD)
    assert "Run `lingo-hitl curate CONFIG` first" in refused(lingo("release", "p.yaml", folder=tmp_path))
    assert "Run `lingo-hitl map CONFIG` first" in refused(lingo("push", "p.yaml", folder=tmp_path))


def test_stages_run_one_by_one_and_are_skipped_the_second_time(tmp_path):
    write_project(tmp_path, GOOD + '{"instruction": "", "output": "x"}\n')
    for stage in ("generate", "judge", "map"):
        result = lingo(stage, "p.yaml", folder=tmp_path)
        assert result.returncode == 0, result.stderr
        assert "1 rows" in result.stdout
    assert "done before" in lingo("map", "p.yaml", folder=tmp_path).stdout
    assert "lingo-hitl up" in refused(lingo("push", "p.yaml", folder=tmp_path))
    assert (tmp_path / "work" / "map" / "atlas.html").exists()


def test_a_key_is_never_shown(tmp_path):
    write_project(tmp_path, GOOD, text=PROJECT + "argilla: {url: 'http://127.0.0.1:9', api_key_env: MY_KEY}\n")
    rows = mapped_table(mapped_rows(3))
    run_stage("map", lambda: Outcome(rows), workdir=tmp_path / "work", config={"project": "p"}, inputs={})
    result = lingo("push", "p.yaml", folder=tmp_path, MY_KEY="very-secret-key")
    assert "no Argilla answers there" in refused(result)
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(b"very-secret-key" in content for content in [*files, result.stderr.encode()])


def test_init_writes_a_project_that_loads_and_never_overwrites(tmp_path):
    assert lingo("init", "mine.yaml", folder=tmp_path).returncode == 0
    (tmp_path / "mine.yaml").write_text("precious", encoding="utf-8")
    assert "exists already" in refused(lingo("init", "mine.yaml", folder=tmp_path))
    assert (tmp_path / "mine.yaml").read_text(encoding="utf-8") == "precious"


def test_a_demo_never_takes_a_folder_that_is_not_its_own(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious", encoding="utf-8")
    for options in ([], ["--remove"]):
        result = lingo("demo", "--workdir", "mine", "--home", "home", *options, folder=tmp_path)
        assert "holds something that no demo made" in refused(result)
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_a_version_that_is_none_is_refused(tmp_path):
    write_project(tmp_path, GOOD)
    assert "not of the form 1.2.0" in refused(lingo("release", "p.yaml", "--version", "newest", folder=tmp_path))


def test_status_of_a_home_that_is_not_there_is_no_error(tmp_path):
    result = lingo("status", "--json", folder=tmp_path)
    assert result.returncode == 0
    assert '"running": false' in result.stdout
    assert lingo("down", folder=tmp_path).returncode == 0
    checked = lingo("status", "--check", folder=tmp_path)
    assert checked.returncode == 1
    assert "does not run" in checked.stdout


def test_a_release_from_stages_that_are_out_of_date_is_refused(tmp_path):
    write_project(tmp_path, GOOD)
    work = tmp_path / "work"

    def leave(stage: str, earlier: str | None, mark: str) -> None:
        inputs = {earlier: file_sha256(work / earlier / "rows.parquet")} if earlier else {}
        rows = mapped_table(mapped_rows(2, text=mark))
        run_stage(stage, lambda: Outcome(rows), workdir=work, config={"project": "p", "mark": mark}, inputs=inputs)

    leave("sync", None, "one")
    leave("curate", "sync", "one")
    leave("sync", None, "two")
    told = refused(lingo("release", "p.yaml", folder=tmp_path))
    assert "made before the last run of 'sync'. Run `lingo-hitl curate CONFIG` first" in told


def test_one_project_never_takes_the_rows_of_another(tmp_path):
    write_project(tmp_path, GOOD)
    assert lingo("generate", "p.yaml", folder=tmp_path).returncode == 0
    (tmp_path / "p.yaml").write_text((tmp_path / "p.yaml").read_text().replace("project: p", "project: q"))
    assert "holds rows of project 'p', not of 'q'" in refused(lingo("judge", "p.yaml", folder=tmp_path))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("argilla: {url: 'http://kim:very-secret@127.0.0.1'}", "holds a name or a password"),
        ("argilla: {api_key_env: very-secret}", "the name of an environment variable"),
        ("judge: {judges: [{model: gemini/x, api_key_env: [very-secret]}]}", "the name of an environment variable"),
    ],
)
def test_a_secret_in_the_config_is_refused_and_not_repeated(tmp_path, line, says):
    write_project(tmp_path, GOOD, text=PROJECT + line + "\n")
    told = refused(lingo("run", "p.yaml", folder=tmp_path))
    assert says in told
    assert "very-secret" not in told


@pytest.mark.parametrize("workdir", ["rows.jsonl", "rows.jsonl/below", "~nobody-of-that-name/x"])
def test_a_workdir_that_cannot_be_is_one_line(tmp_path, workdir):
    write_project(tmp_path, GOOD)
    refused(lingo("generate", "p.yaml", "--workdir", workdir, folder=tmp_path))


def test_scripts_for_cron_refuse_in_one_line(tmp_path):
    write_project(tmp_path, GOOD)
    scripts = Path(__file__).parents[1] / "scripts"
    for name in ("push_records.py", "sync_annotations.py", "release_dataset.py"):
        assert len((scripts / name).read_text().splitlines()) < 40
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "LINGO_HITL_HOME": str(tmp_path / "home")}
        result = subprocess.run(
            [sys.executable, scripts / name, "p.yaml"],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert "lingo-hitl map CONFIG" in refused(result)
