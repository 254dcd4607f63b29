"""Dialogues as they should be, written for these tests: topics recur in them, phrases and levels do not change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Dialogue = dict[str, Any]


def dialogue(persona: str | None, *texts: str, language: str = "ko") -> Dialogue:
    """A row of a dialogue in which user and assistant take turns."""
    messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]
    return {"task": "dialogue", "language": language, "persona": persona, "messages": messages}


_LINES = Path(__file__).with_suffix(".jsonl").read_text(encoding="utf-8").splitlines()
_ROWS = [dialogue(d["persona"], *d["texts"], language=d["language"]) for d in map(json.loads, _LINES)]
KOREAN = [row for row in _ROWS if row["language"] == "ko"]
ENGLISH = [row for row in _ROWS if row["language"] == "en"]
