"""The sampling of the original KoQuality, its rounding and its losses included (nayohan/KoQuality @59bdf7a,
proceed_sampling_dataset.py). Both functions look at one cluster and give positions in it.

The original leaves ties to numpy's quicksort; here they are broken by the rest of the key.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from lingo_hitl.curation.koquality import Key


def sample_ppl(keys: Sequence[Key], ratio: float) -> list[int]:
    """Every floor(1/ratio)-th member along ascending perplexity, from the lowest: ceil(members / step) of them."""
    return sorted(range(len(keys)), key=lambda i: keys[i])[:: math.floor(1 / ratio)]


def sample_ppl_h(keys: Sequence[Key], texts: Sequence[str], ratio: float) -> list[int]:
    """The floor(ratio x members) members of highest perplexity, the same text once.

    The number is taken before repeated texts are left out, as the original does.
    """
    first: dict[str, int] = {}
    for i in sorted(range(len(keys)), key=lambda i: (-keys[i][0], *keys[i][1:])):
        first.setdefault(texts[i], i)
    return list(first.values())[: math.floor(ratio * len(keys))]
