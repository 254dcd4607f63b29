"""What ships with lingo-hitl so that it runs at once: a corpus, personas, the demo's config, a config to start from."""

from __future__ import annotations

import shutil
from pathlib import Path

from lingo_hitl.errors import UserError

FOLDER = Path(__file__).parent
DEMO = FOLDER / "demo.yaml"
PROJECT = FOLDER / "project.yaml"
PERSONAS = FOLDER / "personas.yaml"
CORPORA = {"sample:ko": FOLDER / "instructions_ko.jsonl", "sample:en": FOLDER / "prompts_en.jsonl"}


def write_project(path: Path) -> None:
    """Copy the commented example to `path`.

    Raises:
        UserError: the file exists, or its folder does not.
    """
    if path.exists():
        raise UserError(f"{path} exists already. Choose another name, or remove it first.")
    if not path.parent.is_dir():
        raise UserError(f"{path.parent} is not a folder. Make it first.")
    shutil.copy(PROJECT, path)
