"""The stage against a scripted judge, a tiny local model, and the packaged one."""

import json

import pyarrow as pa
import pytest

from lingo_hitl.config import JudgeConfig
from lingo_hitl.errors import UserError
from lingo_hitl.judging.judge import judge
from lingo_hitl.models.journal import Journal
from lingo_hitl.models.session import Session
from lingo_hitl.records import GENERATED, JUDGED, identified, to_table
from tests.providers import serving

BASE = {"seed": "s", "source": "songs", "source_id": "1", "language": "ko"}
PREFERENCE = identified(
    {**BASE, "task": "preference", "instruction": "별이란?", "completions": ["천체", "돌"], "models": ["a", "b"],
     "reference": "빛나는 천체"}
)  # fmt: skip
INSTRUCTION = identified(
    {**BASE, "task": "instruction", "instruction": "What is a star?", "output": "A sun.", "models": ["reference"],
     "language": "en"}
)  # fmt: skip
UNANSWERED = identified({**BASE, "task": "instruction", "instruction": "답이 없는 질문", "output": "", "models": ["x"]})
DIALOGUE = identified(
    {**BASE, "task": "dialogue", "instruction": "왜?", "reference": "대기 때문", "models": ["p"], "persona": "orbit",
     "messages": [{"role": "user", "content": "왜?"}, {"role": "assistant", "content": "공기 때문이에요."}]}
)  # fmt: skip


def judged(server, *rows, journal=None, judges=("judge",), **options):
    table = to_table(rows, GENERATED)
    config = JudgeConfig(judges=[server.spec(name, name=name) for name in judges], **options)
    return judge(table, config, session=Session(journal or Journal.in_memory()))


def by_label(ratings):
    return "\n\n".join(f"#### 글 {n}의 평가\n평점: {r}\n근거: 까닭 {n}" for n, r in enumerate(ratings, start=1))


def test_ratings_stand_in_the_order_of_the_texts():
    with serving(lambda model, messages: "평가입니다.\n\n" + by_label([4, 2])) as server:
        outcome = judged(server, PREFERENCE)
        ((system, question),) = server.asked_of("judge")
    (row,) = outcome.rows.to_pylist()
    assert (row["ratings"], row["rationales"], row["judge"]) == ([4.0, 2.0], ["까닭 1", "까닭 2"], "judge")
    assert row["confidence"] == [None, None]  # one judge that gives one number
    assert [outcome.rows.schema.field(n).type for n in JUDGED.names] == [f.type for f in JUDGED]
    assert "글 2개" in system["content"]
    assert "지시문: 별이란?" in question["content"] and "<글 1> 천체" in question["content"]
    assert "빛나는 천체" not in question["content"]  # the reference may be one of the texts
    assert outcome.report["texts rated"] == 2 and outcome.report["models"]["openai/judge"]["calls"] == 1


def test_each_task_is_asked_about_in_its_own_way_and_language():
    def script(model, messages):
        text = messages[-1]["content"]
        return "점수: 3.5\n근거: 대체로" if "대화:" in text else "Rating: 5\nRationale: yes"

    with serving(script) as server:
        outcome = judged(server, INSTRUCTION, UNANSWERED, DIALOGUE, aspects=["truthfulness"])
        asked = ["\n".join(m["content"] for m in messages) for messages in server.asked_of("judge")]
    assert [row["ratings"] for row in outcome.rows.to_pylist()] == [[5.0], [None], [3.5]]
    assert [row["judge"] for row in outcome.rows.to_pylist()] == ["judge", None, "judge"]
    assert len(asked) == 2
    assert "Truthfulness and Hallucination" in asked[0] and "A sun." in asked[0]
    assert "확인된 사실:\n대기 때문" in asked[1] and "assistant: 공기 때문이에요." in asked[1]


def test_a_reply_that_cannot_be_read_is_shown_to_the_judge_once_more():
    def script(model, messages):
        return by_label([4, 2]) if len(messages) > 2 else "#### 글 1의 평가\n평점: 5\n\n둘째는 글쎄요."

    with serving(script) as server:
        outcome = judged(server, PREFERENCE)
        first, second = server.asked_of("judge")
    assert outcome.rows.to_pylist()[0]["ratings"] == [5.0, 2.0]  # the first reply's own rating stays
    assert outcome.report["asked again"] == 1
    assert second[:2] == first and second[2]["role"] == "assistant"
    assert "Text 2: no rating for text 2" in second[3]["content"]


def test_what_no_judge_can_rate_is_dropped_with_the_reason():
    with serving(lambda model, messages: "둘 다 좋은 글입니다.") as server:
        outcome = judged(server, PREFERENCE, DIALOGUE, UNANSWERED)
    assert [row["id"] for row in outcome.rows.to_pylist()] == [UNANSWERED["id"]]
    assert {row["reason"] for row in outcome.dropped} == {"no judge could rate it: no rating found"}
    assert json.loads(outcome.dropped[0]["row"])["completions"] == ["천체", "돌"]


def test_a_failing_judge_is_asked_twice_and_named():
    with serving(lambda model, messages: None if model == "down" else by_label([4, 2])) as server:
        both = judged(server, PREFERENCE, judges=("judge", "down"))
        alone = judged(server, PREFERENCE, judges=("down",))
    assert both.rows.to_pylist()[0]["judge"] == "judge"
    assert alone.rows.num_rows == 0 and alone.dropped[0]["reason"].startswith("no judge could rate it: ")


def test_several_judges_and_aspects_give_one_rating_with_its_confidence():
    def script(model, messages):
        depth = "깊이 평가" in messages[1]["content"]
        return by_label([5, 1] if model == "kind" else [3, 1] if depth else [4, 1])

    with serving(script) as server:
        outcome = judged(server, PREFERENCE, judges=("kind", "strict"), aspects=["depth", "honesty"])
    (row,) = outcome.rows.to_pylist()
    assert row["ratings"] == [4.25, 1.0] and row["judge"] == "kind + strict"
    assert row["confidence"] == [pytest.approx(1 - 0.75 / 2), 1.0]
    assert (
        row["rationales"][0].splitlines()[0] == "[kind · depth] 까닭 1" and len(row["rationales"][0].splitlines()) == 4
    )


@pytest.mark.parametrize("aspect", ["overall-rating", "helpfulness", "relevance", "depth", "creativity", "honesty",
                                    "truthfulness", "instruction-following"])  # fmt: skip
def test_every_aspect_has_its_wording_in_both_languages(aspect):
    with serving(lambda model, messages: by_label([4]) if "평점" in messages[1]["content"] else "Rating: 4") as server:
        korean = {**INSTRUCTION, "language": "ko", "id": "x"}
        outcome = judged(server, INSTRUCTION, korean, aspects=[aspect])
        said = [messages[1]["content"].splitlines()[0] for messages in server.asked_of("judge")]
    assert outcome.report["texts rated"] == 2 and len(set(said)) == 2


def test_without_judges_rows_go_on_with_nulls():
    outcome = judge(to_table([PREFERENCE, DIALOGUE], GENERATED), JudgeConfig(), session=Session.in_memory())
    rows = outcome.rows.to_pylist()
    assert [row["ratings"] for row in rows] == [[None, None], [None]]
    assert [row["judge"] for row in rows] == [None, None] and outcome.dropped == []


def test_a_rerun_asks_nothing(tmp_path):
    with serving(lambda model, messages: by_label([4, 2])) as server:
        first = judged(server, PREFERENCE, journal=Journal(tmp_path / "j"))
        again = judged(server, PREFERENCE, journal=Journal(tmp_path / "j"))
        assert len(server.asked) == 1
    assert again.rows.equals(first.rows)


def test_no_rows_are_no_rows():
    outcome = judge(to_table([], GENERATED), JudgeConfig(judges=["packaged/smollm2-135m"]), session=Session.in_memory())
    assert outcome.rows.num_rows == 0 and outcome.rows.schema.names == [*GENERATED.names, *JUDGED.names]
    assert isinstance(outcome.rows, pa.Table)


def test_probabilities_of_a_model_that_has_none_are_refused():
    with serving(lambda model, messages: "4") as server:
        with pytest.raises(UserError, match="gives texts, no probabilities"):
            judged(server, PREFERENCE, method="probabilities")
        assert server.asked == []


@pytest.mark.model
def test_the_packaged_model_rates_by_its_probabilities():
    english = {
        **PREFERENCE,
        "language": "en",
        "instruction": "What is a star?",
        "completions": ["A sun.", "x " * 5_000],
    }
    rows = to_table([PREFERENCE, english, INSTRUCTION, UNANSWERED, DIALOGUE], GENERATED)
    outcome = judge(rows, JudgeConfig(judges=["packaged/smollm2-135m"]), session=Session.in_memory())
    ratings = [rating for row in outcome.rows.to_pylist() for rating in row["ratings"]]
    assert len(ratings) == 7 and ratings[5] is None
    assert all(1 <= rating <= 5 for rating in ratings if rating is not None)
    first = outcome.rows.to_pylist()[0]
    assert all(0 <= confidence <= 1 for confidence in first["confidence"])
    assert "다음 토큰 확률" in first["rationales"][0] and first["judge"] == "smollm2-135m"
