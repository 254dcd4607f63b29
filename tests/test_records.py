"""A row's identity and its schemas."""

from __future__ import annotations

import unicodedata

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingo_hitl.records import (
    GENERATED,
    JUDGED,
    MAPPED,
    add_columns,
    content_id,
    dropped,
    identified,
    seen_texts,
    to_table,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def test_the_same_content_is_the_same_row_everywhere():
    row = identified(
        {"task": "instruction", "instruction": "별은 왜 빛나나요?", "output": "핵융합 때문이에요.", "source": "a"}
    )
    again = identified(
        {"task": "instruction", "instruction": "별은 왜 빛나나요?", "output": "핵융합 때문이에요.", "source": "b"}
    )
    assert row["id"] == again["id"] == "f38f1ed531b48364"


@given(TEXT, TEXT)
def test_a_text_saved_on_a_mac_is_the_same_text(instruction, output):
    composed, decomposed = (
        content_id(
            "instruction",
            {k: unicodedata.normalize(form, v) for k, v in (("instruction", instruction), ("output", output))},
        )
        for form in ("NFC", "NFD")
    )
    assert composed == decomposed


@given(st.tuples(TEXT, TEXT), st.tuples(TEXT, TEXT))
def test_other_texts_are_another_row(one, other):
    same = [unicodedata.normalize("NFC", t) for t in one] == [unicodedata.normalize("NFC", t) for t in other]
    ids = [content_id("preference", {"instruction": "q", "completions": list(texts)}) for texts in (one, other)]
    assert (ids[0] == ids[1]) == same


def test_identity_depends_on_what_a_labeler_sees_and_nothing_else():
    row = {"task": "preference", "instruction": "q", "completions": ["a", "b"], "models": ["m", "n"], "reference": "r"}
    assert seen_texts(row) == {"instruction": "q", "completions": ["a", "b"]}


def test_later_stages_cannot_rewrite_a_column():
    table = to_table([{"id": "1", "task": "instruction"}], GENERATED)
    table = add_columns(table, [{"ratings": [4.0]}], JUDGED)
    assert table["ratings"].to_pylist() == [[4.0]]
    with pytest.raises(ValueError, match="never rewrites"):
        add_columns(table, [{"ratings": [1.0]}], JUDGED)
    with pytest.raises(ValueError, match="0 rows"):
        add_columns(table, [], MAPPED)


def test_a_dropped_row_keeps_everything_but_its_vector():
    row = {"id": "1", "task": "instruction", "instruction": "한국\ud800", "vector": [0.5]}
    kept = dropped(row, "too short")
    pa.array([kept["row"]])  # lone surrogates would fail here
    assert kept["reason"] == "too short"
    assert "한국" in kept["row"]
    assert "vector" not in kept["row"]
