from __future__ import annotations

import pytest
import torch
from torch import nn

from lingo_hitl.models.packed import PackedLinear, pack


class ReadsItsWeights(nn.Module):
    """A layer that is not only called."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.inner(rows) @ self.inner.weight


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 8), (3, 5, 8), (1500, 8), (0, 8)])
def test_a_packed_network_computes_the_same(bias, shape):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 40, bias=bias), nn.GELU(), nn.Linear(40, 3, bias=bias)).eval()
    rows = torch.randn(shape)
    with torch.inference_mode():
        expected = network(rows)
        pack(network, lambda: network(torch.ones(2, 8)))
        torch.testing.assert_close(network(rows), expected, atol=1e-6, rtol=1e-5)


def test_a_network_that_reads_its_weights_is_left_as_it_was():
    torch.manual_seed(0)
    network = nn.Sequential(ReadsItsWeights(), nn.Linear(8, 2))
    rows = torch.randn(4, 8)
    expected = network(rows)
    pack(network, lambda: network(rows))
    assert torch.equal(network(rows), expected)
    assert not any(isinstance(module, PackedLinear) for module in network.modules())


def test_half_precision_is_left_as_it_was():
    network = nn.Sequential(nn.Linear(8, 2)).to(torch.bfloat16)
    rows = torch.randn(4, 8, dtype=torch.bfloat16)
    expected = network(rows)
    pack(network, lambda: network(rows))
    assert torch.equal(network(rows), expected)
