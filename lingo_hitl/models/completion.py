"""What a model said, and the key under which that is kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Message = Mapping[str, str]
"""`role` ("system", "user" or "assistant") and `content`."""


@dataclass(frozen=True)
class Completion:
    """What a model said, or why it said nothing.

    `finish` is "stop" or "length" (cut at max_new_tokens) where there is a text; where `text` is None it
    is the reason in words. `lasting` is False for a reason that another try may not meet, such as a
    server error: those are not kept in the journal.
    """

    text: str | None
    finish: str = "stop"
    note: str | None = None  # e.g. that the prompt was cut to fit
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    cost: float | None = None  # in the currency of the price table; None: no price is known
    lasting: bool = True

    @classmethod
    def failed(cls, reason: str, *, lasting: bool = False, seconds: float = 0.0) -> Completion:
        return cls(None, reason, seconds=seconds, lasting=lasting)


def completion_key(model: str, messages: Sequence[Message], parameters: Mapping[str, Any], sample: int) -> bytes:
    """32 bytes that stand for one question to one model; `sample` numbers the answers to the same question."""
    asked = [model, [[m["role"], m["content"]] for m in messages], dict(parameters), sample]
    text = json.dumps(asked, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=32).digest()
