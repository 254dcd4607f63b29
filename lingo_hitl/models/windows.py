"""How a text that is longer than a model's context is read: in windows, each token scored once."""

from __future__ import annotations

from dataclasses import dataclass

KOQUALITY_TOKENS = 1024  # that KoQuality reads of a text
KOQUALITY_STRIDE = 256


@dataclass(frozen=True)
class Window:
    """A run of one text's tokens that the model sees at once; the first `seen` of them are context only."""

    text: int
    tokens: list[int]
    seen: int

    @property
    def scored(self) -> int:
        """How many of its tokens are scored; nothing precedes the first."""
        return len(self.tokens) - max(self.seen, 1)


def windows_of(text: int, tokens: list[int], context: int) -> list[Window]:
    """The windows in which `tokens` are read: one where they fit, else steps of half the context.

    >>> [(w.tokens, w.seen) for w in windows_of(0, [1, 2, 3, 4, 5], 4)]
    [([1, 2, 3, 4], 0), ([3, 4, 5], 2)]
    """
    if len(tokens) < 2:
        return []
    step = max(1, context // 2)
    windows, scored, start = [], 0, 0
    while scored < len(tokens):
        end = min(start + context, len(tokens))
        windows.append(Window(text, tokens[start:end], scored - start))
        scored, start = end, start + step
    return windows


def koquality_windows(text: int, tokens: list[int], context: int) -> list[Window]:
    """The windows of KoQuality's generate_perplexity.py (nayohan/KoQuality): steps of 256 tokens.

    Where the context is no longer than that, tokens without context in their window are never scored.

    >>> [(w.tokens[0], len(w.tokens), w.seen) for w in koquality_windows(0, list(range(600)), 400)]
    [(0, 400, 0), (256, 344, 144)]
    """
    if len(tokens) < 2:
        return []
    windows, end = [], 0
    for start in range(0, len(tokens), KOQUALITY_STRIDE):
        before, end = end, min(start + context, len(tokens))
        windows.append(Window(text, tokens[start:end], max(before - start, 0)))
        if end == len(tokens):
            break
    return windows
