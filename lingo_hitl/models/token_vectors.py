"""Encoders from the transformers and sentence-transformers libraries, as `bulk.TextModel`s."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from functools import cached_property
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lingo_hitl.config import Pooling
from lingo_hitl.errors import UserError
from lingo_hitl.models.batches import ENOUGH_ON_CPU, alike, budget_of, encodable, padded
from lingo_hitl.models.weights import context_of, loading

if TYPE_CHECKING:
    from lingo_hitl.models.encoder import VectorModel

Vectors = NDArray[np.float32]

_LONGEST = 512  # tokens, where neither the model nor its tokenizer says how many it takes


@dataclass(frozen=True)
class PlainEncoder:
    """An encoder of transformers with its tokenizer; texts lose what is beyond `context` tokens."""

    source: VectorModel
    path: str
    device: str
    config: Any
    tokenizer: Any
    context: int

    @classmethod
    def open(cls, source: VectorModel, path: str, device: str) -> PlainEncoder:
        """The encoder that lies in a folder or on the hub under `path`."""
        import torch
        from transformers import AutoConfig, AutoModel, AutoTokenizer

        with loading(source.spec, device):
            config: Any = AutoConfig.from_pretrained(path)
            tokenizer = AutoTokenizer.from_pretrained(path)
            with torch.device("meta"):
                skeleton = AutoModel.from_config(config)
            torch.device(device)
        # RoBERTa and its kin number positions from the padding's own on: of their 514 only 512 can be used.
        places = [m.padding_idx for name, m in skeleton.named_modules() if name.endswith("position_embeddings")]
        first = max((place + 1 for place in places if place is not None), default=0)
        limits = SimpleNamespace(model_max_length=source.most_tokens) if source.most_tokens else tokenizer
        return cls(source, path, device, config, tokenizer, context_of(config, limits, taken=first, otherwise=_LONGEST))

    @property
    def width(self) -> int:
        return int(self.config.get_text_config().hidden_size)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float32)

    @property
    def budget(self) -> int:
        return budget_of(self.device, self.width)

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text, those included that the tokenizer adds by itself, e.g. [CLS] and [SEP]."""
        clean = [encodable(text) for text in texts]
        asked = {"return_attention_mask": False, "return_token_type_ids": False, "verbose": False}
        return list(self.tokenizer(clean, truncation=True, max_length=self.context, **asked)["input_ids"])

    def size(self, item: list[int]) -> int:
        return len(item)

    def compute(self, items: list[list[int]]) -> Vectors:
        """The vector of each list of token ids, float32 [n, d]; zeros where there is no token."""
        import torch

        vectors = np.zeros((len(items), self.width), np.float32)
        some = [n for n, tokens in enumerate(items) if tokens]
        enough = ENOUGH_ON_CPU if self.device == "cpu" else self.budget
        with torch.inference_mode():
            for group in alike([len(items[n]) for n in some], enough=enough, most=self.budget):
                places = [some[n] for n in group]
                vectors[places] = self._group([items[n] for n in places])
        return vectors

    def _group(self, items: list[list[int]]) -> Vectors:
        import torch

        network, pooling = self._network
        ids = torch.from_numpy(padded(items, self.tokenizer.pad_token_id or 0)).to(self.device)
        lengths = torch.tensor([len(tokens) for tokens in items], device=self.device)
        mask = (torch.arange(ids.shape[1], device=self.device) < lengths[:, None]).long()
        # Without a mask attention is computed faster, and texts of one length need none.
        output = network(input_ids=ids, attention_mask=None if len({*map(len, items)}) == 1 else mask)
        if pooling == "pooler":
            vectors = output.pooler_output.float()
        elif pooling == "cls":
            vectors = output.last_hidden_state[:, 0].float()
        else:
            vectors = (output.last_hidden_state.float() * mask[:, :, None]).sum(dim=1) / lengths[:, None]
        return np.asarray(vectors.cpu())

    @cached_property
    def _network(self) -> tuple[Any, Pooling]:
        """The network on its device, and how it is pooled; read when first asked for."""
        import torch
        from transformers import AutoModel

        from lingo_hitl.models.packed import pack

        spec, pooling = self.source.spec, self.source.pooling
        with loading(spec, self.device):
            network, info = AutoModel.from_pretrained(
                self.path, dtype=getattr(torch, self.source.dtype), output_loading_info=True
            )
            network = (network.get_encoder() if self.config.is_encoder_decoder else network).to(self.device).eval()
        absent = {name for name in info["missing_keys"] if name.startswith("pooler.")}
        if untrained := sorted(info["missing_keys"] - absent):
            raise UserError(
                f"{spec}: the checkpoint has no weights for {', '.join(untrained[:3])}. Expected a whole encoder."
            )
        has_pooler = getattr(network, "pooler", None) is not None and not absent
        if pooling == "pooler" and not has_pooler:
            raise UserError(
                f"{spec}: the checkpoint has no trained pooler. Expected one for pooling 'pooler'; "
                "use mean or cls, or auto, which takes the mean here."
            )
        probe = torch.tensor([[1, 2, 3, 4]], device=self.device)
        pack(network, lambda: network(input_ids=probe).last_hidden_state)
        return network, pooling if pooling != "auto" else "pooler" if has_pooler else "mean"


class Sized(NamedTuple):
    """A text, and how many tokens a model sees of it."""

    text: str
    tokens: int


@dataclass(frozen=True)
class SettledEncoder:
    """An encoder that comes with sentence-transformers' settings: pooling, prompts, layers on top."""

    source: VectorModel
    path: str
    device: str
    # `encode` may run beside `compute`, and a tokenizer refuses two threads at once.
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    @cached_property
    def width(self) -> int:
        return int(self._network.encode(["width"], show_progress_bar=False).shape[1])

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float32)

    @property
    def budget(self) -> int:
        return budget_of(self.device, self.width)

    def encode(self, texts: list[str]) -> list[Sized]:
        clean = [encodable(text) for text in texts]
        tokenizer, most = self._network.tokenizer, self._network.max_seq_length or _LONGEST
        # Some have no tokenizer of transformers; then characters tell which texts are alike.
        with self.lock:
            counts = (
                [len(ids) for ids in tokenizer(clean, verbose=False)["input_ids"]]
                if callable(tokenizer)
                else [*map(len, clean)]
            )
        return [Sized(text, min(count, most)) for text, count in zip(clean, counts, strict=True)]

    def size(self, item: Sized) -> int:
        return item.tokens

    def compute(self, items: list[Sized]) -> Vectors:
        """The vector of each text, float32 [n, d]."""
        vectors = np.zeros((len(items), self.width), np.float32)
        enough = ENOUGH_ON_CPU if self.device == "cpu" else self.budget
        for group in alike([item.tokens for item in items], enough=enough, most=self.budget):
            texts = [items[n].text for n in group]
            with self.lock:
                vectors[group] = self._network.encode(texts, batch_size=len(texts), show_progress_bar=False)
        return vectors

    @cached_property
    def _network(self) -> Any:
        import torch

        try:
            from sentence_transformers import SentenceTransformer
        except ImportError:
            raise UserError(
                f"{self.source.spec}: needs sentence-transformers. Run `pip install 'lingo-hitl[local]'`."
            ) from None
        from lingo_hitl.models.packed import pack

        with loading(self.source.spec, self.device):
            dtype = getattr(torch, self.source.dtype)
            network = SentenceTransformer(self.path, device=self.device, model_kwargs={"dtype": dtype})
        pack(network, lambda: network.encode(["ready"], convert_to_tensor=True, show_progress_bar=False))
        return network
