"""A dialogue as Lingo_Chat writes it: one line of its JSONL files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lingo_hitl.lingo_chat.day_files import Line
from lingo_hitl.lingo_chat.post_processing import cleaned


def dialogue_line(row: Mapping[str, Any], score: float | None, feedback: str | None, url: str | None) -> Line:
    """The line of a dialogue: a row with `messages` and `persona`.

    Paragraphs of an answer are what blank lines part, words what single spaces part, as its users count them.
    """
    messages = [{"role": message["role"], "content": message["content"]} for message in row["messages"]]
    answers = [message["content"] for message in messages if message["role"] == "assistant"]
    return {
        "instruction": messages[0]["content"],
        "ans_num_paragraphs": [len(answer.split("\n\n")) for answer in answers],
        "ans_num_words": [len(answer.split(" ")) for answer in answers],
        "num_turns": len(answers),
        "messages": messages,
        "url": url,
        "persona": row["persona"],
        "score": score,
        "score_feedback": feedback,
    }


def post_processed(line: Line) -> Line:
    """The line with its answers cleaned, and counted anew."""
    messages: list[dict[str, str]] = []
    for message in line["messages"]:
        said = message["content"]
        if message["role"] == "assistant":
            said = cleaned(said, messages[-1]["content"])
        messages.append({"role": message["role"], "content": said})
    return dialogue_line({**line, "messages": messages}, line["score"], line["score_feedback"], line["url"])
