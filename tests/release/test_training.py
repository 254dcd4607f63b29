"""TRL's trainers take what was released, as it is."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tests.release.test_release import write

TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A GPT-2 of one layer with random weights, and a tokenizer of bytes with a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    specials = ["<pad>", "</s>", "<user>", "<assistant>"]
    tokenizer = Tokenizer(models.BPE({token: n for n, token in enumerate(specials + letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>")
    wrapped.add_special_tokens({"additional_special_tokens": specials[2:]})
    wrapped.chat_template = TEMPLATE
    sizes = {"n_layer": 1, "n_head": 2, "n_embd": 16, "n_positions": 256}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=len(wrapped), eos_token_id=1, bos_token_id=1, **sizes))
    folder = tmp_path_factory.mktemp("tiny")
    model.save_pretrained(folder)
    wrapped.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def released(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("released") / "r"
    write(folder)
    return folder


def options(folder):
    return {
        "output_dir": str(folder),
        "max_steps": 2,
        "per_device_train_batch_size": 2,
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        "save_strategy": "no",
        "logging_steps": 1,
        "eval_strategy": "steps",
        "eval_steps": 2,
    }


@pytest.mark.model
@pytest.mark.parametrize("name", ["preference", "sft"])
def test_two_steps_of_training(tiny, released, tmp_path, monkeypatch, name):
    import datasets
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    data = datasets.load_dataset(str(released), name)
    trainer_of, config_of = {"preference": (DPOTrainer, DPOConfig), "sft": (SFTTrainer, SFTConfig)}[name]
    trainer = trainer_of(
        model=AutoModelForCausalLM.from_pretrained(tiny),
        args=config_of(**options(tmp_path)),
        train_dataset=data["train"],
        eval_dataset=data["test"],
        processing_class=AutoTokenizer.from_pretrained(tiny),
    )
    outcome = trainer.train()
    assert outcome.global_step == 2
    assert math.isfinite(outcome.training_loss) and outcome.training_loss > 0
