from __future__ import annotations

import json
import math

import numpy as np
import pyarrow as pa
import pytest

from lingo_hitl.config import MapConfig
from lingo_hitl.errors import UserError
from lingo_hitl.mapping.map import map_rows
from lingo_hitl.records import GENERATED, JUDGED, MAPPED, add_columns, identified, to_table
from tests.mapping.topics import FOOD, SPACE, TRAVEL, TROUBLE

CONFIG = MapConfig(min_cluster_size=4)


def table(texts: list[str]) -> pa.Table:
    rows = [identified({"task": "instruction", "instruction": text, "output": "답"}) for text in texts]
    return add_columns(to_table(rows, GENERATED), [{} for _ in rows], JUDGED)


@pytest.fixture(scope="module")
def topics() -> pa.Table:
    return map_rows(table([*SPACE, *TRAVEL, *FOOD]), CONFIG).rows


def test_columns_are_those_of_the_contract(topics):
    assert topics.schema.equals(pa.schema([*GENERATED, *JUDGED, *MAPPED]))


def test_subjects_become_clusters(topics):
    labels = np.array(topics["cluster_id"].to_pylist())
    groups = [labels[0:12], labels[12:24], labels[24:36]]
    most = [np.bincount(group[group >= 0]).argmax() for group in groups]
    assert len(set(most)) == 3
    assert np.mean([(group == own).mean() for group, own in zip(groups, most, strict=True)]) > 0.6


def test_the_same_rows_give_the_same_bytes(topics):
    assert map_rows(table([*SPACE, *TRAVEL, *FOOD]), CONFIG).rows.equals(topics)


def test_the_report_tells_clusters_and_can_be_written(topics):
    outcome = map_rows(table(SPACE), CONFIG)
    assert sum(outcome.report["clusters"].values()) + outcome.report["in_no_cluster"] == len(SPACE)
    assert json.loads(json.dumps(outcome.report)) == outcome.report
    assert outcome.dropped == []


@pytest.mark.parametrize("texts", [["행성은 왜 둥근가요?"], SPACE[:3], ["행성"] * 40, [""] * 20, TROUBLE], ids=len)
def test_no_row_is_lost_whatever_it_holds(texts):
    # Lone surrogates never enter an Arrow table: the corpus reader replaces them.
    rows = map_rows(table([text.encode("utf-8", "replace").decode() for text in texts]), CONFIG).rows
    assert rows.num_rows == len(texts)
    for row in rows.to_pylist():
        assert math.isclose(np.linalg.norm(row["vector"]), 1, abs_tol=1e-5)
        assert math.isfinite(row["x"])
        assert math.isfinite(row["y"])
        assert row["cluster"]
        assert (row["perplexity"] is None) == (not row["instruction"].strip())


def test_no_rows():
    rows = map_rows(table([]), CONFIG).rows
    assert rows.num_rows == 0
    assert rows.schema.names == [*GENERATED.names, *JUDGED.names, *MAPPED.names]


def test_perplexity_can_be_left_out():
    rows = map_rows(table(SPACE[:3]), CONFIG.model_copy(update={"perplexity": None})).rows
    assert rows["perplexity"].null_count == 3


def test_a_dialogue_is_mapped_by_what_its_user_says():
    turns = [{"role": "user", "content": SPACE[0]}, {"role": "assistant", "content": FOOD[0]}]
    dialogue = identified({"task": "dialogue", "instruction": SPACE[0], "messages": turns})
    mapped = map_rows(
        pa.concat_tables([table([SPACE[0]]).select(GENERATED.names), to_table([dialogue], GENERATED)]), CONFIG
    )
    asked, talked = mapped.rows["vector"].to_pylist()
    assert asked == talked


def test_an_unknown_model_is_told_before_any_work():
    with pytest.raises(UserError, match=r"map\.perplexity"):
        map_rows(table(SPACE), CONFIG.model_copy(update={"perplexity": "kiwi"}))
