from __future__ import annotations

import csv
import json
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lingo_hitl.errors import UserError
from lingo_hitl.models.causal_lm import CausalLM, PerplexityModel, load_causal_lm
from lingo_hitl.models.windows import koquality_windows, windows_of

TEXTS = ["별이 빛난다", "a short one", "x", "", "\ud800 lone", "a short one", "long " * 60]
SIZES: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 258}
LLAMA_LIKE: dict[str, Any] = {**SIZES, "intermediate_size": 64, "num_key_value_heads": 2, "initializer_range": 0.3}


@pytest.fixture(scope="module")
def model(tiny_model) -> CausalLM:
    return opened(tiny_model)


def opened(folder: Path, **options: Any) -> CausalLM:
    loaded = PerplexityModel(str(folder), device="cpu", **options).load()
    assert isinstance(loaded, CausalLM)
    return loaded


def saved(model: Any, tokenizer_of: Path, folder: Path) -> Path:
    """`model` in a folder, with the byte-level tokenizer of another."""
    from transformers import AutoTokenizer

    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tokenizer_of).save_pretrained(folder)
    return folder


def llama(tokenizer_of: Path, folder: Path, positions: int) -> Path:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    return saved(LlamaForCausalLM(LlamaConfig(**LLAMA_LIKE, max_position_embeddings=positions)), tokenizer_of, folder)


def plain_nll(model: Any, ids: list[int]) -> list[float]:
    """Negative log-likelihoods of all tokens but the first, one forward pass, no batching."""
    with torch.inference_mode():
        logits = model(torch.tensor([ids])).logits[0]
    gathered = torch.log_softmax(logits[:-1].double(), dim=-1)[range(len(ids) - 1), ids[1:]]
    return (-gathered).tolist()


def koquality_nll(model: Any, ids: list[int]) -> float:
    """The loop of KoQuality's generate_perplexity.py as SPEC.md tells it: one text, one window at a time."""
    ids, losses, previous_end = ids[:1024], [], 0
    for begin in range(0, len(ids), 256):
        end = min(begin + model.config.max_position_embeddings, len(ids))
        tokens = torch.tensor([ids[begin:end]])
        labels = tokens.clone()
        labels[:, : -(end - previous_end)] = -100
        losses.append(model(tokens, labels=labels).loss.item())
        previous_end = end
        if end == len(ids):
            break
    return float(np.mean(losses))


def test_nll_is_that_of_one_plain_forward_pass(model):
    for text, found in zip(TEXTS[:2], model.nll(TEXTS), strict=False):
        assert found == pytest.approx(np.mean(plain_nll(model.model, model.tokenizer(text)["input_ids"])), abs=1e-5)


def test_a_long_text_is_scored_in_windows_each_token_once(model):
    ids = model.tokenizer(TEXTS[-1])["input_ids"]
    assert len(ids) > 4 * model.context
    half = model.context // 2
    losses = plain_nll(model.model, ids[: model.context])
    for start in range(half, len(ids) - half, half):
        losses += plain_nll(model.model, ids[start : start + model.context])[half - 1 :]
    assert len(losses) == len(ids) - 1
    assert model.nll(TEXTS)[-1] == pytest.approx(np.mean(losses), abs=1e-5)


@pytest.mark.parametrize("positions", [300, 2048])
def test_koquality_reads_long_texts_as_the_original_does(tiny_model, tmp_path, positions):
    model = opened(llama(tiny_model, tmp_path / "llama", positions), windows="koquality")
    texts = ["ab", "first " * 30, "second " * 60, "third one " * 70, "a fourth that is cut " * 90]
    items = model.encode(texts)
    assert max(map(len, items)) == 1024
    whole = [model.tokenizer(text)["input_ids"] for text in texts]
    expected = [koquality_nll(model.model, ids) for ids in whole]
    np.testing.assert_allclose(model.compute(items)[:, 0], expected, rtol=2e-6)
    if positions == 300:
        weighted = opened(tmp_path / "llama").compute(items)[:, 0]
        assert abs(weighted - expected).max() > 1e-3


def families() -> dict[str, Any]:
    """Causal LMs that differ in how logits come about, in positions, in who may see whom."""
    import transformers as t

    torch.manual_seed(1)
    wide = {**LLAMA_LIKE, "max_position_embeddings": 128}
    gemma = t.Gemma2Config(**wide, head_dim=8, final_logit_softcapping=2.0, sliding_window=6)
    return {
        "capped logits, sliding window": t.Gemma2ForCausalLM(gemma),
        "scaled logits": t.CohereForCausalLM(t.CohereConfig(**wide, logit_scale=0.2)),
        "learned positions, tied head": t.GPT2LMHeadModel(
            t.GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=258, n_positions=128, initializer_range=0.3)
        ),
        "alibi": t.BloomForCausalLM(t.BloomConfig(hidden_size=32, n_layer=2, n_head=4, vocab_size=258)),
        "projected embeddings": t.OPTForCausalLM(
            t.OPTConfig(**SIZES, ffn_dim=64, max_position_embeddings=128, word_embed_proj_dim=16, init_std=0.3)
        ),
        "a head with a bias": t.PhiForCausalLM(t.PhiConfig(**wide)),
    }


@pytest.mark.parametrize("family", families())
def test_any_causal_model_is_scored_as_it_scores_itself(family, tiny_model, tmp_path):
    from transformers import AutoModelForCausalLM

    model = opened(saved(families()[family], tiny_model, tmp_path / "model"))
    reference = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    texts = ["ab", "a short one", "one that is longer than others", "별이 빛나는 밤에 우리는", "a short two"]
    expected = [np.mean(plain_nll(reference, model.tokenizer(text)["input_ids"])) for text in texts]
    np.testing.assert_allclose(model.nll(texts), expected, atol=2e-5)


def test_bfloat16_is_near_float32(tiny_model):
    exact, rough = opened(tiny_model).nll(TEXTS), opened(tiny_model, dtype="bfloat16").nll(TEXTS)
    known = np.isfinite(exact)
    np.testing.assert_allclose(rough[known], exact[known], rtol=0.02)
    assert (rough[known] != exact[known]).any()


def test_numbers_are_nll_and_tokens_in_any_batch(model):
    items = model.encode(TEXTS)
    found = model.compute(items)
    assert found.dtype == model.dtype
    assert found.shape == (len(TEXTS), model.width)
    assert found[:, 1].tolist() == [len(model.tokenizer(text.replace("\ud800", "?"))["input_ids"]) for text in TEXTS]
    alone = np.concatenate([model.compute([item]) for item in items])
    np.testing.assert_allclose(found, alone, atol=1e-5)


def test_texts_with_nothing_to_predict_have_no_perplexity(model):
    found = model.perplexity(TEXTS)
    assert math.isnan(found[2])
    assert math.isnan(found[3])
    assert np.isfinite(found[[0, 1, 4, 5, 6]]).all()
    assert np.isnan(model.compute(model.encode(["", "x", ""]))[:, 0]).all()


def test_order_changes_nothing(model):
    assert model.nll(TEXTS[::-1])[::-1].tobytes() == model.nll(TEXTS).tobytes()


def test_no_texts(model):
    assert model.perplexity([]).shape == (0,)


def test_a_very_long_text_and_control_characters(model):
    assert np.isfinite(model.nll(["\0\0\0", "길다 " * 5_000])).all()


@given(length=st.integers(0, 200), context=st.integers(2, 40))
def test_windows_score_each_token_but_the_first_once(length, context):
    tokens = list(range(length))
    scored = []
    for window in windows_of(0, tokens, context):
        assert len(window.tokens) <= context
        assert window.seen < len(window.tokens)
        scored += window.tokens[max(window.seen, 1) :]
    assert scored == tokens[1:]


@given(length=st.integers(0, 1024), context=st.integers(257, 2048))
def test_koquality_windows_score_each_token_but_the_first_once(length, context):
    tokens = list(range(length))
    scored = []
    for window in koquality_windows(0, tokens, context):
        assert len(window.tokens) <= context
        scored += window.tokens[len(window.tokens) - window.scored :]
    assert scored == tokens[1:]


def test_a_source_travels_and_says_what_its_numbers_depend_on(tiny_model, tmp_path):
    folder = llama(tiny_model, tmp_path / "llama", 64)
    source = pickle.loads(pickle.dumps(PerplexityModel(str(folder), windows="koquality")))
    about = source.identity
    assert json.loads(json.dumps(about)) == about
    assert source.on("cuda:1").device == "cuda:1"
    assert source.on("cuda:1").identity == about
    assert PerplexityModel(str(folder)).identity != about
    assert PerplexityModel(str(folder), "bfloat16", windows="koquality").identity != about
    (folder / "config.json").write_text((folder / "config.json").read_text() + "\n")
    assert source.identity != about
    assert PerplexityModel("EleutherAI/polyglot-ko-1.3b").identity["files"] == {}


def test_kiwi_by_its_name():
    model = load_causal_lm("packaged/kiwi")
    assert model.perplexity(["오늘은 날씨가 좋다."])[0] < 100
    found = model.compute(model.encode(["오늘은 날씨가 좋다.", " "]))
    assert math.exp(found[0, 0]) == pytest.approx(model.perplexity(["오늘은 날씨가 좋다."])[0])
    assert found[0, 1] > 4
    assert math.isnan(found[1, 0])
    assert PerplexityModel("packaged/kiwi").load().width == 2


@pytest.mark.parametrize("spec", ["kiwi", "packaged/gpt", "transformers/", ""])
def test_an_unknown_spec_is_told(spec):
    with pytest.raises(UserError, match="Expected packaged/kiwi"):
        load_causal_lm(spec)


@pytest.mark.parametrize("prefix", ["", "transformers/"])
def test_a_missing_folder_is_told(prefix, tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        load_causal_lm(f"{prefix}{tmp_path}/none")


def test_a_hub_that_cannot_be_reached_is_told(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"^nobody/nothing-here: cannot be loaded on 'cpu'.*hub id"):
        load_causal_lm("nobody/nothing-here", device="cpu")


def test_a_folder_without_tokenizer_or_config_is_told(tiny_model, tmp_path):
    folder = llama(tiny_model, tmp_path / "llama", 64)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(UserError, match="no tokenizer"):
        load_causal_lm(str(folder))
    (folder / "config.json").unlink()
    with pytest.raises(UserError, match=r"no config\.json"):
        load_causal_lm(str(folder))


def test_damaged_weights_and_an_unknown_device_are_told(tiny_model, tmp_path):
    folder = llama(tiny_model, tmp_path / "llama", 64)
    with pytest.raises(UserError, match="cannot be loaded on 'warp'"):
        load_causal_lm(str(folder), device="warp")
    (folder / "model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(UserError, match="cannot be loaded on 'cpu'"):
        load_causal_lm(str(folder), device="cpu")


def test_what_is_no_causal_model_is_told(tiny_model, tmp_path):
    from transformers import AutoModel, BertConfig, BertLMHeadModel, T5Config, T5ForConditionalGeneration

    bert = BertLMHeadModel(BertConfig(**SIZES, intermediate_size=64, initializer_range=0.3))
    with pytest.raises(UserError, match="depends on those after it"):
        load_causal_lm(str(saved(bert, tiny_model, tmp_path / "bert")), device="cpu")
    t5 = T5ForConditionalGeneration(T5Config(vocab_size=258, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2))
    with pytest.raises(UserError, match="its type is t5"):
        load_causal_lm(str(saved(t5, tiny_model, tmp_path / "t5")), device="cpu")
    headless = AutoModel.from_pretrained(llama(tiny_model, tmp_path / "llama", 64))
    with pytest.raises(UserError, match=r"no weights for lm_head\.weight"):
        load_causal_lm(str(saved(headless, tiny_model, tmp_path / "headless")), device="cpu")


@pytest.mark.parametrize("windows", ["weighted", "koquality"])
def test_nll_of_real_rows_is_that_of_koquality(shared, windows):
    golden = shared / "golden" / "koquality"
    texts = {}
    for line in (golden / "raw_sorted.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        texts[row["group"]] = row["instruction"]
    with (golden / "golden_ppl.csv").open(encoding="utf-8") as file:
        expected = {row["id"]: row for row in csv.DictReader(file)}
    model = opened(golden / "models" / "neox_tiny", windows=windows)
    found = dict(zip(texts, model.compute(model.encode(list(texts.values()))), strict=True))
    assert {i for i in texts if math.isnan(found[i][0])} == set(texts) - set(expected)
    nll = np.array([found[i][0] for i in expected])
    np.testing.assert_allclose(nll, [float(row["nll"]) for row in expected.values()], atol=1e-4)
    ppl, golden_ppl = np.round(np.exp(nll), 2), np.array([float(row["ppl"]) for row in expected.values()])
    assert (abs(ppl - golden_ppl) <= np.maximum(0.02, 1e-4 * golden_ppl)).all()
    assert [found[i][1] for i in expected] == [int(row["n_tok"]) for row in expected.values()]
