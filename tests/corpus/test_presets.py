import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lingo_hitl.config import Corpus
from lingo_hitl.corpus.prepare import prepare
from lingo_hitl.corpus.presets import first_exchange
from lingo_hitl.corpus.seeds import read_corpus
from lingo_hitl.errors import UserError

KOALPACA = [{"instruction": "양파는 줄기인가요?", "output": "네, 줄기입니다.", "url": "https://kin.example/1"}]
KULLM = [
    {"id": "alpaca_gpt4_0", "instruction": "요약해라.", "input": "긴 글이다.", "output": "짧은 글."},
    {"id": "dolly_7", "instruction": "하늘은 왜 파란가?", "input": "", "output": "빛이 흩어져서."},
]
OIG = [
    {
        "user": "Why is the sky blue?",
        "chip2": "Light scatters.",
        "index": 3,
        "user_translated": "하늘은 왜 파란가요?",
        "chip2_translated": "빛이 흩어집니다.",
    }
]
ALPACA = [{"instruction": "고쳐라", "input": "안뇽", "output": "안녕", "text": "Below is an instruction ..."}]
DOLLY = [{"instruction": "누가 썼나?", "context": "이 책은 김이 썼다.", "response": "김.", "category": "closed_qa"}]
SHAREGPT = [
    {
        "id": "QWJhYvA_0",
        "conversations": [
            {"from": "gpt", "value": "앞에서 잘린 답"},
            {"from": "human", "value": "첫 질문"},
            {"from": "gpt", "value": "첫 답"},
            {"from": "human", "value": "둘째 질문"},
            {"from": "gpt", "value": "둘째 답"},
        ],
    }
]
MESSAGES = [
    {
        "messages": [
            {"role": "system", "content": [{"type": "text", "text": "친절히 답하라"}]},
            {"role": "user", "content": [{"type": "text", "text": "첫"}, {"type": "text", "text": "질문"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "답"}]},
        ]
    }
]
LAYOUTS = {
    "koalpaca": (KOALPACA, [("koalpaca", "양파는 줄기인가요?", "네, 줄기입니다.")]),
    "kullm": (
        KULLM,
        [("alpaca", "요약해라.\n\n긴 글이다.", "짧은 글."), ("dolly", "하늘은 왜 파란가?", "빛이 흩어져서.")],
    ),
    "oig-ko": (OIG, [("oig", "하늘은 왜 파란가요?", "빛이 흩어집니다.")]),
    "alpaca": (ALPACA, [("rows", "고쳐라\n\n안뇽", "안녕")]),
    "dolly": (DOLLY, [("rows", "누가 썼나?\n\n이 책은 김이 썼다.", "김.")]),
    "sharegpt": (SHAREGPT, [("rows", "첫 질문", "첫 답")]),
    "messages": (MESSAGES, [("rows", "첫\n질문", "답")]),
}


def written(folder, rows, ending=".jsonl"):
    path = folder / f"rows{ending}"
    if ending == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def found(corpus):
    rows = prepare([corpus]).rows.to_pylist()
    return [(row["source"], row["instruction"], row["output"]) for row in rows]


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_a_named_corpus_is_read_as_it_is_laid_out(tmp_path, name, ending):
    rows, expected = LAYOUTS[name]
    corpus = Corpus(path=str(written(tmp_path, rows, ending)), preset=name)
    assert found(corpus) == expected
    seeds = read_corpus([corpus]).rows.to_pylist()
    assert [(row["instruction"], row["output"]) for row in seeds] == [
        (asked, answered) for _, asked, answered in expected
    ]


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_layout_is_found_out_where_no_preset_is_given(tmp_path, name):
    rows, expected = LAYOUTS[name]
    texts = [(instruction, output) for _, instruction, output in found(Corpus(path=str(written(tmp_path, rows))))]
    assert texts == [(instruction, output) for _, instruction, output in expected]


def test_the_source_of_the_config_goes_before_that_of_the_preset(tmp_path):
    corpus = Corpus(path=str(written(tmp_path, KULLM)), preset="kullm", source="mine")
    assert {source for source, _, _ in found(corpus)} == {"mine"}


def test_a_conversation_goes_before_a_prompt_without_an_answer(tmp_path):
    """As in UltraChat, whose `prompt` is the first message again."""
    rows = [
        {"prompt": "질문", "messages": [{"role": "user", "content": "질문"}, {"role": "assistant", "content": "답"}]}
    ]
    assert found(Corpus(path=str(written(tmp_path, rows)))) == [("rows", "질문", "답")]


def test_a_preset_that_does_not_fit_says_what_it_misses(tmp_path):
    path = written(tmp_path, ALPACA)
    with pytest.raises(UserError, match=r"no column 'conversations', which preset 'sharegpt' expects.*instruction, in"):
        prepare([Corpus(path=str(path), preset="sharegpt")])
    with pytest.raises(UserError, match=r"both corpus\.preset .* and corpus\.columns\.output"):
        prepare([Corpus(path=str(path), preset="alpaca", columns={"output": "text"})])


def said(*turns):
    return [{"from": who, "value": text} for who, text in turns]


@pytest.mark.parametrize(
    ("turns", "exchange"),
    [
        ([], (None, None)),
        (None, (None, None)),
        (said(("gpt", "답만")), (None, None)),
        (said(("human", "묻고"), ("human", "또"), ("gpt", "답")), ("묻고", None)),
        (said(("user", "묻고"), ("tool", "1"), ("assistant", "답")), ("묻고", "답")),
        (said(("human", "묻고"), ("gpt", None)), ("묻고", None)),
        ("질문", (["질문"], None)),
    ],
)
def test_the_first_question_and_the_answer_that_follows(turns, exchange):
    texts = first_exchange(turns)
    assert (texts.instruction, texts.output) == exchange


def test_a_question_with_a_picture_is_dropped_whole(tmp_path):
    picture = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    asked = {"role": "user", "content": [{"type": "text", "text": "이게 뭐야?"}, picture]}
    rows = [*MESSAGES, {"messages": [asked, {"role": "assistant", "content": "고양이"}]}, {"messages": "질문"}]
    outcome = prepare([Corpus(path=str(written(tmp_path, rows)), preset="messages")])
    dropped = outcome.dropped.to_pylist()
    assert [row["reason"] for row in dropped] == ["the instruction is not a text"] * 2
    assert json.loads(dropped[0]["row"])["columns"] == rows[1]
