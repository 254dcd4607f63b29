"""Files of dialogues, measured and divided by dialogue quality: what is kept, what is dropped and why, and a report."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from lingo_hitl.config import Corpus, Language, Project, QualityConfig
from lingo_hitl.corpus.presets import CONVERSATION_NAMES
from lingo_hitl.corpus.readers import RawRow, open_corpus
from lingo_hitl.corpus.seeds import language_of
from lingo_hitl.errors import UserError
from lingo_hitl.generation.personas import Persona
from lingo_hitl.judging.dialogue_quality.figures import FIGURES, beyond, excess
from lingo_hitl.judging.dialogue_quality.measure import measure
from lingo_hitl.progress import progress
from lingo_hitl.records import Row

KEPT, DROPPED, REPORT = "kept.jsonl", "dropped.jsonl", "report.html"
NO_DIALOGUE = "no messages of a user and an assistant in it"
EXAMPLES = 3  # dropped dialogues that are remembered for each figure
_AT_ONCE = 512  # rows
_ROLES = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "model": "assistant", "bot": "assistant"}


@dataclass
class Sifted:
    """What came of a file of dialogues.

    Attributes:
        limits: what a dialogue may have of each figure.
        figures: by figure, one for each measured dialogue in order, float64 [n]; NaN where there is none.
        kept: whether each of them was kept, bool [n].
        personas: the persona of each, "" where the row names none.
        levels: the speech level of each one's answers, "" where there is none.
        unread: rows without a dialogue; they are dropped too.
        examples: by figure, the first dropped dialogues that are beyond its limit, with their figures.
    """

    limits: QualityConfig
    figures: dict[str, NDArray[np.float64]]
    kept: NDArray[np.bool_]
    personas: list[str]
    levels: list[str]
    unread: int = 0
    examples: dict[str, list[Row]] = field(default_factory=dict)

    def beyond(self, name: str) -> int:
        """Dialogues above the limit of a figure."""
        limit = getattr(self.limits, name)
        return 0 if limit is None else int((self.figures[name] > limit).sum())


def project_dialogues(project: Project) -> Path:
    """Where the dialogues of a project are, before anything was filtered.

    Raises:
        UserError: they were not generated yet.
    """
    path = project.workdir / "generate" / "rows.parquet"
    if not path.is_file():
        raise UserError(f"{path} is not there: stage 'generate' has not run. Run `lingo-hitl generate CONFIG` first.")
    return path


def sift(
    source: Path,
    out: Path,
    limits: QualityConfig,
    *,
    personas: Mapping[str, Persona],
    persona: str | None = None,
    language: Language | None = None,
) -> Sifted:
    """Write the dialogues of `source` that are within `limits` to `out`/kept.jsonl, the others to dropped.jsonl.

    Each line is the row as it was, with its figures under `quality`, and a dropped one with its `reason`. Rows of
    other tasks are passed over. Files that are there already are replaced once the new ones are whole.

    Args:
        source: JSONL, JSON, Parquet, CSV or a `datasets` folder with a column `messages` or `conversations`.
        persona: of rows that name none.
        language: of rows that name none; else told by their letters.

    Raises:
        UserError: not to be read; no dialogue in it; one of the files that are to be written.
    """
    for place in (out.resolve() / KEPT, out.resolve() / DROPPED):
        if place.exists() and source.exists() and place.samefile(source):
            raise UserError(f"{source}: would be overwritten, for the run writes {place}. Choose another --out.")
    reading = open_corpus(Corpus(path=str(source)), key="INPUT")
    out.mkdir(parents=True, exist_ok=True)
    result = _Gathering(limits)
    parts = {name: (out / name).with_suffix(".part") for name in (KEPT, DROPPED)}
    # backslashreplace: half of a surrogate pair becomes the escape that JSON has for it.
    with (
        parts[KEPT].open("w", encoding="utf-8", errors="backslashreplace") as kept,
        parts[DROPPED].open("w", encoding="utf-8", errors="backslashreplace") as dropped,
        progress("dialogue quality", reading.total) as advance,
    ):
        rows = iter(reading.rows)
        while chunk := list(islice(rows, _AT_ONCE)):
            dialogues = [_dialogue(row, persona, language) for row in chunk]
            figures = iter(measure([d for d in dialogues if d and d["messages"]], personas))
            for row, dialogue in zip(chunk, dialogues, strict=True):
                if dialogue is None:
                    continue
                result.take(row, dialogue, next(figures) if dialogue["messages"] else None, kept, dropped)
            advance(len(chunk))
    sifted = result.sifted()
    if not len(sifted.kept):
        for part in parts.values():
            part.unlink()
        raise UserError(
            f"{source}: no row has a dialogue; expected a column {' or '.join(CONVERSATION_NAMES)} "
            "with messages such as {role: user, content: ...}."
        )
    for name, part in parts.items():
        part.replace(out / name)
    return sifted


class _Gathering:
    """What is remembered of the rows, which are not."""

    def __init__(self, limits: QualityConfig) -> None:
        self.limits = limits
        self.rows: list[tuple[float, ...]] = []
        self.kept: list[bool] = []
        self.personas: list[str] = []
        self.levels: list[str] = []
        self.unread = 0
        self.examples: dict[str, list[Row]] = {name: [] for name in FIGURES}

    def take(self, row: RawRow, dialogue: Row, figures: Row | None, kept: TextIO, dropped: TextIO) -> None:
        if figures is None:
            self.unread += 1
            _write(dropped, {**row, "reason": NO_DIALOGUE})
            return
        self.rows.append(tuple(np.nan if figures[name] is None else figures[name] for name in FIGURES))
        self.personas.append(dialogue["persona"] or "")
        self.levels.append(figures["speech_level"] or "")
        self.kept.append((reason := excess(figures, self.limits)) is None)
        if reason is None:
            _write(kept, {**row, "quality": figures})
            return
        _write(dropped, {**row, "quality": figures, "reason": reason})
        for name in beyond(figures, self.limits):
            if len(self.examples[name]) < EXAMPLES:
                self.examples[name].append({**dialogue, **figures})

    def sifted(self) -> Sifted:
        table = np.array(self.rows, dtype=np.float64).reshape(-1, len(FIGURES))
        return Sifted(
            limits=self.limits,
            figures={name: table[:, place] for place, name in enumerate(FIGURES)},
            kept=np.array(self.kept, dtype=bool),
            personas=self.personas,
            levels=self.levels,
            unread=self.unread,
            examples=self.examples,
        )


def by_persona(sifted: Sifted) -> Iterator[tuple[str, NDArray[np.bool_], str]]:
    """Each persona with its dialogues (bool [n]) and their commonest speech level, the most frequent first."""
    names, levels = np.array(sifted.personas), np.array(sifted.levels)
    for name, _ in Counter(sifted.personas).most_common():
        theirs = names == name
        found = Counter(level for level in levels[theirs].tolist() if level)
        yield name, theirs, next(iter(found.most_common(1)), ("",))[0]


def mean(values: NDArray[np.float64]) -> float | None:
    """The mean of those that are there."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def _dialogue(row: RawRow, persona: str | None, language: Language | None) -> Row | None:
    """What is measured of a row: no messages where it holds no dialogue, None where it is of another task."""
    if row.get("task", "dialogue") != "dialogue":
        return None
    found: list[Any] = next((row[name] for name in CONVERSATION_NAMES if isinstance(row.get(name), list)), [])
    messages = [_message(turn) for turn in found]
    if None in messages or not any(m and m["role"] == "assistant" for m in messages):
        messages = []
    named = row.get("language")
    text = "\n".join(message["content"] for message in messages if message)
    return {
        "messages": messages,
        "persona": row.get("persona") if isinstance(row.get("persona"), str) else persona,
        "language": named if named in ("ko", "en") else language or language_of(text),
    }


def _message(turn: Any) -> dict[str, str] | None:
    if not isinstance(turn, Mapping):
        return None
    role = turn.get("role") or turn.get("from")
    content = turn.get("content") if turn.get("content") is not None else turn.get("value")
    if not isinstance(role, str) or not isinstance(content, str):
        return None
    return {"role": _ROLES.get(role.lower(), role.lower()), "content": content}


def _write(file: TextIO, row: Mapping[str, Any]) -> None:
    file.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
