"""A model over a corpus: each distinct text once, in the same batches whatever the order of the rows."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingo_hitl.models.bulk import SLAB_CHARACTERS, SLAB_TEXTS, Distinct, compute_all, cut
from lingo_hitl.models.causal_lm import PerplexityModel
from tests.models.letters import Letters, corpus

Texts = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), max_size=60)


@settings(deadline=None)  # Arrow's kernels are loaded by the first call
@given(Texts, st.randoms(use_true_random=False), st.integers(1, 40))
def test_the_order_of_rows_and_their_chunks_never_matter(texts: list[str], chance: random.Random, budget: int):
    model = Letters(budget=budget)
    found = compute_all(pa.array(texts, pa.string()), model, what="letters", folder=None)
    mixed = chance.sample(texts, len(texts))
    half = chance.randint(0, len(texts))
    chunks = pa.chunked_array([mixed[:half], mixed[half:]], pa.string())
    again = compute_all(chunks, model, what="letters", folder=None)
    assert found.values.tobytes() == again.values.tobytes()
    assert [texts[n] for n in np.argsort(found.index)] == sorted(texts, key=lambda text: (len(text), text))
    for row, text in zip(again.index, mixed, strict=True):
        assert again.values[row, :2].tolist() == model.compute([text])[0, :2].tolist()


def test_equal_texts_are_computed_once(tmp_path):
    model = Letters(trace=tmp_path / "trace", budget=10**6)
    found = compute_all(pa.array(["나", "가나", "나", "\0", "나"]), model, what="letters", folder=None)
    assert found.index.tolist() == [1, 2, 1, 0, 1]
    assert (found.values.shape, found.batches, found.resumed) == ((3, 3), 1, 0)
    assert (tmp_path / "trace").read_text().split()[1] == "3"
    with pytest.raises(ValueError, match="read-only"):
        found.values[0] = 0


@pytest.mark.parametrize("texts", [pa.array([], pa.string()), pa.chunked_array([], pa.string())])
@pytest.mark.parametrize("kept", [True, False])
def test_no_texts_give_no_values(texts, kept, tmp_path):
    found = compute_all(texts, Letters(), what="letters", folder=tmp_path / "work" if kept else None)
    assert (found.values.shape, found.index.shape, found.batches) == ((0, 3), (0,), 0)


def test_a_null_is_refused():
    with pytest.raises(ValueError, match="1 of 2 texts are null"):
        compute_all(pa.array(["가", None]), Letters(), what="letters", folder=None)


@given(st.lists(st.integers(0, 50), max_size=200), st.integers(1, 60))
def test_batches_keep_to_the_budget_and_are_no_smaller_than_they_must(sizes: list[int], budget: int):
    batches = cut(np.array(sizes, dtype=np.int64), budget)
    flat = [place for batch in batches for place in batch.tolist()]
    assert sorted(flat) == list(range(len(sizes)))
    assert [sizes[place] for place in flat] == sorted(sizes, reverse=True)
    for n, batch in enumerate(batches):
        padded = max(1, sizes[batch[0]])
        assert len(batch) == 1 or len(batch) * padded <= budget
        assert n == len(batches) - 1 or (len(batch) + 1) * padded > budget


def test_slabs_hold_neither_too_many_texts_nor_too_much_text():
    many = [str(n) for n in range(SLAB_TEXTS * 2)]
    long = [f"{n:02}" * (SLAB_CHARACTERS // 8) for n in range(10)]
    huge = ["가" * (SLAB_CHARACTERS + 1)]
    distinct = Distinct.of(pa.array(many + huge + long))
    slabs = list(distinct.slabs())
    assert [stop for _, stop in slabs] == [len(distinct), *(start for start, _ in slabs[:-1])]
    assert slabs[-1][0] == 0
    assert slabs[0] == (len(distinct) - 1, len(distinct))
    assert slabs[1][1] - slabs[1][0] == 4
    assert max(stop - start for start, stop in slabs) == SLAB_TEXTS
    for start, stop in slabs[1:]:
        assert sum(map(len, distinct.part(start, stop).to_pylist())) <= SLAB_CHARACTERS


def test_the_batches_of_several_slabs_fill_the_values(tmp_path):
    texts = corpus(SLAB_TEXTS + 500)
    model = Letters(budget=4096)
    found = compute_all(pa.array(texts), model, what="letters", folder=tmp_path)
    assert found.values[found.index, :2].tolist() == model.compute(texts)[:, :2].tolist()


def test_a_causal_model_over_a_corpus_scores_as_it_does_alone(tiny_model, tmp_path):
    source = PerplexityModel(str(tiny_model), device="cpu")
    texts = ["별이 빛난다", "a short one", "x", "long " * 60, "a short one"]
    found = compute_all(pa.array(texts), source, what="perplexity", folder=tmp_path)
    nll, tokens = found.values[found.index].T
    assert nll == pytest.approx(source.load().nll(texts), abs=1e-5, nan_ok=True)
    assert np.isnan(nll[2])
    assert tokens.tolist() == [16, 11, 1, 300, 11]
