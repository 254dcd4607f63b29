"""Linear layers of a float32 model on a CPU, faster: their weights are laid out once for the matrix product.

torch leaves such layers to MKL, which arranges the weights anew in each call. oneDNN, which comes with torch
as well, can keep them arranged. One thread of an AMD EPYC (Zen 4), 128 to 2,048 rows, billions of operations a
second: MKL 90 to 103, oneDNN 105 to 112; for a language model's head 73 to 85 and 84 to 109. torch.compile
does the same, but needs a C++ compiler on the machine.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

_ROWS = 1024  # for which the weights are arranged; other numbers of rows work as well
_MOST_BYTES = 2**33  # of weights: for a moment they are there twice, and large models gain less


class PackedLinear(nn.Module):
    """What a linear layer computes. `weight` tells its dtype and device, and is empty."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self._packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), _ROWS)
        self.bias = linear.bias
        self.weight = nn.Parameter(linear.weight.new_empty(0), requires_grad=False)

    def forward(self, rows: Tensor) -> Tensor:
        """`rows` [..., inputs] to [..., outputs]."""
        return torch.ops.mkldnn._linear_pointwise(rows, self._packed, self.bias, "none", [], "")


def pack(network: nn.Module, run: Callable[[], Tensor]) -> None:
    """Replace the linear layers of `network`, where that is faster and changes nothing.

    `run` computes something with the network. Where that comes out otherwise than before, or fails, as it does
    in a model that reads its layers' weights itself, the layers are put back.
    """
    if not _can_pack():
        return
    with torch.inference_mode():
        expected = run()
        layers = list(_layers(network))
        if sum(linear.weight.nbytes for _, _, linear in layers) > _MOST_BYTES:
            return
        packed = {linear: PackedLinear(linear) for _, _, linear in layers}
        for parent, name, linear in layers:
            setattr(parent, name, packed[linear])
        try:
            same = torch.allclose(run(), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
        except Exception:  # whatever that model's code makes of an empty weight
            same = False
    if not same:
        for parent, name, linear in layers:
            setattr(parent, name, linear)


def _layers(network: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Linear]]:
    for parent in network.modules():
        for name, child in parent.named_children():
            # Subclasses compute something else.
            if type(child) is nn.Linear and child.weight.dtype == torch.float32 and child.weight.device.type == "cpu":
                yield parent, name, child


def _can_pack() -> bool:
    """Whether oneDNN is there, on a processor where it was seen to be the faster, with torch's own way to call it."""
    operators: Any = torch.ops.mkldnn
    return (
        torch.backends.mkldnn.is_available()
        and platform.machine() in ("x86_64", "AMD64")
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and hasattr(operators, "_linear_pointwise")
        and hasattr(operators, "_reorder_linear_weight")
    )
