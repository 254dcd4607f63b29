"""The figures of a dialogue: what they are called, and whether they are beyond what the config allows."""

from __future__ import annotations

from collections.abc import Mapping

from lingo_hitl.config import QualityConfig

FIGURES = {
    "catchphrase_overuse": ("Catchphrase overuse", "입버릇 남용"),
    "shrinking": ("Shrinking", "짧아짐"),
    "copying": ("Copying", "베낌"),
    "speech_level_shift": ("Speech level shift", "말투 흔들림"),
}
"""By column, the name in English and in Korean. All from 0, which is good, to 1; null where nothing can be measured."""


def beyond(figures: Mapping[str, object], limits: QualityConfig) -> list[str]:
    """The figures of a dialogue that are above their limit."""
    found = []
    for name in FIGURES:
        figure, limit = figures.get(name), getattr(limits, name)
        if isinstance(figure, float) and limit is not None and figure > limit:
            found.append(name)
    return found


def excess(figures: Mapping[str, object], limits: QualityConfig) -> str | None:
    """Why a dialogue is dropped: what is above its limit, and in brackets by how much; None where nothing is."""
    found = beyond(figures, limits)
    told = ", ".join(f"{name.replace('_', ' ')} above {getattr(limits, name):g}" for name in found)
    return f"{told} ({', '.join(f'{figures[name]:.2f}' for name in found)})" if found else None
