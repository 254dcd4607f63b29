"""Every command in the README works, in the order in which it stands there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from datasets import load_dataset

from argilla_setup import launcher
from lingo_hitl.demo import ANNOTATORS, simulate
from lingo_hitl.project_file import load_project
from tests.providers import running

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line.split("#")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", README, re.S)
    for line in block.splitlines()
    if line.split("#")[0].strip()
]


def test_what_make_is_asked_for_exists():
    targets = [command.split()[1] for command in COMMANDS if command.startswith("make ")]
    assert targets == ["demo", "test"]
    others = ["demo-down", "bench", "lint", "test-fast", "venv"]
    subprocess.run(["make", "--dry-run", *targets, *others], cwd=ROOT, check=True, capture_output=True)


def test_every_command_of_the_command_line_is_told_in_the_readme():
    helped = subprocess.run(
        [sys.executable, "-m", "lingo_hitl.cli", "--help"], capture_output=True, text=True, check=True
    )
    for command in re.findall(r"^│ ([a-z][a-z-]+)  ", helped.stdout, re.M):
        assert f"`{command}`" in README or f"lingo-hitl {command}" in README or f"make {command}" in README, command


def test_every_file_that_the_readme_names_is_there():
    for path in re.findall(r"`((?:configs|scripts)/[\w./]+)`|\]\(([\w./]+)\)", README):
        assert (ROOT / next(filter(None, path))).exists(), path


@pytest.mark.timeout(1800)
@pytest.mark.model
@pytest.mark.server
def test_the_commands_from_init_to_down(tmp_path):
    folder = Path(tempfile.mkdtemp(prefix="lh-"))
    commands = [command for command in COMMANDS if command.startswith("lingo-hitl ")]
    shutil.copytree(ROOT / "configs", folder / "configs", symlinks=False)
    environment = {**os.environ, "LINGO_HITL_HOME": str(folder / "home"), "GEMINI_API_KEY": "loopback"}
    try:
        with running() as gemini:
            environment["GEMINI_API_ENDPOINT"] = gemini.url
            for command in commands:
                if " sync " in command:
                    simulate(load_project(folder / "project.yaml"), folder / "home", ANNOTATORS)
                arguments = command.removeprefix("lingo-hitl ").split()
                result = subprocess.run(
                    [sys.executable, "-m", "lingo_hitl.cli", *arguments],
                    cwd=folder, env=environment, capture_output=True, text=True, check=False,
                )  # fmt: skip
                assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
            assert gemini.prompts
        released = folder / "work" / "my-project" / "release" / "my-project-0.2.0"
        assert load_dataset(str(released), "preference", cache_dir=str(tmp_path))["train"].num_rows > 0
        assert not launcher.status(folder / "home").running
    finally:
        launcher.remove(folder / "home")
        shutil.rmtree(folder, ignore_errors=True)
