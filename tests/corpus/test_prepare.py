import json
import random
import unicodedata

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingo_hitl.config import Corpus, PrepareConfig
from lingo_hitl.corpus.prepare import PREPARED, prepare
from lingo_hitl.errors import UserError
from lingo_hitl.records import DROPPED

NONE = PrepareConfig(deduplicate="none")
NEAR = PrepareConfig(deduplicate="near")


def written(path, rows):
    """One JSON object a line; half surrogate pairs as JSON escapes them."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def qa(*pairs):
    return [{"instruction": asked, "output": answered} for asked, answered in pairs]


def pairs_of(outcome):
    return [(row["instruction"], row["output"]) for row in outcome.rows.to_pylist()]


def reasons_of(outcome):
    return [row["reason"] for row in outcome.dropped.to_pylist()]


def refused(corpora, **options):
    with pytest.raises(UserError) as caught:
        prepare(corpora, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_exact_rows_are_those_of_the_original(shared):
    """Its rows and their order after the stable sort by length, on the golden sources."""
    golden = shared / "golden" / "koquality"
    outcome = prepare([Corpus(path=str(golden / name)) for name in ("src_a.csv", "src_b.jsonl")], exact=True)
    rows = sorted(outcome.rows.to_pylist(), key=lambda row: row["length"])
    expected = [json.loads(line) for line in (golden / "raw_sorted.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(row["instruction"], row["output"], row["length"]) for row in rows] == [
        (row["instruction"], row["output"], row["len"]) for row in expected
    ]


def test_exact_strips_the_instruction_alone_and_keeps_every_repeat(tmp_path):
    decomposed = unicodedata.normalize("NFD", "한글")
    rows = qa(
        ("\u3000질문\n", " 답\n"),
        (decomposed, "답"),
        ("질문", "답"),
        ("질문", "답"),
        (" ", "답"),
        ("질문", ""),
        ("질문", " "),
    )
    rows += [{"instruction": "질문", "output": None}, {"instruction": None, "output": "답"}]
    outcome = prepare([Corpus(path=written(tmp_path / "a.jsonl", rows))], exact=True)
    assert pairs_of(outcome) == [("질문", " 답\n"), (decomposed, "답"), ("질문", "답"), ("질문", "답"), ("질문", " ")]
    assert outcome.rows["id"].to_pylist() == ["000000001", "000000002", "000000003", "000000004", "000000007"]
    empty = ["the instruction is empty", "the output is empty"]
    assert reasons_of(outcome) == [*empty, empty[1], empty[0]]


def test_exact_joins_an_input_by_one_space_and_counts_on_over_files(tmp_path):
    kullm = [
        {"id": "alpaca_gpt4_1", "instruction": "요약해라", "input": "글", "output": "답"},
        {"id": "vicuna_2", "instruction": "요약해라 ", "input": None, "output": "답"},
        {"id": "dolly_3", "instruction": "", "input": "글만", "output": "답"},
    ]
    one, two = written(tmp_path / "one.jsonl", qa(("질문", "답"))), written(tmp_path / "two.jsonl", kullm)
    rows = prepare([Corpus(path=one), Corpus(path=two, preset="kullm")], exact=True).rows.to_pylist()
    assert [(row["id"], row["source"], row["instruction"]) for row in rows] == [
        ("000000001", "one", "질문"),
        ("000000002", "alpaca", "요약해라 글"),
        ("000000003", "vicuna", "요약해라"),
        ("000000004", "dolly", "글만"),
    ]


def test_exact_refuses_what_the_original_does_not_do(tmp_path):
    corpora = [Corpus(path=written(tmp_path / "a.jsonl", qa(("질문", "답"))))]
    assert "prepare.deduplicate is 'near'" in refused(corpora, exact=True, config=NEAR)
    assert "prepare.languages is ['ko']" in refused(corpora, exact=True, config=PrepareConfig(languages=["ko"]))
    assert prepare(corpora, exact=True, config=NONE).rows.num_rows == 1


def test_balanced_cleans_both_texts(tmp_path):
    rows = qa((unicodedata.normalize("NFD", " 한글"), "답 \n"), ("질문", "\u3000"))
    outcome = prepare([Corpus(path=written(tmp_path / "a.jsonl", rows))])
    assert pairs_of(outcome) == [("한글", "답")]
    assert outcome.rows["length"].to_pylist() == [2]
    assert reasons_of(outcome) == ["the output is empty"]


def test_a_source_of_questions_alone_loses_none_for_want_of_an_answer(tmp_path):
    path = written(tmp_path / "a.jsonl", [{"question": "왜?"}, {"question": "어떻게?"}])
    for exact in (True, False):
        assert pairs_of(prepare([Corpus(path=path)], exact=exact)) == [("왜?", ""), ("어떻게?", "")]


def test_what_cannot_be_used_is_dropped_with_its_reason_and_kept_in_full(tmp_path):
    rows = [
        {"instruction": "좋은 질문", "output": "답"},
        {"instruction": "반쪽 \ud83d 그림", "output": "답"},
        {"instruction": "질문", "output": "\udc00"},
        {"instruction": 5, "output": "답"},
        {"instruction": "질문", "output": ["목록"]},
        {"instruction": "질문", "output": "답", "score": "높음"},
        {"instruction": "질문", "output": "답", "score": float("inf")},
        {"instruction": "질문 둘", "output": "답", "score": "3.5"},
    ]
    corpus = Corpus(path=written(tmp_path / "a.jsonl", rows), columns={"quality": "score"})
    outcome = prepare([corpus])
    assert outcome.rows.schema == PREPARED and outcome.dropped.schema == DROPPED
    assert outcome.rows["quality"].to_pylist() == [None, 3.5]
    assert reasons_of(outcome) == [
        "the instruction holds half a surrogate pair",
        "the output holds half a surrogate pair",
        "the instruction is not a text",
        "the output is not a text",
        "the quality is not a number",
        "the quality is not a number",
    ]
    assert [json.loads(row)["columns"] for row in outcome.dropped["row"].to_pylist()] == rows[1:-1]
    assert [json.loads(row)["position"] for row in outcome.dropped["row"].to_pylist()] == [2, 3, 4, 5, 6, 7]
    pq.write_table(outcome.dropped, tmp_path / "dropped.parquet")


@pytest.mark.parametrize("exact", [True, False])
def test_nul_and_very_long_texts_are_kept(tmp_path, exact):
    pairs = [("널\0문자", "답\0"), ("가" * 200_000, "나" * 200_000)]
    outcome = prepare([Corpus(path=written(tmp_path / "a.jsonl", qa(*pairs)))], exact=exact)
    assert pairs_of(outcome) == pairs
    assert outcome.rows["length"].to_pylist() == [4, 200_000]
    pq.write_table(outcome.rows, tmp_path / "rows.parquet")
    assert pq.read_table(tmp_path / "rows.parquet").equals(outcome.rows)


def test_given_ids_are_kept_and_a_blank_one_is_made(tmp_path):
    rows = [
        {"no": number, **pair}
        for number, pair in zip([10, "b-7", "", None], qa(*["가A", "나B", "다C", "라D"]), strict=True)
    ]
    corpus = Corpus(path=written(tmp_path / "a.jsonl", rows), columns={"id": "no"})
    ids = prepare([corpus]).rows["id"].to_pylist()
    assert ids[:2] == ["10", "b-7"] and len(set(ids[2:])) == 2 and all(len(name) == 16 for name in ids[2:])
    assert prepare([corpus], exact=True).rows["id"].to_pylist() == ["10", "b-7", "000000003", "000000004"]


def test_an_id_that_comes_twice_stops_and_names_both_places(tmp_path):
    one = written(tmp_path / "one.jsonl", [{"no": 1, **row} for row in qa(("가", "나"))])
    two = written(tmp_path / "two.jsonl", [{"no": n, **row} for n, row in enumerate(qa(("다", "라"), ("마", "바")))])
    message = refused([Corpus(path=path, columns={"id": "no"}) for path in (one, two)])
    assert f"{two} row 2: its id '1' is also that of {one} row 1" in message and "--id-column" in message


def test_made_ids_follow_the_content_and_repeats_are_numbered(tmp_path):
    rows = qa(("질문", "답"), ("다른", "답"), (" 질문", "답"), ("질문", "답\n"))
    path = written(tmp_path / "a.jsonl", rows)
    first, other, *again = prepare([Corpus(path=path)], config=NONE).rows["id"].to_pylist()
    assert again == [f"{first}-2", f"{first}-3"]
    assert prepare([Corpus(path=path)]).rows["id"].to_pylist() == [first, other]
    elsewhere = prepare([Corpus(path=path, source="b")]).rows["id"].to_pylist()
    assert not {first, other} & set(elsewhere)


def test_of_equal_rows_one_stays_and_the_others_name_it(tmp_path):
    rows = qa(("질문", "답"), ("질문", "답"), ("질문", "다른 답"))
    outcome = prepare([Corpus(path=written(tmp_path / "a.jsonl", rows))])
    assert pairs_of(outcome) == [("질문", "답"), ("질문", "다른 답")]
    assert reasons_of(outcome) == ["a row with the same instruction and output is kept"]
    assert json.loads(outcome.dropped["row"][0].as_py())["duplicate_of"] == outcome.rows["id"][0].as_py()


NEARLY = [
    ("서울에서 부산까지 기차로 얼마나 걸리는지 알려 주세요.", "세 시간"),
    ("서울에서 부산까지 기차로 얼마나 걸리는지 알려주세요!", "KTX로 두 시간 반쯤 걸립니다."),
    ("서울에서 부산까지 기차로 얼마나 걸리는지 알려 주세요.", "세 시간"),
    ("김치찌개를 맛있게 끓이는 방법이 궁금합니다.", "김치를 볶습니다."),
]


def test_of_nearly_equal_instructions_the_fullest_answer_stays(tmp_path):
    outcome = prepare([Corpus(path=written(tmp_path / "a.jsonl", qa(*NEARLY)))], config=NEAR)
    assert pairs_of(outcome) == [NEARLY[1], NEARLY[3]]
    assert reasons_of(outcome) == ["a row with nearly the same instruction is kept"] * 2
    kept = {json.loads(row)["duplicate_of"] for row in outcome.dropped["row"].to_pylist()}
    assert kept == {outcome.rows["id"][0].as_py()}


def test_a_better_quality_stays_before_a_longer_answer(tmp_path):
    rows = [{**row, "score": score} for row, score in zip(qa(*NEARLY), [5, 2, None, 1], strict=True)]
    corpus = Corpus(path=written(tmp_path / "a.jsonl", rows), columns={"quality": "score"})
    assert pairs_of(prepare([corpus], config=NEAR)) == [NEARLY[0], NEARLY[3]]


@pytest.mark.parametrize("names", [("b", "a", "c", "d"), ("c", "b", "a", "d")])
def test_of_equal_answers_the_smallest_id_stays(tmp_path, names):
    pairs = [(asked, "답") for asked, _ in NEARLY]
    rows = [{"no": name, **row} for name, row in zip(names, qa(*pairs), strict=True)]
    corpus = Corpus(path=written(tmp_path / "a.jsonl", rows), columns={"id": "no"})
    assert prepare([corpus], config=NEAR).rows["id"].to_pylist() == ["a", "d"]


@pytest.mark.parametrize("scores", [(1, None, 5), (5, 1, None)])
def test_the_best_of_equal_rows_has_the_bare_id(tmp_path, scores):
    rows = [{**row, "score": score} for row, score in zip(qa(*[("질문", "답")] * 3), scores, strict=True)]
    found = prepare([Corpus(path=written(tmp_path / "a.jsonl", rows), columns={"quality": "score"})], config=NONE).rows
    quality = {row["id"].partition("-")[2]: row["quality"] for row in found.to_pylist()}
    assert quality == {"": 5.0, "2": 1.0, "3": None}


def test_the_similarity_is_the_one_asked_for(tmp_path):
    corpus = Corpus(path=written(tmp_path / "a.jsonl", qa(*NEARLY)))
    strict = PrepareConfig(deduplicate="near", similarity=1.0)
    assert pairs_of(prepare([corpus], config=strict)) == [NEARLY[0], NEARLY[1], NEARLY[3]]


def test_languages_that_were_not_asked_for_are_dropped(tmp_path):
    rows = qa(("별은 왜 반짝이나요?", "공기"), ("Why do stars twinkle?", "Air."), ("星はなぜ光りますか", "空気のため"))
    corpora = [Corpus(path=written(tmp_path / "a.jsonl", rows))]
    assert prepare(corpora).rows["language"].to_pylist() == ["ko", "en", "other"]
    outcome = prepare(corpora, config=PrepareConfig(languages=["ko", "en"]))
    assert outcome.rows["language"].to_pylist() == ["ko", "en"]
    assert reasons_of(outcome) == ["it is in none of the languages asked for"]
    only = [Corpus(path=corpora[0].path, language="en")]
    assert "none of the 3 rows is left: it is in none of" in refused(only, config=PrepareConfig(languages=["ko"]))


def test_the_report_counts_each_source(tmp_path):
    one = written(tmp_path / "one.jsonl", qa(("가나다", "답"), ("가나다라마", "답"), ("", "답"), ("가나다", "답")))
    two = written(tmp_path / "two.jsonl", qa(("Hello there", "Hi"), ("", "답"), ("질문", 3)))
    report = prepare([Corpus(path=one), Corpus(path=two)]).report["sources"]
    assert report["one"] == {
        "rows": 4,
        "kept": 2,
        "dropped": {"the instruction is empty": 1, "a row with the same instruction and output is kept": 1},
        "length": {"mean": 4.0, "median": 4.0},
        "languages": {"ko": 2},
    }
    assert report["two"]["rows"] == 3 and report["two"]["languages"] == {"en": 1}
    assert report["two"]["dropped"] == {"the instruction is empty": 1, "the output is not a text": 1}
    json.dumps(report)


def test_one_row_no_rows_and_none_of_use(tmp_path):
    one = written(tmp_path / "one.jsonl", qa(("하나", "답")))
    for options in ({"exact": True}, {"config": NEAR}, {"config": NONE}):
        assert pairs_of(prepare([Corpus(path=one)], **options)) == [("하나", "답")]
    (tmp_path / "none.csv").write_text("instruction,output\n")
    assert "has no rows" in refused([Corpus(path=one), Corpus(path=str(tmp_path / "none.csv"))])
    useless = written(tmp_path / "useless.jsonl", qa(("", "답"), ("질문", "")))
    assert "none of its 2 rows can be used" in refused([Corpus(path=one), Corpus(path=useless)], exact=True)
    assert "no such file" in refused([Corpus(path=str(tmp_path / "missing.jsonl"))])
    assert "has no column 'no' (corpus.columns.id)" in refused([Corpus(path=one, columns={"id": "no"})])


def test_more_rows_than_a_batch_keep_their_order(tmp_path):
    table = pa.table({"instruction": [f"질문 {n}" for n in range(25_000)], "output": ["답"] * 25_000})
    pq.write_table(table, tmp_path / "a.parquet")
    outcome = prepare([Corpus(path=str(tmp_path / "a.parquet"))], exact=True)
    assert outcome.rows["instruction"].to_pylist() == table["instruction"].to_pylist()
    assert outcome.rows["id"][-1].as_py() == "000025000"
    assert outcome.rows.column(0).num_chunks > 1


words = st.sampled_from(["서울", "부산", "기차", "알려 주세요", "얼마나 걸리나요", "Why", " ", "", "\ud800", "\0"])
texts = st.lists(words, max_size=6).map(" ".join) | st.none() | st.integers()
some_rows = st.lists(st.fixed_dictionaries({"instruction": texts, "output": texts}), min_size=1, max_size=12)
configs = st.builds(
    PrepareConfig,
    deduplicate=st.sampled_from(["none", "exact", "near"]),
    languages=st.sampled_from([None, ["ko"], ["ko", "en"]]),
    similarity=st.sampled_from([0.5, 0.8, 1.0]),
)
SURE = [{"instruction": "한국의 수도는 어디인가요?", "output": "서울"}]  # each source has a row that can be used


def prepared(folder, parts, **options):
    corpora = [
        Corpus(path=written(folder / f"{n}.jsonl", part + SURE), columns={"instruction": "instruction"}, source="s")
        for n, part in enumerate(parts)
    ]
    return prepare(corpora, **options)


@settings(max_examples=60, deadline=None)
@given(
    parts=st.lists(some_rows, min_size=1, max_size=3),
    options=configs.map(lambda c: {"config": c}) | st.just({"exact": True}),
)
def test_no_row_is_lost_and_no_id_comes_twice(tmp_path_factory, parts, options):
    outcome = prepared(tmp_path_factory.mktemp("corpus"), parts, **options)
    assert outcome.rows.num_rows + outcome.dropped.num_rows == sum(len(part) + 1 for part in parts)
    assert len(set(outcome.rows["id"].to_pylist())) == outcome.rows.num_rows
    ids = set(outcome.rows["id"].to_pylist())
    for row in map(json.loads, outcome.dropped["row"].to_pylist()):
        assert row.get("duplicate_of") is None or row["duplicate_of"] in ids
    assert sum(source["rows"] for source in outcome.report["sources"].values()) == sum(len(p) + 1 for p in parts)


@settings(max_examples=60, deadline=None)
@given(rows=some_rows, config=configs, seed=st.integers(0, 1000))
def test_what_is_kept_does_not_depend_on_the_order_of_rows(tmp_path_factory, rows, config, seed):
    folder = tmp_path_factory.mktemp("corpus")
    shuffled = random.Random(seed).sample(rows, len(rows))
    first, second = (prepared(folder, [part], config=config).rows.sort_by("id") for part in (rows, shuffled))
    assert first.equals(second)
