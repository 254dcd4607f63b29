"""How likely a text is under a language model: its perplexity.

    packaged/kiwi             Kiwi's n-gram model; Korean; needs no hub
    transformers/<path or id> any causal language model, in float32

A causal model gives the log-likelihood of each token after those before it. A text's NLL is the mean
of their negatives over its tokens but the first, which nothing precedes; its perplexity is exp(NLL).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lingo_hitl.errors import UserError
from lingo_hitl.progress import progress

_LOGITS = 64_000_000  # tokens x vocabulary held at once: 256 MB in float32
_MOST_TOKENS = 8192  # in a batch, padding counted
_CHUNK = 4096  # texts tokenized at once


class Fluency(Protocol):
    """What `load_causal_lm` gives."""

    @property
    def name(self) -> str: ...

    def perplexity(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Perplexity of each text, float64 [n]; NaN where a text has nothing to predict."""
        ...


@dataclass(frozen=True)
class KiwiFluency:
    """Kiwi's own model; see `kiwi.perplexity`."""

    name: str = "packaged/kiwi"

    def perplexity(self, texts: Sequence[str]) -> NDArray[np.float64]:
        from lingo_hitl.models.kiwi import perplexity

        return perplexity(texts)


@dataclass(frozen=True)
class Window:
    """A run of one text's tokens that the model sees at once; the first `seen` of them are context only."""

    text: int
    tokens: list[int]
    seen: int


@dataclass(frozen=True)
class CausalLM:
    """A causal language model with its tokenizer; `context` is the most tokens it can see at once."""

    name: str
    model: Any
    tokenizer: Any
    context: int

    def perplexity(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """exp(NLL) of each text, float64 [n]; NaN for texts of one token or none."""
        return np.exp(self.nll(texts))

    def nll(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Mean negative log-likelihood (natural) of each text's tokens but the first, float64 [n].

        A text longer than the context is read in windows that overlap by half, each token being scored
        once, and each counting the same. Identical texts are computed once, and batches are formed from
        the texts sorted by length: the order of `texts` never matters. NaN for texts of one token or none.
        """
        distinct = sorted(set(texts), key=lambda text: (len(text), text))
        tokens = self._tokens(distinct)
        windows = [w for i, ids in enumerate(tokens) for w in windows_of(i, ids, self.context)]
        windows.sort(key=lambda w: (len(w.tokens), w.text), reverse=True)
        total, count = np.zeros(len(distinct)), np.zeros(len(distinct))
        with progress("perplexity", len(windows)) as advance:
            for batch in self._batches(windows):
                for window, loss in zip(batch, self._losses(batch), strict=True):
                    total[window.text] += loss
                    count[window.text] += len(window.tokens) - max(window.seen, 1)
                advance(len(batch))
        means = np.divide(total, count, out=np.full(len(distinct), np.nan), where=count > 0)
        place = {text: i for i, text in enumerate(distinct)}
        return means[[place[text] for text in texts]]

    def _tokens(self, texts: list[str]) -> list[list[int]]:
        # Tokenizers take UTF-8 only, in which a lone surrogate cannot be written.
        clean = [text.encode("utf-8", "replace").decode() for text in texts]
        ids: list[list[int]] = []
        for start in range(0, len(clean), _CHUNK):
            ids += self.tokenizer(clean[start : start + _CHUNK], verbose=False)["input_ids"]
        return ids

    def _batches(self, windows: list[Window]) -> Iterator[list[Window]]:
        """Windows in order, longest first, as many as the budget of padded tokens allows."""
        vocabulary = int(self.model.config.get_text_config().vocab_size)
        budget = min(_MOST_TOKENS, _LOGITS // vocabulary)
        start = 0
        while start < len(windows):
            size = max(1, budget // len(windows[start].tokens))
            yield windows[start : start + size]
            start += size

    def _losses(self, batch: list[Window]) -> list[float]:
        """Summed negative log-likelihood of each window's scored tokens."""
        import torch

        width = len(batch[0].tokens)
        ids = torch.zeros((len(batch), width), dtype=torch.long)
        mask = torch.zeros_like(ids)
        scored = torch.zeros((len(batch), width), dtype=torch.bool)
        for row, window in enumerate(batch):
            ids[row, : len(window.tokens)] = torch.tensor(window.tokens)
            mask[row, : len(window.tokens)] = 1
            scored[row, max(window.seen, 1) : len(window.tokens)] = True
        ids, mask, scored = (t.to(self.model.device) for t in (ids, mask, scored))
        with torch.inference_mode():
            logits = self.model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1].float()
            losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
            sums = (losses * scored[:, 1:]).double().sum(dim=1)
        return [float(value) for value in sums.cpu()]


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


def load_causal_lm(spec: str, *, device: str | None = None) -> Fluency:
    """The language model that `spec` names, on `device` (a GPU where there is one; Kiwi runs on the CPU).

    Raises:
        UserError: an unknown spec, a folder or hub id that cannot be loaded, an unknown device.
    """
    provider, _, source = spec.partition("/")
    if spec == "packaged/kiwi":
        return KiwiFluency()
    if provider == "transformers" and source:
        return _load(spec, source, device)
    raise UserError(
        f"perplexity model '{spec}' is not known. Expected packaged/kiwi or transformers/<path or hub id>; "
        "check map.perplexity."
    )


def _load(spec: str, source: str, device: str | None) -> CausalLM:
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError:
        raise UserError(f"{spec}: needs torch and transformers. Run `pip install 'lingo-hitl[local]'`.") from None
    from lingo_hitl.models.weights import context_of, model_folder, quiet_transformers

    path = model_folder(source)
    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(path)
            model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
        model = model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()
    except (OSError, ValueError, RuntimeError, ImportError, AssertionError) as error:
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserError(
            f"{spec}: cannot be loaded ({first[:300]}). "
            "Expected a folder saved by transformers, or a hub id that this machine can reach."
        ) from error
    return CausalLM(spec, model, tokenizer, context_of(model, tokenizer))
