"""The side file: what is written is found once, in its newest state, and a damaged file is replaced."""

from __future__ import annotations

import math

import numpy as np
import pytest

from argilla_setup.search.side_index import IndexedRecord, SideIndex, searchable_text, table_of, unit_vector
from argilla_setup.search.text_match import to_fts5

DATASET = "d" * 32
A, B = "a" * 32, "b" * 32


@pytest.fixture
def index(tmp_path):
    side = SideIndex(tmp_path / "index.db")
    side.create_dataset(DATASET, ["t", "u"])
    yield side
    side.close()


def record(name, text, *, at="2026-01-01 00:00:00.000000", vectors=()):
    return IndexedRecord(name, at, {"t": text, "u": None}, vectors)


def found(index, query):
    table = table_of(DATASET)
    rows = index._connection.execute(
        f"SELECT record_id FROM {table} JOIN documents ON docid = {table}.rowid WHERE {table} MATCH ? ORDER BY 1",
        (to_fts5(query, [0, 1]),),
    )
    return [row[0] for row in rows]


def test_the_newest_state_is_found_once(index):
    index.write(DATASET, [record(A, "옛 글"), record(B, "다른 글")])
    index.write(DATASET, [record(A, "새 글", at="2026-01-02 00:00:00.000000")])
    assert found(index, "글") == [A, B]
    assert found(index, "옛") == []
    index.write(DATASET, [record(A, "늦게 온 옛 글")])
    assert found(index, "새") == [A], "an older state that arrives late changes nothing"
    index.delete([A])
    assert found(index, "글") == [B]


def test_worn_tables_are_told(index):
    for day in range(1, 8):
        records = [record(f"{n:032x}", f"글 {day} {n}", at=f"2026-01-0{day} 00:00:00.000000") for n in range(200)]
        index.write(DATASET, records)
    assert found(index, "3") == [f"{3:032x}"]
    assert index.worn_datasets() == [DATASET]
    index.create_dataset(DATASET, ["t"])
    assert index.worn_datasets() == []


def test_vectors_are_unit_float32_and_follow_their_time(index):
    first = ("s" * 32, "2026-01-02 00:00:00.000000", [3.0, 4.0])
    older = ("s" * 32, "2026-01-01 00:00:00.000000", [1.0, 0.0])
    for vectors in ((first,), (older,)):
        index.write(DATASET, [record(A, "글", vectors=vectors)])
        value = index._connection.execute("SELECT value FROM vectors").fetchall()
        assert len(value) == 1
        assert np.frombuffer(value[0][0], dtype=np.float32) == pytest.approx([0.6, 0.8])
    assert math.isclose(float(np.linalg.norm(unit_vector([1e30, 1e30]))), 1, rel_tol=1e-6)
    assert unit_vector([0.0, 0.0]).tolist() == [0.0, 0.0]


def test_a_failed_write_leaves_nothing(index):
    with pytest.raises(ValueError, match="x"):
        index.write(DATASET, [record(A, "글"), record(B, "글", vectors=(("s", "1", ["x"]),))])
    assert found(index, "글") == []


@pytest.mark.parametrize("content", [b"", b"garbage" * 500, b"SQLite format 3\x00" + b"\x00" * 5000])
def test_a_damaged_file_is_replaced(tmp_path, content):
    path = tmp_path / "index.db"
    path.write_bytes(content)
    side = SideIndex(path)
    assert side.columns(DATASET) is None
    side.create_dataset(DATASET, ["t"])
    side.write(DATASET, [record(A, "글")])
    assert found_in_one_column(side) == [A]
    side.close()


def found_in_one_column(side):
    table = table_of(DATASET)
    rows = side._connection.execute(
        f"SELECT record_id FROM {table} JOIN documents ON docid = {table}.rowid WHERE {table} MATCH ?",
        (to_fts5("글", [0]),),
    )
    return [row[0] for row in rows]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        ("글", "글"),
        ([{"role": "user", "content": "안녕"}, {"role": "bot", "content": "네"}], "user ¶ 안녕 ¶ bot ¶ 네"),
        ({"a": "하나", "b": [1, {"c": None, "d": "둘"}]}, "a: 하나, b: 1 ¶ c: , d: 둘"),
    ],
)
def test_the_words_of_a_field(value, text):
    assert searchable_text(value) == text
