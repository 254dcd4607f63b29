"""What a record's text is found by: its tokens, in the order and form in which FTS5's `ascii` tokenizer keeps them.

Korean, Chinese and Japanese are matched by substring: a run of such characters is indexed as overlapping pairs plus
its last character, so that 한국 is found in 한국의 and 별 in 별은. Other scripts are matched by whole words. Each field
has two columns: one holds its text as it is spaced, the other the same with the spaces between Korean words taken
out, so that 한국어교육정책 is found in 한국어 교육 정책.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from itertools import pairwise

BREAK = "\u00b6"
"""Put between texts that no phrase may span, such as two messages; nobody can search for it."""
_CJK = (
    "\u1100-\u11ff\u3005-\u3007\u3041-\u30ff\u3130-\u318f\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff"
)
_EMOJI = "\u2600-\u27bf\U0001f000-\U0001faff"
_CHUNKS = re.compile(rf"(?:[^\W_]|[{_CJK}])+|[{_EMOJI}]|{BREAK}")
"""What lies between spaces and punctuation."""
_RUNS = re.compile(rf"[{_CJK}]+|[^{_CJK}]+")
"""A chunk such as GPT모델은 is a run of one script after another."""
_SPACED = re.compile(rf"([{_CJK}])\s+(?=[{_CJK}])")
_IS_CJK = re.compile(f"[{_CJK}]")
_INNER = re.compile("[.,:;_'\u2019\u00b7]")
"""Punctuation that keeps 3.14, don't and snake_case together, as Unicode's word boundaries do."""


def normalize(text: str) -> str:
    """One form for what reads the same: composed Hangul, half width, lower case."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def index_tokens(text: str) -> str:
    """The tokens of a text in their order, space-separated, as the FTS5 `ascii` tokenizer takes them apart again."""
    return _tokens(normalize(text))


def joined_tokens(text: str) -> str:
    """The same with the spaces between Korean words taken out; empty where there are none to take out."""
    normal = normalize(text)
    if normal.isascii():
        return ""
    joined, count = _SPACED.subn(r"\1", normal)
    return _tokens(joined) if count else ""


def chunks(text: str) -> list[str]:
    """What lies between the spaces and the punctuation of a text, normalized."""
    return [chunk for chunk in _CHUNKS.findall(normalize(text)) if chunk != BREAK]


def word_groups(word: str) -> list[list[str]]:
    """The chunks of a word; those that only a dot or an apostrophe parts (3.14, don't) in one group."""
    groups: list[list[str]] = []
    normal = normalize(word)
    end = None
    for found in _CHUNKS.finditer(normal):
        if found.group() == BREAK:
            continue
        if end is not None and found.start() - end == 1 and _INNER.match(normal[end : found.start()]):
            groups[-1].append(found.group())
        else:
            groups.append([found.group()])
        end = found.end()
    return groups


def without_spaces(text: str) -> str:
    """The text, normalized, with the spaces between Korean words taken out."""
    return _SPACED.sub(r"\1", normalize(text))


def query_tokens(chunk: str, *, last: bool) -> tuple[list[str], bool]:
    """A searched chunk's tokens, and whether the last of them is only the beginning of an indexed one.

    The `last` chunk of a phrase may go on in the text: 한국 is to be found in 한국의.
    """
    tokens: list[str] = []
    runs = _RUNS.findall(chunk)
    for position, run in enumerate(runs):
        ends = last and position == len(runs) - 1
        if not _is_cjk(run):
            tokens.append(run)
        elif not ends:
            tokens += [*_pairs(run), run[-1]]
        elif len(run) == 1:
            return [*tokens, run], True
        else:
            tokens += _pairs(run)
    return tokens, False


def has_cjk(text: str) -> bool:
    """Whether some of the text is Korean, Chinese or Japanese."""
    return _IS_CJK.search(text) is not None


def is_cjk(chunk: str) -> bool:
    """Whether all of a chunk is."""
    return len(_RUNS.findall(chunk)) == 1 and _is_cjk(chunk)


def _tokens(normal: str) -> str:
    tokens: list[str] = []
    for chunk in _CHUNKS.findall(normal):
        if chunk.isascii():
            tokens.append(chunk)
            continue
        for run in _RUNS.findall(chunk):
            if _is_cjk(run):
                tokens.extend(_pairs(run))
                tokens.append(run[-1])
            else:
                tokens.append(run)
    return " ".join(tokens)


def _is_cjk(text: str) -> bool:
    return _IS_CJK.match(text) is not None


@lru_cache(maxsize=4096)
def _pairs(run: str) -> tuple[str, ...]:
    return tuple(first + second for first, second in pairwise(run))
