from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingo_hitl.errors import UserError
from lingo_hitl.models.causal_lm import CausalLM, load_causal_lm, windows_of

TEXTS = ["별이 빛난다", "a short one", "x", "", "\ud800 lone", "a short one", "long " * 60]


@pytest.fixture(scope="module")
def model(tiny_model) -> CausalLM:
    loaded = load_causal_lm(f"transformers/{tiny_model}", device="cpu")
    assert isinstance(loaded, CausalLM)
    return loaded


def plain_nll(model: CausalLM, ids: list[int]) -> list[float]:
    """Negative log-likelihoods of all tokens but the first, one forward pass, no batching."""
    import torch

    with torch.inference_mode():
        logits = model.model(torch.tensor([ids])).logits[0]
    gathered = torch.log_softmax(logits[:-1].double(), dim=-1)[range(len(ids) - 1), ids[1:]]
    return (-gathered).tolist()


def test_nll_is_that_of_one_plain_forward_pass(model):
    for text, found in zip(TEXTS[:2], model.nll(TEXTS), strict=False):
        assert found == pytest.approx(np.mean(plain_nll(model, model.tokenizer(text)["input_ids"])), abs=1e-5)


def test_a_long_text_is_scored_in_windows_each_token_once(model):
    ids = model.tokenizer(TEXTS[-1])["input_ids"]
    assert len(ids) > 4 * model.context
    half = model.context // 2
    losses = plain_nll(model, ids[: model.context])
    for start in range(half, len(ids) - half, half):
        losses += plain_nll(model, ids[start : start + model.context])[half - 1 :]
    assert len(losses) == len(ids) - 1
    assert model.nll(TEXTS)[-1] == pytest.approx(np.mean(losses), abs=1e-5)


def test_texts_with_nothing_to_predict_have_no_perplexity(model):
    found = model.perplexity(TEXTS)
    assert math.isnan(found[2])
    assert math.isnan(found[3])
    assert np.isfinite(found[[0, 1, 4, 5, 6]]).all()


def test_order_changes_nothing(model):
    assert model.nll(TEXTS[::-1])[::-1].tobytes() == model.nll(TEXTS).tobytes()


def test_no_texts(model):
    assert model.perplexity([]).shape == (0,)


@given(length=st.integers(0, 200), context=st.integers(2, 40))
def test_windows_score_each_token_but_the_first_once(length, context):
    tokens = list(range(length))
    scored = []
    for window in windows_of(0, tokens, context):
        assert len(window.tokens) <= context
        assert window.seen < len(window.tokens)
        scored += window.tokens[max(window.seen, 1) :]
    assert scored == tokens[1:]


def test_kiwi_by_its_name():
    assert load_causal_lm("packaged/kiwi").perplexity(["오늘은 날씨가 좋다."])[0] < 100


@pytest.mark.parametrize("spec", ["kiwi", "packaged/gpt", "transformers/"])
def test_an_unknown_spec_is_told(spec):
    with pytest.raises(UserError, match="Expected packaged/kiwi"):
        load_causal_lm(spec)


def test_a_missing_folder_is_told(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        load_causal_lm(f"transformers/{tmp_path}/none")


def test_nll_of_real_rows_is_that_of_koquality(shared):
    golden = shared / "golden" / "koquality"
    texts = {}
    for line in (golden / "raw_sorted.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        texts[row["group"]] = row["instruction"]
    with (golden / "golden_ppl.csv").open(encoding="utf-8") as file:
        expected = {row["id"]: float(row["nll"]) for row in csv.DictReader(file)}
    model = load_causal_lm(f"transformers/{golden / 'models' / 'neox_tiny'}", device="cpu")
    assert isinstance(model, CausalLM)
    ids = list(texts)
    found = dict(zip(ids, model.nll([texts[i] for i in ids]), strict=True))
    assert {i for i in ids if math.isnan(found[i])} == set(ids) - set(expected)
    np.testing.assert_allclose([found[i] for i in expected], list(expected.values()), atol=1e-4)
