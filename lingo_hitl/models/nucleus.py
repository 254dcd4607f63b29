"""Drawing the next token of each row with random numbers of the row's own."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from transformers import LogitsProcessor

from lingo_hitl.models.chat import Sampling

_CANDIDATES = 1024  # looked at first; sorting a whole vocabulary at each step costs more than the model


class DrawPerRow(LogitsProcessor):
    """Temperature, top-k and nucleus sampling (Holtzman et al., 2020) that does not look at other rows.

    Each row has a random stream of its own, so what it draws does not depend on which rows are beside it.
    Used with greedy decoding: of each row only the drawn token is left.
    """

    def __init__(self, sampling: Sampling, streams: Sequence[random.Random]) -> None:
        self.sampling = sampling
        self.streams = streams

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """`scores` [rows, vocabulary] with every token but the drawn one at minus infinity."""
        logits = scores.float() / self.sampling.temperature
        vocabulary = logits.shape[-1]
        top, ids = logits.topk(min(self.sampling.top_k or _CANDIDATES, vocabulary))
        # Shares of the whole vocabulary, or with top_k of the k tokens alone.
        whole = top if self.sampling.top_k else logits
        shares = (top - whole.logsumexp(-1, keepdim=True)).exp()
        if not self.sampling.top_k and bool((shares.sum(-1) < self.sampling.top_p).any()):
            shares, ids = logits.softmax(-1).sort(descending=True)
        before = shares.cumsum(-1) - shares
        shares = torch.where(before < self.sampling.top_p, shares, 0.0)
        reached = shares.cumsum(-1)
        points = torch.tensor([[stream.random()] for stream in self.streams], device=logits.device)
        last = (shares > 0).sum(-1, keepdim=True) - 1
        drawn = torch.minimum((reached <= points * reached[:, -1:]).sum(-1, keepdim=True), last)
        alone = torch.full_like(scores, float("-inf"))
        return alone.scatter(-1, ids.gather(-1, drawn), 0.0)  # type: ignore[return-value]
