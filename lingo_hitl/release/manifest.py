"""`manifest.json`: what a release consists of, to the byte, and whether a folder still is that release."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from lingo_hitl.stages import file_sha256

MANIFEST = "manifest.json"
VERSIONED = ("lingo-hitl", "jinja2", "pyarrow")
"""The packages that decide the bytes of a release."""


def write_manifest(folder: Path, *, about: Mapping[str, Any]) -> dict[str, Any]:
    """Write `manifest.json` about all files that `folder` holds now; returns its content.

    `about` (plain JSON values: project, config, inputs, counts) goes in as it is. Every file gets its
    SHA-256, bytes and rows; the manifest carries a SHA-256 of itself.
    """
    content = {
        **about,
        "files": {_name(folder, path): _facts(path) for path in _files(folder) if path != folder / MANIFEST},
        "versions": {package: version(package) for package in VERSIONED},
    }
    content["manifest_sha256"] = _own_sha256(content)
    (folder / MANIFEST).write_bytes(_rendered(content))
    return content


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a release, or None where there is none that can be read."""
    try:
        content = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and isinstance(content.get("files"), dict) else None


def verify(folder: Path) -> list[str]:
    """What is wrong with a release, in words; empty where each byte of each file is as it was written."""
    content = read_manifest(folder)
    if content is None:
        return [f"{MANIFEST}: missing or unreadable"]
    problems = []
    if content.get("manifest_sha256") != _own_sha256(content) or (folder / MANIFEST).read_bytes() != _rendered(content):
        problems.append(f"{MANIFEST}: changed after it was written")
    expected: dict[str, Any] = dict(content["files"])
    for path in _files(folder):
        name = _name(folder, path)
        if path == folder / MANIFEST:
            continue
        facts = expected.pop(name, None)
        if facts is None:
            problems.append(f"{name}: not part of the release")
        elif path.is_symlink() or not isinstance(facts, dict):
            problems.append(f"{name}: not the file that was written")
        elif path.stat().st_size != facts.get("bytes") or file_sha256(path) != facts.get("sha256"):
            problems.append(f"{name}: content differs from what was released")
    return problems + [f"{name}: missing" for name in expected]


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())


def _name(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()


def _facts(path: Path) -> dict[str, Any]:
    rows: int | None = None
    if path.suffix == ".jsonl":
        rows = path.read_bytes().count(b"\n")
    elif path.suffix == ".parquet":
        rows = pq.read_metadata(path).num_rows
    return {"sha256": file_sha256(path), "bytes": path.stat().st_size, "rows": rows}


def _own_sha256(content: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in content.items() if key != "manifest_sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, ensure_ascii=False).encode("utf-8", "replace")).hexdigest()


def _rendered(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, ensure_ascii=False, indent=2) + "\n").encode("utf-8", "replace")
