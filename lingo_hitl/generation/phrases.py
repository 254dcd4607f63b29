"""`use_answer_prefix`: a persona's prefix opens the first answer, and its suffixes close the later ones.

A phrase is asked for in the prompt and made sure of afterwards. Asked for, because an answer that was written
towards its opening and its closing reads as one text; glued on alone, "Shall we start with how the body works?"
would stand before an answer that starts elsewhere. Made sure of, because models paraphrase what they are told
to say, or forget it in later turns, and a data set in which a phrase stands only now and then cannot be used
to teach it or to leave it out. A sentence that says nearly the same in that place gives way to the phrase, so
that nothing is said twice; a phrase that the model put elsewhere in the answer is left there.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterable
from functools import cache

from lingo_hitl.config import Language
from lingo_hitl.generation.personas import Persona

ALIKE = 0.7
"""From which similarity (difflib's ratio over letters) a sentence counts as a paraphrase of a phrase."""

_SENTENCE_START = re.compile(r"(?<=[.!?…。？！])[\"'”’)]*\s+|\s*\n\s*")
_BLOCK = re.compile(r"[-*•|>]|\d+[.)]\s|```")


def phrase_for(persona: Persona, language: Language, *, seed: str, turn: int) -> str | None:
    """The phrase of an answer: a prefix in the first turn, a suffix in all later ones; None where there is none.

    Drawn by a hash of the seed's id, the persona and the turn, so that a rerun, or the same seeds in another
    order, give the same. The suffixes of a dialogue differ until each was used once; then they come round, which
    `Persona.welcome` counts with.

    Args:
        turn: counted from 1.
    """
    phrases = persona.prefixes(language) if turn == 1 else persona.suffixes(language)
    if not phrases:
        return None
    if turn == 1:
        return min(phrases, key=lambda phrase: _draw(seed, persona.name, "prefix", phrase))
    places = sorted(range(len(phrases)), key=lambda place: _draw(seed, persona.name, "suffix", str(place)))
    return phrases[places[(turn - 2) % len(phrases)]]


def opened_with(text: str, phrase: str) -> str:
    """`text` with `phrase` as its beginning.

    >>> opened_with("That is a fun one! Stars are far.", "Now that is a fun one!")
    'Now that is a fun one! Stars are far.'
    """
    if spoken(phrase).search(text):
        return text
    text = text.strip()
    first = _SENTENCE_START.search(text)
    if _alike(text[: first.start()] if first else text, phrase):
        text = text[first.end() :] if first else ""
    return f"{phrase} {text}".rstrip()


def closed_with(text: str, phrase: str) -> str:
    """`text` with `phrase` as its end: on a line of its own where the text ends with a list, a table or code.

    >>> closed_with("Stars are far.", "What do you make of it?")
    'Stars are far. What do you make of it?'
    """
    if spoken(phrase).search(text):
        return text
    text = text.strip()
    last = max(_SENTENCE_START.finditer(text), key=lambda match: match.end(), default=None)
    if _alike(text[last.end() :] if last else text, phrase):
        text = text[: last.start()] if last else ""
    gap = "\n\n" if _BLOCK.match(text.rpartition("\n")[2].lstrip()) else " "
    return f"{text}{gap}{phrase}".lstrip()


def without(text: str, phrases: Iterable[str]) -> str:
    """What `text` says beside the phrases, for comparisons; all of it where it says nothing else.

    >>> without("Oh, good! Stars are far. Do ask again.", ["Oh, good!", "Do ask again."])
    'Stars are far.'
    """
    left = text
    for phrase in phrases:
        left = spoken(phrase).sub("\0", left)
    left = re.sub(r"(?:^|\s*)\0[^\w\s]*\s*", " ", left).strip()
    return left if any(map(str.isalnum, left)) else text


@cache
def spoken(phrase: str) -> re.Pattern[str]:
    """Finds a phrase in a text whatever its case, spacing and punctuation, but never inside another word."""
    letters = r"\W*".join(map(re.escape, filter(str.isalnum, phrase)))
    return re.compile(rf"(?<!\w){letters or re.escape(phrase)}(?!\w)", re.I)


def _draw(*parts: str) -> bytes:
    return hashlib.blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _alike(sentence: str, phrase: str) -> bool:
    one, other = _letters(sentence), _letters(phrase)
    # A long sentence that has the phrase's words in it says more than the phrase: it stays.
    if len(one) > 2 * len(other):
        return False
    return difflib.SequenceMatcher(None, one, other, autojunk=False).ratio() >= ALIKE


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text.casefold()))
