"""How a corpus lays out its rows: which columns ask and which answer, for corpora known by name and for others."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lingo_hitl import config
from lingo_hitl.config import Corpus
from lingo_hitl.corpus.readers import BEYOND, RawRow, open_corpus
from lingo_hitl.errors import UserError, nearest

HEAD = 100  # rows that are looked at to learn which columns there are

INSTRUCTION_NAMES = ("instruction", "question", "prompt", "q", "user_translated")
INPUT_NAMES = ("input", "context")
OUTPUT_NAMES = ("output", "answer", "response", "a", "chip2_translated")
CONVERSATION_NAMES = ("conversations", "messages", "conversation")
_ASKS = ("human", "user")
_ANSWERS = ("gpt", "assistant", "chatgpt", "bard", "bing", "model")


@dataclass(frozen=True)
class Texts:
    """What a row asks and answers, as it was found: None where absent, and perhaps no text at all."""

    instruction: Any
    input: Any = None
    output: Any = None


@dataclass(frozen=True)
class Layout:
    """How to find the texts of a row.

    Attributes:
        texts: the texts of a raw row.
        columns: those that a file must have to be laid out like this.
        answers: whether its rows have an answer at all.
        source: what the corpus is called where the config does not say.
        group: the part of a merged corpus that a row came from, None where the row does not tell.
    """

    texts: Callable[[RawRow], Texts]
    columns: tuple[str, ...] = ()
    answers: bool = True
    source: str | None = None
    group: Callable[[RawRow], str | None] | None = None


@dataclass(frozen=True)
class Opened:
    """A corpus with its layout, its rows from the first on, and about how many there are."""

    layout: Layout
    rows: Iterator[RawRow]
    total: int


def _columns(instruction: str, output: str | None, input: str | None = None) -> Callable[[RawRow], Texts]:
    def texts(row: RawRow) -> Texts:
        return Texts(row.get(instruction), row.get(input) if input else None, row.get(output) if output else None)

    return texts


def _conversation(column: str) -> Callable[[RawRow], Texts]:
    return lambda row: first_exchange(row.get(column))


def _before_underscore(row: RawRow) -> str | None:
    name = row.get("id")
    group = name.partition("_")[0] if isinstance(name, str) else ""
    return group if group.isprintable() and group else None


PRESETS: Mapping[config.Preset, Layout] = {
    # beomi/KoAlpaca-v1.1a: instruction, output, url
    "koalpaca": Layout(_columns("instruction", "output"), ("instruction", "output"), source="koalpaca"),
    # nlpai-lab/kullm-v2: id ("alpaca_gpt4_123"), instruction, input, output
    "kullm": Layout(
        _columns("instruction", "output", "input"),
        ("id", "instruction", "input", "output"),
        source="kullm",
        group=_before_underscore,
    ),
    # heegyu/OIG-small-chip2-ko: user_translated, chip2_translated, beside the English they were made from
    "oig-ko": Layout(
        _columns("user_translated", "chip2_translated"), ("user_translated", "chip2_translated"), source="oig"
    ),
    # tatsu-lab/alpaca: instruction, input, output
    "alpaca": Layout(_columns("instruction", "output", "input"), ("instruction", "output")),
    # databricks/databricks-dolly-15k: instruction, context, response, category
    "dolly": Layout(_columns("instruction", "response", "context"), ("instruction", "response")),
    # Vicuna, ShareGPT: conversations of {"from": "human" or "gpt", "value": text}
    "sharegpt": Layout(_conversation("conversations"), ("conversations",)),
    # OpenAI: messages of {"role": "user" or "assistant", "content": text or parts}
    "messages": Layout(_conversation("messages"), ("messages",)),
}
"""Layouts by the name of the corpus, or of the first corpus that was laid out like this."""


def first_exchange(turns: Any) -> Texts:
    """The first question of a conversation and the answer that follows it.

    Turns are `{"from", "value"}` or `{"role", "content"}`; the content of a turn may be a list of parts, whose
    texts are joined. What stands before the first question (a system prompt, the end of an answer that was cut
    off) and after its answer is left out: an instruction is one question and one answer. Where the next question
    comes before any answer the output is None. What is no such conversation comes back as a list in the place of
    the instruction, for the caller to refuse as no text; so does a question with parts that are pictures.
    """
    if turns is None:
        return Texts(None)
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        return Texts([turns])
    said = [(turn.get("from") or turn.get("role"), _said(turn)) for turn in turns]
    asked = next((n for n, (who, _) in enumerate(said) if who in _ASKS), None)
    if asked is None:
        return Texts(None)
    until_next = itertools.takewhile(lambda turn: turn[0] not in _ASKS, said[asked + 1 :])
    answer = next((text for who, text in until_next if who in _ANSWERS), None)
    return Texts(said[asked][1], None, answer)


def _said(turn: Mapping[str, Any]) -> Any:
    content = turn.get("value") if turn.get("value") is not None else turn.get("content")
    if not isinstance(content, list):
        return content
    texts: list[Any] = [part.get("text") if isinstance(part, dict) else part for part in content]
    return "\n".join(texts) if all(isinstance(text, str) for text in texts) else content


def open_laid_out(corpus: Corpus) -> Opened:
    """Open a corpus, at most `limit` rows of it from `start` on, and learn from the first how it is laid out.

    Raises:
        UserError: as `readers.open_corpus`; no rows; no such column, or none that could hold the instruction.
    """
    reading = open_corpus(corpus)
    end = None if corpus.limit is None else corpus.start + corpus.limit
    rows = itertools.islice(reading.rows, corpus.start, end)
    head = list(itertools.islice(rows, HEAD))
    if not head and corpus.start:
        raise UserError(f"{corpus.path}: has no row {corpus.start}, counted from 0. Start earlier.")
    if not head:
        raise UserError(f"{corpus.path}: has no rows. Expected rows with an instruction each.")
    left = max(reading.total - corpus.start, 0)
    total = min(left, corpus.limit or left)
    return Opened(layout_of(corpus, head), itertools.chain(head, rows), total)


def layout_of(corpus: Corpus, head: Sequence[RawRow]) -> Layout:
    """The layout that the config names, or the one that the first rows show.

    `corpus.preset` first, then `corpus.columns`, then columns by their usual names, in whatever case. A
    conversation is preferred to a question without an answer (UltraChat has both).

    Raises:
        UserError: no such column, or none that could hold the instruction.
    """
    found = list(dict.fromkeys(str(key) for row in head for key in row if key != BEYOND))
    for name, column in corpus.columns.items():
        if column not in found:
            raise UserError(
                f"{corpus.path}: has no column '{column}' (corpus.columns.{name}).{nearest(column, found)} "
                f"Columns found: {', '.join(found)}."
            )
    if corpus.preset:
        return _preset(corpus, corpus.preset, found)
    return _found_out(corpus, found, head)


def _preset(corpus: Corpus, name: config.Preset, found: Sequence[str]) -> Layout:
    layout = PRESETS[name]
    missing = [column for column in layout.columns if column not in found]
    if missing:
        raise UserError(
            f"{corpus.path}: has no column '{missing[0]}', which preset '{name}' expects.{nearest(missing[0], found)} "
            f"Columns found: {', '.join(found)}. Set another corpus.preset, or corpus.columns instead."
        )
    said_twice = [column for column in ("instruction", "output") if column in corpus.columns]
    if said_twice:
        raise UserError(
            f"{corpus.path}: both corpus.preset ('{name}') and corpus.columns.{said_twice[0]} say "
            f"where the {said_twice[0]} is. Leave out one of them."
        )
    return layout


def _found_out(corpus: Corpus, found: Sequence[str], head: Sequence[RawRow]) -> Layout:
    instruction = corpus.columns.get("instruction") or _known(found, INSTRUCTION_NAMES)
    output = corpus.columns.get("output") or _known(found, OUTPUT_NAMES)
    conversation = next((name for name in CONVERSATION_NAMES if name in found and _has_turns(head, name)), None)
    if conversation and "instruction" not in corpus.columns and (instruction is None or output is None):
        return Layout(_conversation(conversation))
    if instruction is None:
        raise UserError(
            f"{corpus.path}: no column holds the instruction; expected one of {', '.join(INSTRUCTION_NAMES)}. "
            f"Columns found: {', '.join(found)}. Say which it is in corpus.columns.instruction."
        )
    material = None if "instruction" in corpus.columns else _known(found, INPUT_NAMES)
    return Layout(_columns(instruction, output, material), answers=output is not None)


def _known(found: Sequence[str], names: Sequence[str]) -> str | None:
    by_lower = {column.lower().strip(): column for column in reversed(found)}
    return next((by_lower[name] for name in names if name in by_lower), None)


def _has_turns(head: Sequence[RawRow], column: str) -> bool:
    return any(isinstance(row.get(column), list) and first_exchange(row[column]).instruction for row in head)
