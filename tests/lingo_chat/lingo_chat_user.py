"""Lingo_Chat's user as the tests play one: a folder with their YAML and seeds, and a Gemini that talks."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.command_line import lingo_here
from tests.providers import Provider, Reply, gemini_text

YAML = (Path(__file__).parent / "basic_config.yaml").read_text(encoding="utf-8")
KEYS = {"LE_GEMINI_API_KEY": "AIzaSecretOfLE", "JH_GEMINI_API_KEY": "AIzaSecretOfJH"}
SEEDS = [
    {"instruction": f"{what} 무엇인가요?", "output": f"{what} 좋은 것입니다.", "url": f"https://kin.naver.com/{n}"}
    for n, what in enumerate(("별은", "달은", "해는"))
]


def talk(prompt: str) -> Reply:
    """A scorer that gives 4.5, and 2 where the talk is about the moon; agents that ask and answer by turns."""
    if "점수" in prompt:
        return gemini_text(f"점수: {2 if '달은' in prompt else 4.5}\n근거: 읽어 보았습니다.")
    seed = re.search(r"(별은|달은|해는)[^\n]*", prompt)
    if "대화를 시작하세요" in prompt:
        return gemini_text(f"{seed[1] if seed else '그것은'} 도대체 무엇일까요?")
    spoken = sum(map(ord, prompt)) % 100_000
    about = seed[1] if seed else "그것은"
    asks = "덧붙여" in prompt or not prompt.endswith("?")
    return gemini_text(f"{about} 왜 {spoken}인가요?" if asks else f"{about} {spoken}이에요.\n\n## 덧붙여\n더 있어요.")


def folder_of_a_user(
    folder: Path, seeds: Sequence[dict[str, Any]] = SEEDS, *, yaml: str = YAML, keys: dict[str, str] = KEYS
) -> Path:
    """The YAML under its own name, the seeds where it says they are, and the keys in .env."""
    (folder / "data" / "org").mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(seed, ensure_ascii=False) + "\n" for seed in seeds)
    (folder / "data" / "org" / "KoAlpaca_v1.1.jsonl").write_text(text, encoding="utf-8")
    (folder / ".env").write_text("".join(f"{name}={key}\n" for name, key in keys.items()), encoding="utf-8")
    (folder / "basic_config.yaml").write_text(yaml, encoding="utf-8")
    return folder


def generate(folder: Path, provider: Provider, *options: str) -> subprocess.CompletedProcess[str]:
    """`lingo-hitl generate --config basic_config.yaml` in the folder, with the loopback Gemini for Google's."""
    arguments = ("generate", "--config", "basic_config.yaml", *options)
    return lingo_here(*arguments, folder=folder, GEMINI_API_ENDPOINT=provider.url, NO_PROXY="127.0.0.1")


def lines_in(folder: Path) -> list[dict[str, Any]]:
    """The lines of all files in a folder, by day."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.jsonl"))]
    return [json.loads(line) for text in texts for line in text.split("\n") if line]
