"""The least that a transformer's forward pass can cost here: plain matrix products of the same arithmetic.

A floor leaves out all that is no matrix product: normalisation, activations, softmax over the vocabulary,
padding, the library's own work.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_SIDE = 1024
_SECONDS = 2.0


@dataclass(frozen=True)
class Floor:
    """Arithmetic (`flops`, two for a multiplication with its addition), and what it takes at `rate` flops a second."""

    flops: int
    rate: float

    @property
    def seconds(self) -> float:
        return self.flops / self.rate


def matmul_floor(config: Any, lengths: Sequence[int], *, dtype: str = "float32", device: str = "cpu") -> Floor:
    """The floor of one forward pass over texts of `lengths` tokens; on a CPU in CPU seconds of one thread.

    Args:
        config: a transformers configuration; where its `architectures` name a causal LM the head counts.
    """
    return Floor(forward_flops(config, lengths), matmul_rate(dtype=dtype, device=device))


def forward_flops(config: Any, lengths: Sequence[int]) -> int:
    """What a forward pass cannot do without: two for each weight of each linear layer and each position, and attention.

    A causal LM has to see all tokens of a text but the last, which predicts nothing, and each position
    only those up to it; other models see every token from every token.
    """
    import torch
    from transformers import AutoModel, AutoModelForCausalLM
    from transformers.pytorch_utils import Conv1D

    causal = any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in config.architectures or [])
    with torch.device("meta"):
        model = (AutoModelForCausalLM if causal else AutoModel).from_config(config)
    weights = sum(
        module.weight.numel()
        for name, module in model.named_modules()
        # A pooler's layer works once a text: nothing beside the others.
        if isinstance(module, torch.nn.Linear | Conv1D) and not name.startswith("pooler.")
    )
    positions = [max(length - 1, 0) for length in lengths] if causal else list(lengths)
    pairs = sum(n * (n + 1) // 2 if causal else n * n for n in positions)
    # Queries with keys, and weights with values.
    attention = 4 * config.num_hidden_layers * config.hidden_size * pairs
    return 2 * weights * sum(positions) + attention


def matmul_rate(*, dtype: str = "float32", device: str = "cpu") -> float:
    """Flops a second of square matrix products, measured for about two seconds; on a CPU a second of its one thread."""
    import torch

    cuda = device.startswith("cuda")
    side = 8 * _SIDE if cuda else _SIDE
    first, second = (torch.rand(side, side, device=device, dtype=getattr(torch, dtype)) for _ in range(2))
    product = torch.empty_like(first)
    clock = time.perf_counter if cuda else time.process_time
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        torch.mm(first, second, out=product)
        times = 0
        _wait(cuda)
        start = clock()
        while clock() - start < _SECONDS:
            for _ in range(8):
                torch.mm(first, second, out=product)
            times += 8
            _wait(cuda)
        return 2 * side**3 * times / (clock() - start)
    finally:
        torch.set_num_threads(threads)


def _wait(cuda: bool) -> None:
    import torch

    if cuda:
        torch.cuda.synchronize()
