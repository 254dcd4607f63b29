"""Imports point one way: what may know of what."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(path for package in ("lingo_hitl", "argilla_setup") for path in (ROOT / package).rglob("*.py"))
FORBIDDEN = {
    "lingo_hitl": ("argilla_server", "lingo_hitl.cli"),
    "lingo_hitl/pipeline.py": ("lingo_hitl.lingo_chat",),
    "argilla_setup": ("lingo_hitl",),
    "lingo_hitl/records.py": ("lingo_hitl.",),
    "lingo_hitl/ledger.py": ("lingo_hitl.annotation", "lingo_hitl.stages"),
    "lingo_hitl/corpus": (
        "lingo_hitl.models",
        "lingo_hitl.generation",
        "lingo_hitl.judging",
        "lingo_hitl.mapping",
        "lingo_hitl.annotation",
        "lingo_hitl.curation",
        "lingo_hitl.release",
    ),
    "lingo_hitl/models": ("lingo_hitl.generation", "lingo_hitl.judging", "lingo_hitl.mapping", "lingo_hitl.annotation"),
    "lingo_hitl/generation": (
        "lingo_hitl.judging",
        "lingo_hitl.mapping",
        "lingo_hitl.annotation",
        "lingo_hitl.curation",
    ),
    "lingo_hitl/judging": ("lingo_hitl.mapping", "lingo_hitl.annotation", "lingo_hitl.curation", "lingo_hitl.release"),
    "lingo_hitl/mapping": ("lingo_hitl.annotation", "lingo_hitl.curation", "lingo_hitl.release"),
    "lingo_hitl/annotation": ("lingo_hitl.curation", "lingo_hitl.release"),
    "lingo_hitl/curation": ("lingo_hitl.release", "lingo_hitl.annotation"),
    "lingo_hitl/release": ("lingo_hitl.annotation", "argilla_setup"),
}


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@pytest.mark.parametrize("place", FORBIDDEN)
def test_imports_point_one_way(place):
    for path in MODULES:
        if path.relative_to(ROOT).as_posix().startswith(place):
            wrong = [name for name in imported(path) if name.startswith(FORBIDDEN[place])]
            assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"
