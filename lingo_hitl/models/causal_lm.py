"""How likely a text is under a language model: its perplexity.

    packaged/kiwi             Kiwi's n-gram model; Korean; needs no hub
    transformers/<path or id> any causal language model; a path or a hub id with a slash may stand alone

A causal model gives the log-likelihood of each token after those before it. A text's NLL is the mean
of their negatives over its tokens but the first, which nothing precedes; its perplexity is exp(NLL).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from lingo_hitl.config import DType
from lingo_hitl.errors import UserError
from lingo_hitl.models.batches import ENOUGH_ON_CPU, alike, budget_of, compute_here, encodable, padded
from lingo_hitl.models.bulk import TextModel
from lingo_hitl.models.weights import context_of, device_of, files_of, loading, model_folder, need_torch, source_of
from lingo_hitl.models.windows import KOQUALITY_TOKENS, Window, koquality_windows, windows_of

Windows = Literal["weighted", "koquality"]

_LOGITS = 64_000_000  # tokens x vocabulary held at once where a model gives no less: 256 MB in float32
_HEAD_ROWS_ON_CPU = 256  # of logits computed at once: fewer make a slow matrix product, more leave the cache
_LOGITS_ON_GPU = 2**27
_LOSS_ROWS_ON_CPU = 16  # of logits whose softmax is taken at once, in the innermost cache

Floats = NDArray[np.float64]


class Fluency(TextModel, Protocol):
    """A model whose numbers are a text's mean NLL in nats (NaN with nothing to predict) and how many tokens it has."""

    @property
    def name(self) -> str: ...

    def perplexity(self, texts: Sequence[str]) -> Floats:
        """Perplexity of each text, float64 [n]; NaN where a text has nothing to predict."""
        ...


@dataclass(frozen=True)
class PerplexityModel:
    """Which language model, and how it is to read; the model itself comes with `load`.

    Attributes:
        spec: see the head of this file.
        dtype: of the weights and of what is computed with them; the loss is float32, its mean float64.
        device: "cpu", "cuda", "cuda:1"; absent a GPU where there is one. Kiwi runs on the CPU.
        windows: how a text is read that is longer than the context. "weighted": as `windows_of` says, each
            token counting the same. "koquality": the first 1,024 tokens as `koquality_windows` says, each
            window counting the same, however few tokens it scores. Kiwi reads any text whole.
    """

    spec: str
    dtype: DType = "float32"
    device: str | None = None
    windows: Windows = "weighted"

    def load(self) -> Fluency:
        """The model; its weights are read when something is first computed.

        Raises:
            UserError: an unknown spec, a folder or hub id that cannot be loaded, an unknown device.
        """
        if self.spec == "packaged/kiwi":
            from lingo_hitl.models.kiwi import KiwiFluency

            return KiwiFluency()
        return CausalLM.open(self, self._source)

    def on(self, device: str) -> PerplexityModel:
        return replace(self, device=device)

    @property
    def identity(self) -> dict[str, Any]:
        """What its numbers depend on; a folder's files by size and time, not by content."""
        about = {name: value for name, value in asdict(self).items() if name != "device"}
        return about if self.spec == "packaged/kiwi" else {**about, "files": files_of(self._source)}

    @property
    def _source(self) -> str:
        source = source_of(self.spec)
        if source is None:
            raise UserError(
                f"perplexity model '{self.spec}' is not known. Expected packaged/kiwi, transformers/<path or hub id>, "
                "a folder, or a hub id such as EleutherAI/polyglot-ko-1.3b; check map.perplexity or --perplexity-model."
            )
        return source


@dataclass(frozen=True)
class CausalLM:
    """A causal language model with its tokenizer; `context` is the most tokens it can see at once."""

    name: str
    path: str
    config: Any
    tokenizer: Any
    context: int
    dtype_name: DType
    device: str
    windows: Windows

    @classmethod
    def open(cls, model: PerplexityModel, source: str) -> CausalLM:
        """The model that lies in a folder or on the hub under `source`."""
        need_torch(model.spec)
        import torch
        from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, AutoTokenizer

        path, device = model_folder(source), device_of(model.device)
        with loading(model.spec, device):
            config: Any = AutoConfig.from_pretrained(path)
            tokenizer = AutoTokenizer.from_pretrained(path)
            torch.device(device)
        if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
            raise _not_causal(model.spec, f"its type is {config.model_type}")
        context = context_of(config, tokenizer)
        if model.windows == "koquality":
            context = getattr(config.get_text_config(), "max_position_embeddings", None) or context
        return cls(model.spec, path, config, tokenizer, context, model.dtype, device, model.windows)

    @property
    def width(self) -> int:
        return 2

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float64)

    @property
    def budget(self) -> int:
        return budget_of(self.device, self.config.get_text_config().hidden_size)

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text, those included that the tokenizer adds by itself."""
        clean = [encodable(text) for text in texts]
        ids = self.tokenizer(clean, return_attention_mask=False, return_token_type_ids=False, verbose=False)
        most = KOQUALITY_TOKENS if self.windows == "koquality" else None
        return [tokens[:most] for tokens in ids["input_ids"]]

    def size(self, item: list[int]) -> int:
        return len(item)

    def compute(self, items: list[list[int]]) -> Floats:
        """Mean NLL (NaN for one token or none) and number of tokens of each list of ids, float64 [n, 2]."""
        split = windows_of if self.windows == "weighted" else koquality_windows
        windows = [window for n, tokens in enumerate(items) for window in split(n, tokens, self.context)]
        sums = self._sums(windows)
        scored = np.array([window.scored for window in windows], dtype=np.float64)
        text = np.array([window.text for window in windows], dtype=np.int64)
        if self.windows == "koquality":
            sums, scored = np.divide(sums, scored, out=np.full_like(sums, np.nan), where=scored > 0), np.ones_like(sums)
        total, count = (np.bincount(text, values, len(items)) for values in (sums, scored))
        means = np.divide(total, count, out=np.full(len(items), np.nan), where=count > 0)
        return np.stack([means, [len(tokens) for tokens in items]], axis=1)

    def perplexity(self, texts: Sequence[str]) -> Floats:
        """exp(NLL) of each text, float64 [n]; NaN for texts of one token or none."""
        return np.exp(self.nll(texts))

    def nll(self, texts: Sequence[str]) -> Floats:
        """Mean negative log-likelihood (natural) of each text's tokens but the first, float64 [n].

        Identical texts are computed once, and the order of `texts` never matters. NaN for texts of one
        token or none.
        """
        return compute_here(self, texts, "perplexity")[:, 0]

    @cached_property
    def model(self) -> Any:
        """The network on its device, read when first asked for.

        Raises:
            UserError: it cannot be loaded, some of its weights were never trained, or it looks ahead.
        """
        import torch
        from transformers import AutoModelForCausalLM

        from lingo_hitl.models.packed import pack

        with loading(self.name, self.device):
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                self.path, dtype=getattr(torch, self.dtype_name), output_loading_info=True
            )
            model, info = loaded[0].to(self.device).eval(), loaded[1]
        if missing := sorted(info["missing_keys"]):
            raise _not_causal(self.name, f"the folder has no weights for {', '.join(missing[:3])}")
        probe = torch.tensor([[1, 2, 3, 4], [1, 2, 3, 5]], device=self.device)
        with torch.inference_mode():
            first, second = model(input_ids=probe, use_cache=False).logits[:, :3].float()
        if not torch.allclose(first, second, atol=1e-2 * float(first.abs().max())):
            raise _not_causal(self.name, "what it says of a token depends on those after it")
        pack(model, lambda: model(input_ids=probe, use_cache=False).logits)
        return model

    @cached_property
    def _head(self) -> Any:
        """The module that turns last hidden states into logits, or None where that is not all a model does.

        Some scale their logits, cap them or shift them; so one small input is computed both ways.
        """
        import torch

        head = self.model.get_output_embeddings()
        if head is None or self.model.base_model is self.model:
            return None
        probe = torch.tensor([[1, 2, 3, 4]], device=self.device)
        with torch.inference_mode():
            states = getattr(self.model.base_model(input_ids=probe, use_cache=False), "last_hidden_state", None)
            if states is None or not torch.equal(head(states), self.model(input_ids=probe, use_cache=False).logits):
                return None
        return head

    def _sums(self, windows: list[Window]) -> Floats:
        """Summed negative log-likelihood of each window's scored tokens, float64 [n]."""
        import torch

        sums = np.zeros(len(windows))
        most = self.budget if self._head else _LOGITS // self.config.get_text_config().vocab_size
        enough = ENOUGH_ON_CPU if self.device == "cpu" else most
        some = [n for n, window in enumerate(windows) if window.scored > 0]
        with torch.inference_mode():
            for group in alike([len(windows[n].tokens) for n in some], enough=enough, most=most):
                places = [some[n] for n in group]
                sums[places] = self._group([windows[n] for n in places])
        return sums

    def _group(self, windows: list[Window]) -> Floats:
        """`_sums` in one forward pass.

        The last token predicts nothing, so it is left out; those after a shorter window are seen by none
        of its tokens, so no attention mask is needed; and the head, much of a small model's arithmetic,
        is computed only where a scored token is predicted.
        """
        import torch

        ids = padded([window.tokens for window in windows])
        first = np.array([[max(window.seen, 1)] for window in windows])
        end = np.array([[len(window.tokens)] for window in windows])
        place = np.arange(1, ids.shape[1])
        scored = torch.from_numpy((first <= place) & (place < end)).to(self.device)
        tokens = torch.from_numpy(ids).to(self.device)
        network = self.model.base_model if self._head else self.model
        output = network(input_ids=tokens[:, :-1], use_cache=False)
        states = (output.last_hidden_state if self._head else output.logits)[scored]
        losses = torch.zeros(scored.shape, dtype=torch.float64, device=self.device)
        losses[scored] = self._losses(states, tokens[:, 1:][scored]).double()
        return np.asarray(losses.sum(dim=1).cpu())

    def _losses(self, states: Any, targets: Any) -> Any:
        """Cross-entropy of each target, float32 [n]; `states` [n, hidden size], or logits where there is no head."""
        import torch

        cpu = self.device == "cpu"
        vocabulary = self.config.get_text_config().vocab_size
        blocks = math.ceil(len(targets) / (_HEAD_ROWS_ON_CPU if cpu else max(64, _LOGITS_ON_GPU // vocabulary)))
        losses = []
        for block, wanted in zip(states.tensor_split(blocks), targets.tensor_split(blocks), strict=True):
            logits = (self._head(block) if self._head else block).float()
            rows = _LOSS_ROWS_ON_CPU if cpu else len(logits)
            for piece, target in zip(logits.split(rows), wanted.split(rows), strict=True):
                losses.append(torch.nn.functional.cross_entropy(piece, target, reduction="none"))
        return torch.cat(losses)


def load_causal_lm(spec: str, *, dtype: DType = "float32", device: str | None = None) -> Fluency:
    """The language model that `spec` names, ready to compute; see `PerplexityModel`.

    Raises:
        UserError: an unknown spec, a folder or hub id that cannot be loaded, an unknown device.
    """
    loaded = PerplexityModel(spec, dtype, device).load()
    if isinstance(loaded, CausalLM):
        _ = loaded.model
    return loaded


def _not_causal(spec: str, seen: str) -> UserError:
    return UserError(
        f"{spec}: not a causal language model ({seen}). Expected a checkpoint such as GPT-NeoX's or Llama's "
        "with its language-modelling head."
    )
