"""The folder that a release owner has to defend."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lingo_hitl.config import Corpus, ReleaseConfig
from lingo_hitl.errors import UserError
from lingo_hitl.records import dropped
from lingo_hitl.release.manifest import verify
from lingo_hitl.release.release import release
from tests.release.rows import conversation, instruction, pair, table

CORPORA = [Corpus(path="sample:ko", source="corpus", licence="mit")]
ROWS = [
    *(pair(f"질문 {n}", {f"좋은 답 {n}": 5, f"나쁜 답 {n}": 1}) for n in range(8)),
    *(instruction(f"지시 {n}", f"결과 {n}", language="en") for n in range(6)),
    conversation("안녕?", "안녕하세요.\n반갑습니다.", "이름이\u2028뭐야?", "별입니다."),
    pair("비김", {"가": 3, "나": 3}),
]
BEFORE = [dropped(instruction("누구", "몰라", answers=0, labelers=["simulated-1"]), "nobody answered")]


def write(out, rows=ROWS, before=BEFORE, **config):
    return release(
        table(rows, curated=True), before, ReleaseConfig(**config), project="demo", corpora=CORPORA, out=Path(out)
    )


def lines(out, name):
    files = sorted((out / name).glob("*.jsonl"))
    return {path.stem: [json.loads(line) for line in path.read_text("utf-8").split("\n")[:-1]] for path in files}


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_row_is_released_or_told(tmp_path):
    report = write(tmp_path / "r")
    assert (report.rows, report.released, report.dropped) == (17, 15, 2)
    pairs = [row for split in lines(tmp_path / "r", "preference").values() for row in split]
    examples = [row for split in lines(tmp_path / "r", "sft").values() for row in split]
    assert len(pairs) == 8 and len(examples) == 8 + 6 + 1
    reasons = pq.read_table(tmp_path / "r" / "dropped.parquet")["reason"].to_pylist()
    assert sorted(reasons) == ["a tie: chosen and rejected were found equally good", "nobody answered"]
    assert {row["id"] for row in pairs + examples}.isdisjoint(pq.read_table(tmp_path / "r" / "dropped.parquet")["id"])
    assert verify(tmp_path / "r") == []
    assert not [path for path in tmp_path.iterdir() if path.name != "r"]


def test_the_same_rows_in_any_order_give_the_same_bytes(tmp_path):
    write(tmp_path / "one")
    write(tmp_path / "two", rows=ROWS[::-1])
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_datasets_loads_it(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    report = write(tmp_path / "r")
    for name, splits in report.counts.items():
        loaded = datasets.load_dataset(str(tmp_path / "r"), name)
        assert {split: part.num_rows for split, part in loaded.items()} == splits
        for split, rows in lines(tmp_path / "r", name).items():
            assert loaded[split].to_list() == rows
    write(tmp_path / "s", rows=[ROWS[0], ROWS[8]], test_fraction=0)
    assert list(datasets.load_dataset(str(tmp_path / "s"), "sft")) == ["train"]
    assert verify(tmp_path / "s") == [], "loading leaves nothing behind"


def test_a_released_version_never_changes(tmp_path):
    out = tmp_path / "r"
    assert not write(out).already
    first = content(out)
    assert write(out).already
    with pytest.raises(UserError, match=r"released already with other content \(.*raise release.version above 0.1.0"):
        write(out, rows=ROWS[:-2])
    assert content(out) == first
    (out / "sft" / "train.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match=r"was changed after its release \(sft/train.jsonl"):
        write(out)
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


def test_what_a_killed_run_left_is_swept(tmp_path):
    (tmp_path / ".r.new" / "sft").mkdir(parents=True)
    (tmp_path / ".r.new" / "sft" / "train.jsonl").write_text("half a li")
    write(tmp_path / "r")
    assert [path.name for path in tmp_path.iterdir()] == ["r"]
    assert verify(tmp_path / "r") == []


def test_a_folder_that_is_no_release_is_left_alone(tmp_path):
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="it is no release"):
        write(tmp_path / "r")
    assert [path.name for path in (tmp_path / "r").iterdir()] == ["notes.txt"]


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_verify_finds_any_changed_byte(tmp_path, data):
    out = tmp_path / "r"
    shutil.rmtree(out, ignore_errors=True)
    write(out)
    path = data.draw(st.sampled_from(sorted(p for p in out.rglob("*") if p.is_file())))
    before = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(before) - 1))
    before[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(bytes(before))
    assert any(problem.startswith(str(path.relative_to(out))) for problem in verify(out))


def test_verify_finds_what_is_missing_and_what_is_new(tmp_path):
    write(tmp_path / "r")
    (tmp_path / "r" / "README.md").unlink()
    (tmp_path / "r" / "sft" / "more.jsonl").touch()
    assert verify(tmp_path / "r") == ["sft/more.jsonl: not part of the release", "README.md: missing"]
    assert verify(tmp_path / "nowhere") == ["manifest.json: missing or unreadable"]


@pytest.mark.parametrize(
    ("rows", "before", "told"),
    [
        ([], [], r"none of its 0 rows .* \(there are no rows\)"),
        ([], BEFORE, r"none of its 1 rows .* \(1 nobody answered\)"),
        ([pair(f"q{n}", {"a": 3, "b": 3}) for n in range(4)], BEFORE, r"none of its 5 rows .* \(4 a tie: .*; 1 nobody"),
        ([pair("q", {"a": None, "b": None}, answers=0)], [], "1 no human verdict on two completions"),
    ],
)
def test_nothing_to_release_is_one_line_and_no_folder(tmp_path, rows, before, told):
    with pytest.raises(UserError, match=told) as error:
        write(tmp_path / "release" / "r", rows=rows, before=before)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("row", [ROWS[0], ROWS[8], ROWS[-2]])
def test_one_row_is_enough_and_goes_to_training(tmp_path, row):
    report = write(tmp_path / "r", rows=[row], before=[], test_fraction=0.9)
    assert all(splits == {"train": 1} for splits in report.counts.values())


def test_no_name_of_a_person_leaves_the_house(tmp_path):
    write(tmp_path / "r")
    dropped_rows = "".join(pq.read_table(tmp_path / "r" / "dropped.parquet")["row"].to_pylist()).encode()
    for data in [*content(tmp_path / "r").values(), dropped_rows]:
        assert b"kim" not in data and b"simulated-1" not in data


def some_rows():
    text = st.sampled_from(["", "a", "b", "카페", "답\n하나", '"', "2024-01-01"])
    rating = st.none() | st.sampled_from([1.0, 3.0, 4.0, 5.0])
    about = {"seed": st.none() | st.sampled_from("xyz"), "language": st.sampled_from(["ko", "en"])}
    pairs = st.builds(
        lambda prompt, ratings, seed, language: pair(prompt, ratings, seed=seed, language=language),
        text,
        st.lists(st.tuples(text, rating), min_size=2, max_size=4),
        **about,
    )
    instructions = st.builds(instruction, text, text, rating=rating, correction=st.none() | text, **about)
    dialogues = st.lists(text, min_size=1, max_size=4).map(lambda texts: conversation(*texts))
    return st.lists(pairs | instructions | dialogues, max_size=12, unique_by=lambda row: row["id"])


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(some_rows(), st.sampled_from([0.0, 0.3, 0.8]))
def test_whatever_the_rows_nothing_is_lost_and_nothing_leaks(tmp_path, rows, fraction):
    out = tmp_path / "r"
    shutil.rmtree(out, ignore_errors=True)
    try:
        report = write(out, rows=rows, test_fraction=fraction)
    except UserError:
        assert not out.exists()
        return
    by_id = {row["id"]: row for row in rows}
    sets = {name: lines(out, name) for name in ("preference", "sft")}
    released = {row["id"] for splits in sets.values() for part in splits.values() for row in part}
    left_out = pq.read_table(out / "dropped.parquet")["id"].to_pylist()
    assert sorted([*released, *left_out]) == sorted([*by_id, BEFORE[0]["id"]])
    assert (report.rows, report.released, report.dropped) == (len(rows) + 1, len(released), len(left_out))
    sides = {
        split: {
            mark
            for splits in sets.values()
            for row in splits.get(split, [])
            for mark in (by_id[row["id"]]["seed"], " ".join(by_id[row["id"]]["instruction"].split()))
            if mark is not None
        }
        for split in ("train", "test")
    }
    assert not sides["train"] & sides["test"]
    assert all(splits["train"] for splits in sets.values() if splits)
    assert verify(out) == []


def test_the_card_says_what_it_is_and_who_judged(tmp_path):
    rows = [{**row, "labelers": ["simulated-a", "simulated-b"], "judge": "judge | one"} for row in ROWS]
    write(tmp_path / "r", rows=rows)
    card = (tmp_path / "r" / "README.md").read_text(encoding="utf-8")
    _, front, text = card.split("---\n", 2)
    metadata = yaml.safe_load(front)
    assert metadata["language"] == ["en", "ko"]
    assert (metadata["license"], metadata["size_categories"]) == ("cc-by-4.0", ["n<1K"])
    assert [config["config_name"] for config in metadata["configs"]] == ["preference", "sft"]
    assert "2 simulated labelers" in "\n".join(text.strip().split("\n")[:5])
    assert "| corpus | mit | 15 |" in text
    assert "judge \\| one" in text
    assert "| nobody answered | 1 |" in text

    write(tmp_path / "s", before=[])
    honest = (tmp_path / "s" / "README.md").read_text(encoding="utf-8")
    assert "simulated" not in honest and "모의" not in honest
