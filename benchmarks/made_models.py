"""Models with random weights and tokenizers trained on the benchmark's own rows: real shapes, no download.

What a forward pass costs depends on shapes alone, so random weights measure as well as trained ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lingo_hitl.models.weights import quiet_transformers

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]  # with the numbers 0 to 3, as RoBERTa has them


@dataclass(frozen=True)
class Shape:
    """A transformer's size. `vocabulary` is of the model; the tokenizer is trained to the same."""

    hidden: int
    layers: int
    heads: int
    vocabulary: int
    positions: int
    spread: float = 0.02  # standard deviation of the weights


NEOX_20M = Shape(hidden=256, layers=6, heads=4, vocabulary=30_080, positions=2048)
"""20.1 million parameters with polyglot-ko's vocabulary and context."""
POLYGLOT_1B = Shape(hidden=2048, layers=24, heads=16, vocabulary=30_080, positions=2048)
"""polyglot-ko-1.3b."""
ROBERTA_SMALL = Shape(hidden=128, layers=3, heads=4, vocabulary=32_000, positions=514, spread=0.1)
ROBERTA_BASE = Shape(hidden=768, layers=12, heads=12, vocabulary=32_000, positions=514)
"""KoSimCSE-roberta."""
NEOX_TINY = Shape(hidden=32, layers=1, heads=2, vocabulary=2_000, positions=2048, spread=0.1)
ROBERTA_TINY = Shape(hidden=32, layers=1, heads=2, vocabulary=2_000, positions=514, spread=0.1)


def make_gpt_neox(folder: Path, shape: Shape, rows: Path, *, dtype: str = "float32") -> int:
    """Save a GPT-NeoX with a byte-level BPE trained on `rows` (JSONL); gives its parameters, in all."""
    import torch
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    config = GPTNeoXConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=4 * shape.hidden,
        max_position_embeddings=shape.positions,
        initializer_range=shape.spread,
        bos_token_id=0,
        eos_token_id=2,
    )
    torch.manual_seed(0)
    model = GPTNeoXForCausalLM(config).to(getattr(torch, dtype))
    with quiet_transformers():
        model.save_pretrained(folder)
    _save_tokenizer(folder, shape.vocabulary, rows, limit=shape.positions)
    return int(model.num_parameters())


def make_roberta(folder: Path, shape: Shape, rows: Path, *, dtype: str = "float32") -> int:
    """Save a RoBERTa with a pooler and a tokenizer that adds `<s>` and `</s>`; gives its parameters, in all."""
    import torch
    from transformers import RobertaConfig, RobertaModel

    config = RobertaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=4 * shape.hidden,
        max_position_embeddings=shape.positions,
        initializer_range=shape.spread,
        type_vocab_size=1,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
    )
    torch.manual_seed(0)
    model = RobertaModel(config).to(getattr(torch, dtype))
    with quiet_transformers():
        model.save_pretrained(folder)
    _save_tokenizer(folder, shape.vocabulary, rows, limit=shape.positions - 2, enclosed=True)
    return int(model.num_parameters())


def _save_tokenizer(folder: Path, vocabulary: int, rows: Path, *, limit: int, enclosed: bool = False) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(rows), trainer)
    if enclosed:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
        )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=limit,
    ).save_pretrained(folder)


def _texts(rows: Path) -> Iterator[str]:
    with rows.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            yield from (row["instruction"], row["output"])
