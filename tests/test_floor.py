from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.floor import forward_flops, matmul_floor

SIZES: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 100}


def counted(model: torch.nn.Module, tokens: int) -> int:
    """What torch counts for the linear layers of one forward pass."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(input_ids=torch.ones(1, tokens, dtype=torch.long))
    products = {torch.ops.aten.addmm, torch.ops.aten.mm, torch.ops.aten.linear}
    return sum(flops for operator, flops in counter.get_flop_counts()["Global"].items() if operator in products)


@pytest.mark.parametrize("name", ["GPTNeoX", "GPT2"])
def test_a_causal_model_sees_all_tokens_but_the_last(name):
    import transformers as t

    if name == "GPT2":
        model = t.GPT2LMHeadModel(t.GPT2Config(n_embd=32, n_layer=3, n_head=4, vocab_size=100))
    else:
        model = t.GPTNeoXForCausalLM(t.GPTNeoXConfig(**SIZES, intermediate_size=64))
    model.config.architectures = [type(model).__name__]
    attention = 4 * 3 * 32 * sum(range(1, 10))
    assert forward_flops(model.config, [10, 1, 0]) == counted(model, 9) + attention


def test_an_encoder_sees_all_tokens_from_all():
    from transformers import RobertaConfig, RobertaModel

    model = RobertaModel(RobertaConfig(**SIZES, intermediate_size=64), add_pooling_layer=False)
    model.config.architectures = ["RobertaModel"]
    assert forward_flops(model.config, [10, 7]) == sum(counted(model, n) + 4 * 3 * 32 * n * n for n in (10, 7))


@pytest.mark.model
def test_the_floor_is_the_time_of_its_arithmetic():
    from transformers import RobertaConfig

    floor = matmul_floor(RobertaConfig(**SIZES, intermediate_size=64), [100] * 1000)
    assert floor.seconds * floor.rate == pytest.approx(floor.flops)
    assert 1e9 < floor.rate < 1e14
