"""KoQuality from Python, on a `datasets.Dataset`."""

from __future__ import annotations

import pytest
from datasets import Dataset

from lingo_hitl.curation.dataset import koquality
from lingo_hitl.curation.folders import ROWS
from lingo_hitl.errors import UserError

pytestmark = pytest.mark.model

MODELS = {"perplexity_model": "packaged/kiwi", "encoder": "packaged/kiwi"}
QUESTIONS = [
    f"{subject}에 대해 {ask}"
    for subject in ("별", "바다", "역사", "요리", "수학")
    for ask in ("무엇을 알까?", "설명해 줘.")
]
DATA = Dataset.from_list([{"q": text, "a": f"답 {n}", "no": f"r{n}"} for n, text in enumerate(QUESTIONS)])
COLUMNS = {"instruction_column": "q", "output_column": "a", "id_column": "no"}


def test_a_dataset_in_and_datasets_out():
    found = koquality(DATA, **MODELS, **COLUMNS, length_groups=2, clusters=2, ratio=0.4)
    assert found.rows.column_names == ROWS.names
    assert sorted(found.rows["id"]) == sorted(DATA["no"])
    assert found.selected.num_rows == 4
    assert set(found.selected["id"]) == {row["id"] for row in found.rows if row["selected"]}
    assert found.report["selected"] == 4


def test_another_ratio_without_the_models_and_nothing_left_behind():
    found = koquality(DATA, **MODELS, **COLUMNS, length_groups=2, clusters=2, ratio=0.4)
    again = koquality(DATA, **MODELS, **COLUMNS, length_groups=2, clusters=2, ratio=0.8)
    assert found.at(0.8)["id"] == again.selected["id"]
    folder = found.out
    assert folder.is_dir()
    del found
    assert not folder.exists()


def test_a_folder_of_ones_own_stays(tmp_path):
    found = koquality(DATA, **MODELS, **COLUMNS, clusters=2, ratio=0.4, out=tmp_path / "out")
    del found
    assert (tmp_path / "out" / "selected.parquet").exists()


def test_a_mistake_is_told_and_leaves_nothing(tmp_path):
    with pytest.raises(UserError, match="no column 'question'"):
        koquality(DATA, **MODELS, instruction_column="question")
    with pytest.raises(UserError, match="--ratio"):
        koquality(DATA, **MODELS, **COLUMNS, ratio=1.5)
