"""Texts as sentences, segments between punctuation marks, and tokens: Korean morphemes or English words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lingo_hitl.config import Language
from lingo_hitl.models.frame_words import english_stopwords
from lingo_hitl.models.kiwi import kiwi, pieces

_LINE = re.compile(r"[^\n]+")
_BLOCK = re.compile(r"\s*(?:[-*+•·▪>|#]|\d{1,3}[.)]\s|[①-⑳]|```)")
_FENCED = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.S)
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_PAUSE = re.compile(r"[.,!?;:…()\"“”—\n]+")
_STOP = re.compile(r"[.!?…\n]")

CONTENT = ("NNG", "NNP", "SL", "SH", "XR", "VV", "VA", "MAG", "IC")
NOUNS = ("NNG", "NNP", "SL", "SH")
_LIGHT = """
하 되 있 없 같 보 주 이 그 더 잘 안 못 것 수 때 등 중 말 들 가 오 나 저 때문 경우 정도
"""
LIGHT = frozenset(_LIGHT.split())
"""Korean morphemes of a content tag that stand in every text and say nothing of their own."""


@dataclass(frozen=True, slots=True)
class Token:
    """A morpheme with its Sejong tag, or an English word in small letters with the tag "W", or a "PAUSE"."""

    form: str
    tag: str
    quoted: bool = False  # inside quotation marks or brackets

    @property
    def content(self) -> bool:
        if self.tag == "W":
            return self.form not in english_stopwords() and not self.form.isdigit()
        return self.tag in CONTENT and self.form not in LIGHT

    @property
    def names(self) -> bool:
        """Whether it can name a topic: a noun, or any English content word."""
        return self.content and self.tag in (*NOUNS, "W")


Sentence = tuple[Token, ...]
"""Tokens in order, pauses among them."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a text; `block`: of a list, a table, a heading, a quotation or code."""

    sentences: tuple[Sentence, ...]
    block: bool


Said = tuple[Line, ...]
"""A message."""


def tokenised(texts: Sequence[str], language: Language) -> list[Said]:
    """The lines of each text with their sentences; code is left out. Korean texts go through Kiwi as one batch."""
    split = [_lines(text) for text in texts]
    flat = [line for lines in split for line, _ in lines]
    found = iter(_korean(flat) if language == "ko" else map(_english, flat))
    return [tuple(Line(next(found), block) for _, block in lines) for lines in split]


def _lines(text: str) -> list[tuple[str, bool]]:
    prose = _FENCED.sub("\n", text)
    return [(line, bool(_BLOCK.match(line))) for line in _LINE.findall(prose)]


def _korean(lines: Sequence[str]) -> Iterator[tuple[Sentence, ...]]:
    parts = [pieces(line) for line in lines]
    found = iter(kiwi().tokenize([piece for line in parts for piece in line]))
    for line in parts:
        sentences: list[Sentence] = []
        for _ in line:
            by_place: dict[int, list[Token]] = {}
            depth = 0
            for token in next(found):
                tag = token.tag.split("-", 1)[0]
                held = by_place.setdefault(token.sent_position, [])
                depth = max(0, (depth if held else 0) + (tag == "SSO") - (tag == "SSC"))
                if tag.startswith("S") and tag not in ("SL", "SH", "SN"):
                    if tag in ("SF", "SP", "SE", "SSO", "SSC"):
                        held.append(Token(token.form, "PAUSE", depth > 0))
                elif token.len:  # not the 이 that Kiwi puts into 친구(이)야
                    held.append(Token(token.form, tag, depth > 0 or token.sub_sent_position > 0))
            sentences += map(tuple, by_place.values())
        yield tuple(sentences)


def _english(line: str) -> tuple[Sentence, ...]:
    sentences: list[Sentence] = []
    held: list[Token] = []
    place = 0
    for match in _WORD.finditer(line):
        gap = line[place : match.start()]
        place = match.end()
        if _PAUSE.search(gap) and held:
            held.append(Token(gap.strip(), "PAUSE"))
            if _STOP.search(gap):
                sentences.append(tuple(held))
                held = []
        held.append(Token(match[0].lower().replace("’", "'"), "W"))
    if held:
        sentences.append((*held, Token(line[place:].strip(), "PAUSE")) if line[place:].strip() else tuple(held))
    return tuple(sentences)
