import csv
import hashlib
import json
import unicodedata

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingo_hitl.config import Corpus
from lingo_hitl.corpus.seeds import TEXT_LIMIT, corpus_hashes, language_of, read_corpus
from lingo_hitl.errors import UserError
from lingo_hitl.records import CORPUS

PAIRS = [
    ("별은 왜 반짝이나요?", "공기 때문입니다."),
    ('Why, "really"?', "Because\nof air."),
    ("탭\t문자", "줄\r\n바꿈"),
]


def write(path, pairs, names=("instruction", "output")):
    rows = [dict(zip(names, pair, strict=True)) for pair in pairs]
    kind = path.suffix
    if kind == ".jsonl":
        path.write_bytes("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
    elif kind == ".json":
        path.write_bytes(json.dumps({"version": 1, "data": rows}, ensure_ascii=False).encode())
    elif kind == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows, pa.schema([(name, pa.string()) for name in names])), path)
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter="\t" if kind == ".tsv" else ",")
            writer.writerows([names, *pairs])
    return path


def read(path, **options):
    return read_corpus([Corpus(path=str(path), **options)])


def pairs_of(outcome):
    return [(row["instruction"], row["output"]) for row in outcome.rows.to_pylist()]


def refused(path, **options):
    with pytest.raises(UserError) as caught:
        read(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_rows_from_a_start_on_keep_their_place_their_url_and_their_original(tmp_path):
    rows = [
        {"instruction": f"{n}?", "output": "네", "url": f"u{n}", "org_output": "응" if n else None} for n in range(5)
    ]
    path = tmp_path / "seeds.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = read(path, start=1, limit=2).rows.to_pylist()
    assert [(row["source_id"], row["url"], row["original"]) for row in found] == [("2", "u1", "응"), ("3", "u2", "응")]
    assert read(path, limit=1).rows["original"].to_pylist() == [None]
    assert "has no row 5, counted from 0" in refused(path, start=5)


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".csv", ".tsv", ".parquet"])
def test_every_format_gives_the_same_rows(tmp_path, ending):
    outcome = read(write(tmp_path / f"seeds{ending}", PAIRS))
    assert pairs_of(outcome) == PAIRS
    assert outcome.rows.schema == CORPUS
    assert outcome.rows["source"].unique().to_pylist() == ["seeds"]
    assert outcome.rows["source_id"].to_pylist() == ["1", "2", "3"]
    assert outcome.rows["language"].to_pylist() == ["ko", "en", "ko"]


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".csv", ".tsv"])
def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path, ending):
    path = write(tmp_path / f"seeds{ending}", PAIRS)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert pairs_of(read(path)) == PAIRS


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(texts.filter(str.strip), texts), min_size=1, max_size=6),
    st.sampled_from([".jsonl", ".json", ".csv", ".tsv", ".parquet"]),
)
def test_whatever_is_written_is_read_back(tmp_path_factory, pairs, ending):
    path = write(tmp_path_factory.mktemp("corpus") / f"seeds{ending}", pairs)
    clean = [tuple(unicodedata.normalize("NFC", text).strip() for text in pair) for pair in pairs]
    outcome = read(path)
    assert pairs_of(outcome) == list(dict.fromkeys(clean))
    assert len(outcome.dropped) == len(pairs) - len(set(clean))


def test_a_folder_of_datasets_and_its_splits(tmp_path):
    datasets = pytest.importorskip("datasets")
    one = datasets.Dataset.from_dict({"prompt": ["질문"], "response": ["답"]})
    one.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": one, "test": one}).save_to_disk(tmp_path / "two")
    assert pairs_of(read(tmp_path / "one")) == pairs_of(read(tmp_path / "two", split="test")) == [("질문", "답")]
    assert "has no split 'dev'; it has train, test" in refused(tmp_path / "two", split="dev")
    (tmp_path / "three").mkdir()
    assert "not a folder of datasets.save_to_disk" in refused(tmp_path / "three")


def test_columns_are_found_by_common_names_or_mapped(tmp_path):
    assert pairs_of(read(write(tmp_path / "a.csv", PAIRS[:1], names=("Q", "A")))) == PAIRS[:1]
    path = write(tmp_path / "b.csv", PAIRS[:1], names=("묻기", "답하기"))
    assert pairs_of(read(path, columns={"instruction": "묻기", "output": "답하기"})) == PAIRS[:1]
    assert pairs_of(read(path, columns={"instruction": "묻기"})) == [(PAIRS[0][0], "")]


def test_an_alpaca_input_stands_below_its_instruction(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"instruction": "고쳐라", "input": "안뇽", "output": "안녕"}]))
    assert pairs_of(read(path)) == [("고쳐라\n\n안뇽", "안녕")]


def test_id_language_source_and_limit_come_from_the_config(tmp_path):
    path = tmp_path / "a.jsonl"
    lines = [{"instruction": f"질문 {n}", "no": n * 10, "lang": "en"} for n in range(1, 4)]
    path.write_text("\n".join(map(json.dumps, lines)))
    rows = read(path, columns={"id": "no", "language": "lang"}, source="mine", limit=2).rows.to_pylist()
    assert [(r["source_id"], r["source"], r["language"]) for r in rows] == [("10", "mine", "en"), ("20", "mine", "en")]


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("별이 빛난다", "ko"),
        ("Hello", "en"),
        ("Python의 list를 설명해 줘", "ko"),
        ("What does 안녕 mean in English?", "en"),
        ("123", "en"),
        ("요약해 줘 https://www.example.org/a/very/long/address/in/latin/letters", "ko"),
    ],
)
def test_language_is_told_by_the_share_of_hangul(text, language):
    assert language_of(text) == language


def test_bad_rows_are_dropped_each_with_its_reason(tmp_path):
    path = tmp_path / "a.jsonl"
    lines = [
        '{"instruction": "좋은 질문", "output": "답"}',
        '{"instruction": "  ", "output": "답"}',
        '{"instruction": 5, "output": "답"}',
        '{"instruction": "되풀이", "output": ["목록"]}',
        '{"instruction": "좋은 질문 ", "output": "답"}',
        '{"instruction": "\\ud800 반쪽", "output": ""}',
        '{"instruction": "널\\u0000", "output": ""}',
        json.dumps({"instruction": "긴 답", "output": "가" * (TEXT_LIMIT + 1)}),
        '{"output": "질문이 없음"}',
        "",
        '{"instruction": "답 없는 질문", "output": null}',
    ]
    path.write_text("\n".join(lines))
    outcome = read(path)
    assert pairs_of(outcome) == [("좋은 질문", "답"), ("답 없는 질문", "")]
    reasons = [row["reason"] for row in outcome.dropped]
    assert reasons == [
        "the instruction is empty",
        "the instruction is not a text",
        "the output is not a text",
        "the same row came before",
        "the instruction holds characters that are no text (NUL or half a surrogate pair)",
        "the instruction holds characters that are no text (NUL or half a surrogate pair)",
        "the output is longer than 100,000 characters",
        "the instruction is empty",
    ]
    assert all(row["id"] for row in outcome.dropped)


def test_a_csv_row_with_stray_cells_is_dropped(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("Q,A\n하나,둘\n쉼표, 때문에, 셋\n", encoding="utf-8")
    outcome = read(path)
    assert pairs_of(outcome) == [("하나", "둘")]
    assert outcome.dropped[0]["reason"] == "it has more cells than the header"


def test_broken_json_names_its_line(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"instruction": "질문"}\n' * 6 + '{"instruction": \n')
    assert refused(path).startswith(f"{path}:7: not valid JSON (Expecting value at column")
    path.write_text("[1, 2]\n")
    assert f"{path}:1: expected an object" in refused(path)
    whole = tmp_path / "a.json"
    whole.write_text('[\n{"instruction": "a"},\n}]')
    assert refused(whole).startswith(f"{whole}:3: not valid JSON")
    whole.write_text('{"instruction": "a"}\n{"instruction": "b"}\n')
    assert "must end in .jsonl" in refused(whole)
    whole.write_text('{"a": [], "b": []}')
    assert "an object with one list in it" in refused(whole)


def test_a_file_in_cp949_says_how_to_convert_it(tmp_path):
    for name in ("a.csv", "a.jsonl", "a.json"):
        path = tmp_path / name
        text = "instruction,output\n질문입니다,답입니다\n" if name == "a.csv" else '{"instruction": "질문입니다"}\n'
        path.write_bytes(text.encode("cp949"))
        message = refused(path)
        assert "it looks like cp949" in message and f"iconv -f cp949 -t utf-8 {path}" in message


def test_missing_empty_and_unknown_files(tmp_path):
    assert "no such file" in refused(tmp_path / "none.csv")
    (tmp_path / "a.csv").write_bytes(b"")
    assert "is empty" in refused(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text("instruction,output\n")
    assert "has no rows" in refused(tmp_path / "b.csv")
    (tmp_path / "a.xlsx").write_bytes(b"PK")
    assert "ending '.xlsx' is not known; expected .jsonl, .json" in refused(tmp_path / "a.xlsx")
    (tmp_path / "a.parquet").write_bytes(b"not one")
    assert "not a Parquet file" in refused(tmp_path / "a.parquet")
    (tmp_path / "c.csv").write_text('instruction,output\n"open,quote\n')
    assert "not valid CSV" in refused(tmp_path / "c.csv")
    (tmp_path / "d.jsonl").write_text('{"instruction": ""}\n')
    assert "none of its 1 rows can be used (most often: the instruction is empty)" in refused(tmp_path / "d.jsonl")
    assert "Shipped with lingo-hitl: sample:ko, sample:en" in refused("sample:fr")


def test_a_missing_column_names_those_there_and_the_nearest(tmp_path):
    path = write(tmp_path / "a.csv", PAIRS, names=("quesion", "answer"))
    message = refused(path, columns={"instruction": "question"})
    assert "has no column 'question'" in message and "Did you mean 'quesion'?" in message
    assert "Columns found: quesion, answer" in message
    assert "Say which it is in corpus.columns.instruction" in refused(path)


def test_a_row_in_two_corpora_is_kept_once(tmp_path):
    one, two = write(tmp_path / "one.csv", PAIRS[:2]), write(tmp_path / "two.jsonl", PAIRS[1:])
    outcome = read_corpus([Corpus(path=str(one)), Corpus(path=str(two))])
    assert pairs_of(outcome) == PAIRS
    assert outcome.report == {"rows by source": {"one": 2, "two": 1}}


def test_hashes_follow_the_content(tmp_path):
    path = write(tmp_path / "a.csv", PAIRS)
    assert corpus_hashes([Corpus(path=str(path))]) == {str(path): hashlib.sha256(path.read_bytes()).hexdigest()}
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "x").write_text("1")
    before = corpus_hashes([Corpus(path=str(folder))])
    (folder / "x").write_text("2")
    assert corpus_hashes([Corpus(path=str(folder))]) != before
    assert corpus_hashes([Corpus(path="beomi/KoAlpaca")]) == {"beomi/KoAlpaca": "beomi/KoAlpaca"}


def test_a_line_separator_inside_a_text_does_not_end_a_line(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"instruction": "가\u2028나\x85다"}, ensure_ascii=False), encoding="utf-8")
    assert pairs_of(read(path)) == [("가\u2028나\x85다", "")]


def test_real_files(shared):
    songs = read(shared / "data" / "ko_chatbot_songys.csv", limit=500)
    assert songs.rows.num_rows + len(songs.dropped) == 500
    assert songs.rows["instruction"][0].as_py() == "12시 땡!"
    square = read(shared / "data" / "square_question_test.json", limit=300)
    assert set(square.rows["language"].to_pylist()) == {"ko"} and set(square.rows["output"].to_pylist()) == {""}


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([".jsonl", ".json", ".csv", ".tsv", ".parquet"]))
def test_no_file_whatever_crashes_the_reader(tmp_path_factory, data, ending):
    path = tmp_path_factory.mktemp("corpus") / f"a{ending}"
    path.write_bytes(data)
    try:
        read(path)
    except UserError as error:
        assert str(path) in str(error)
