"""Korean rows to measure on: real ones from ../shared/data where it is there, else the shipped sample, varied."""

from __future__ import annotations

import csv
import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path

from lingo_hitl.sample import CORPORA

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
Pair = tuple[str, str]  # instruction, output


def write_rows(path: Path, count: int, *, data: Path = DATA) -> str:
    """Write `count` distinct rows as JSONL (id, instruction, output), the same ones at each call; says what they are.

    Real rows come first, in an order drawn once. When they are used up, a row is made of the first half of
    one and the second half of another: as long as real ones, and not near to one that was there before.
    """
    real, name = _real(data)
    rows = list(itertools.islice(_varied(real), count))
    with path.open("w", encoding="utf-8") as file:
        for n, (instruction, output) in enumerate(rows):
            row = {"id": f"r{n:07}", "instruction": instruction, "output": output}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    mixed = max(0, count - len(real))
    return name + (f", {mixed:,} of them made of the halves of two" if mixed else "")


def thin(rows: Path, path: Path, count: int) -> Path:
    """Write `count` of the rows, evenly along their length, so that seconds for these stand for all; gives `path`."""
    lines = rows.read_text(encoding="utf-8").splitlines()
    lines.sort(key=lambda line: len(json.loads(line)["instruction"]))
    chosen = [lines[(2 * n + 1) * len(lines) // (2 * count)] for n in range(count)]
    path.write_text("\n".join(chosen) + "\n", encoding="utf-8")
    return path


def _real(data: Path) -> tuple[list[Pair], str]:
    """Distinct rows in an order drawn once, and whose they are."""
    if data.is_dir():
        rows, name = [*_songys(data), *_volume21(data), *_square(data)], "songys + volume21 + SQuARe"
    else:
        lines = CORPORA["sample:ko"].read_text(encoding="utf-8").splitlines()
        rows = [(row["instruction"], row["output"]) for row in map(json.loads, lines)]
        name = f"the shipped sample (no {data})"
    rows = [(instruction.strip(), output) for instruction, output in dict.fromkeys(rows) if instruction.strip()]
    random.Random(0).shuffle(rows)
    return rows, name


def _songys(data: Path) -> Iterator[Pair]:
    with (data / "ko_chatbot_songys.csv").open(encoding="utf-8-sig", newline="") as file:
        yield from ((row["Q"], row["A"]) for row in csv.DictReader(file))


def _volume21(data: Path) -> Iterator[Pair]:
    for row in json.loads((data / "ko_alpaca_volume21.json").read_text(encoding="utf-8")):
        yield f"{row['instruction']} {row['input']}", row["output"]


def _square(data: Path) -> Iterator[Pair]:
    """Questions without answers: their English form stands in for the output, which nothing here reads."""
    for row in json.loads((data / "square_question_test.json").read_text(encoding="utf-8")):
        yield row["question"], row["question_en"]


def _varied(real: list[Pair]) -> Iterator[Pair]:
    yield from real
    chance, seen = random.Random(1), {instruction for instruction, _ in real}
    while True:
        (first, output), (second, _) = chance.sample(real, 2)
        head, tail = first.split(), second.split()
        text = " ".join([*head[: (len(head) + 1) // 2], *tail[len(tail) // 2 :]])
        while text in seen:  # few rows have few halves
            text = f"{text} {chance.randrange(1_000_000)}"
        seen.add(text)
        yield text, output
