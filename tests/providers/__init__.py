"""Loopback providers: servers that speak Gemini's and OpenAI's wire protocols, with faults, quotas and latency.

with running() as provider:              answers every question; provider.calls says what was asked
with serving(script) as provider:        a function of the test's says what each model answers
python -m tests.providers --help         the same as a process of its own, for benchmarks
"""

from tests.providers.brain import speak
from tests.providers.conditions import LASTING, PASSING, Faults, Latency, Quotas
from tests.providers.provider import Provider, Script, running, serving
from tests.providers.wire import (
    RESET,
    Call,
    Messages,
    Reply,
    gemini_blocked,
    gemini_error,
    gemini_text,
    openai_error,
    openai_text,
    over_limit,
)

__all__ = [
    "LASTING",
    "PASSING",
    "RESET",
    "Call",
    "Faults",
    "Latency",
    "Messages",
    "Provider",
    "Quotas",
    "Reply",
    "Script",
    "gemini_blocked",
    "gemini_error",
    "gemini_text",
    "openai_error",
    "openai_text",
    "over_limit",
    "running",
    "serving",
    "speak",
]
