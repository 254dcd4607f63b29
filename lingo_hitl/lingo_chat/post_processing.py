"""What is taken out of an answer before it goes into the filtered file.

Lingo_Chat deletes every `#`, `<`, `>` and `주제: `, up to two double quotes, and the question wherever the
answer has it, and makes two of each line break. In a text about C#, `a < b`, hash tags or a book's title that is
damage, so here only what a model leaves at the edges goes: see `cleaned`.
"""

from __future__ import annotations

import re

_TOPIC = re.compile(r"\A\s*(?:#{1,6}[ \t]+)?(?:<\s*)?주제\s*[:：][ \t]*([^\n>]*)>?[ \t]*\n+")
_TOPIC_WORD = re.compile(r"\A\s*(?:#{1,6}[ \t]+)?주제\s*[:：]\s*")
_HEADING = re.compile(r"^[ ]{0,3}#{1,6}[ \t]+", re.M)
_BLANK_LINES = re.compile(r"\n[ \t]*(?:\n[ \t]*){2,}")
_INCHES = re.compile(r'\d"$')
_SENTENCE_GOES_ON = re.compile(r"[ \t]*(?:이?라고|이?라는|이?란|하고)")
_CODE = re.compile(r"(^[ ]{0,3}```.*?(?:^[ ]{0,3}```[ \t]*$|\Z))", re.M | re.S)


def cleaned(answer: str, question: str) -> str:
    """The answer without what does not belong to it; as it is where nothing would be left.

    Goes: the question repeated at the beginning, a first line `주제: ...` or that label, the marks of headings,
    a single double quote at either end that has no other, more than one blank line. Code between ``` stays.
    """
    text = _without_echo(answer.strip(), question.strip())
    text = _TOPIC_WORD.sub("", _TOPIC.sub("", text))
    parts = _CODE.split(text)
    # The odd parts are code: there a # is a comment and blank lines are meant.
    parts[::2] = [_BLANK_LINES.sub("\n\n", _HEADING.sub("", part)) for part in parts[::2]]
    text = "".join(parts).strip()
    if text.count('"') == 1 and not _INCHES.search(text):
        text = text.strip('"').strip()
    return text or answer


def _without_echo(answer: str, question: str) -> str:
    """The answer without the question before it, unless the question is the beginning of a sentence."""
    rest = answer.removeprefix(question)
    if not question or rest == answer or _SENTENCE_GOES_ON.match(rest):
        return answer
    ended = question[-1] in "?!.…？！。" and rest[:1].isspace()
    return rest.lstrip(" \t\n:：-") if ended or rest[:1] in ("\n", ":", "：") else answer
