"""Dialogue quality: how well each figure finds its own failure, and what measuring costs on one core.

    python -m benchmarks dialogue_quality [--count 5000]

Dialogues are real ones: English of hh-rlhf (harmless-base, test), Korean made of three questions with answers of
KoAlpaca, both of ../shared/data. Each failure is put into every dialogue in turn (`benchmarks.dialogue_failures`),
and the figure is compared with that of the dialogue as it was: AUC is the share of pairs of a good and a bad
dialogue in which the bad one has the higher figure, ties counting half. Found and lost are the shares of bad and of
good dialogues beyond the config's default.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import re
import sys
import time
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.metrics import roc_auc_score

from benchmarks.dialogue_failures import FAILURES, Dialogue
from benchmarks.rows import DATA
from lingo_hitl.config import QualityConfig
from lingo_hitl.generation.personas import load_personas
from lingo_hitl.judging.dialogue_quality.measure import measure

TURNS = 3


def main(options: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks dialogue_quality")
    parser.add_argument("--count", type=int, default=5_000, help="Korean dialogues that are timed")
    count = parser.parse_args(options).count
    if not DATA.is_dir():
        sys.exit(f"{DATA} is not there: this benchmark runs on real dialogues only.")
    korean, english = korean_dialogues(count), english_dialogues()
    measure(korean[:1], {})  # Kiwi is loaded before the clock runs
    for name, dialogues in (("Korean", korean), ("English", english)):
        started = time.process_time()
        measure(dialogues, load_personas("sample"))
        seconds = time.process_time() - started
        print(f"{name}: {len(dialogues):,} dialogues in {seconds:.1f} s of one core, {letters(dialogues):,} characters")
    table = Table("figure", "language", "AUC", "found", "lost")
    for figure, language, auc, found, lost in separation(korean[:1_000], english[:1_000]):
        table.add_row(figure, language, f"{auc:.3f}", f"{found:.1%}", f"{lost:.1%}")
    Console().print(table)


def separation(korean: Sequence[Dialogue], english: Sequence[Dialogue]) -> list[tuple[str, str, float, float, float]]:
    """For each figure and language: AUC, the share of failures found, the share of good dialogues lost."""
    limits, personas = QualityConfig(), load_personas("sample")
    rows = []
    for language, dialogues in (("ko", korean), ("en", english)):
        good = measure(dialogues, personas)
        for figure, spoil in FAILURES.items():
            known = [i for i, row in enumerate(good) if row[figure] is not None]
            if not known:
                continue
            draw = random.Random(0)
            bad = measure([spoil(dialogues[i], draw) for i in known], personas)
            before = np.array([good[i][figure] for i in known])
            after = np.array([row[figure] for row in bad], dtype=float)
            labels = np.repeat([0, 1], len(known))
            limit = getattr(limits, figure)
            auc = float(roc_auc_score(labels, np.nan_to_num(np.concatenate([before, after]))))
            rows.append((figure, language, auc, float((after > limit).mean()), float((before > limit).mean())))
    return rows


def korean_dialogues(count: int) -> list[Dialogue]:
    """Questions and answers of KoAlpaca, three to a dialogue; answers of 60 to 400 characters at one speech level."""
    pairs = json.loads((DATA / "ko_alpaca_volume21.json").read_text(encoding="utf-8"))
    polite = re.compile(r"니다[.!\"]?\s*$")
    pairs = [
        (p["instruction"], p["output"]) for p in pairs if 60 <= len(p["output"]) <= 400 and polite.search(p["output"])
    ]
    draw = random.Random(0)
    return [_dialogue("ko", [text for pair in draw.sample(pairs, TURNS) for text in pair]) for _ in range(count)]


def english_dialogues() -> list[Dialogue]:
    """The chosen side of hh-rlhf, where it has two answers or more."""
    with gzip.open(DATA / "hh_harmless_base_test.jsonl.gz", "rt", encoding="utf-8") as file:
        texts = [re.split(r"\n\n(?:Human|Assistant): ", json.loads(line)["chosen"])[1:] for line in file]
    return [_dialogue("en", [text.strip() for text in turns]) for turns in texts if len(turns) >= 4]


def letters(dialogues: Sequence[Dialogue]) -> int:
    return sum(len(message["content"]) for dialogue in dialogues for message in dialogue["messages"])


def _dialogue(language: str, texts: Sequence[str]) -> Dialogue:
    messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]
    return {"task": "dialogue", "language": language, "persona": "historian", "messages": messages}
