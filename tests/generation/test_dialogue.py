"""Two agents against a scripted server: what each is shown, and how dialogues end."""

import pytest

from lingo_hitl.config import GenerateConfig
from lingo_hitl.errors import UserError
from lingo_hitl.models.journal import Journal
from lingo_hitl.records import GENERATED, content_id, seen_texts
from tests.generation.seeds import grown, seed, table
from tests.providers import openai_error, serving

SEED = seed("별은 왜 반짝이나요?", "대기가 흔들리기 때문입니다.")


def talk(server, personas, seeds=(SEED,), turns=3, journal=None, user=None, assistant=None, **options):
    config = {
        "user": server.spec("user", **(user or {})),
        "assistant": server.spec("persona", **(assistant or {})),
        "personas": personas,
        "target_turns": turns,
        **options,
    }
    return grown(table(*seeds), GenerateConfig(dialogue=config), journal=journal)


def numbered(model, messages):
    """Each agent says its name and how many messages it saw."""
    return f"{model} {len(messages)}" + ("?" if model == "user" else ".")


def contents(row):
    return [m["content"] for m in row["messages"]]


def test_each_agent_sees_the_conversation_from_its_own_side(personas):
    with serving(numbered) as server:
        outcome = talk(server, personas)
    (row,) = outcome.rows.to_pylist()
    assert outcome.rows.schema == GENERATED
    assert [m["role"] for m in row["messages"]] == ["user", "assistant"] * 3
    assert contents(row) == ["user 2?", "persona 2.", "user 4?", "persona 4.", "user 6?", "persona 6."]
    last_user, last_persona = server.asked_of("user")[-1], server.asked_of("persona")[-1]
    assert [m["role"] for m in last_user] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert [m["content"] for m in last_user[2:]] == contents(row)[:4]
    assert [m["role"] for m in last_persona] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert [m["content"] for m in last_persona[1:]] == contents(row)[:5]


def test_the_seed_answer_is_in_view_for_the_first_answer_only(personas):
    with serving(numbered) as server:
        row = talk(server, personas).rows.to_pylist()[0]
    first, *later = [messages[0]["content"] for messages in server.asked_of("persona")]
    assert "대기가 흔들리기 때문입니다." in first
    assert all("대기가 흔들리기" not in system for system in later)
    assert all("해요체" in system and "별 안내원" in system for system in [first, *later])
    assert all("'별일이네요' 많아야 1번" in system and "발사" not in system for system in [first, *later])
    opening = server.asked_of("user")[0]
    assert "별은 왜 반짝이나요?" in opening[1]["content"] and "사용자" in opening[0]["content"]
    assert (row["reference"], row["persona"], row["models"]) == ("대기가 흔들리기 때문입니다.", "orbit", ["persona"])
    assert row["instruction"] == row["messages"][0]["content"]
    assert row["id"] == content_id("dialogue", seen_texts(row))


def test_a_prefix_opens_and_suffixes_close_asked_for_and_made_sure_of(personas):
    def script(model, messages):
        told = messages[0]["content"].partition("이번 답은 '")[2].partition("'")[0]
        return told if told and len(messages) == 4 else numbered(model, messages)

    with serving(script) as server:
        (row,) = talk(server, personas, persona=["orbit"], use_answer_prefix=True).rows.to_pylist()
        (english,) = talk(
            server, personas, [seed("Why?", language="en")], persona=["orbit"], use_answer_prefix=True
        ).rows.to_pylist()
        (without,) = talk(server, personas, persona=["clio"], use_answer_prefix=True, turns=1).rows.to_pylist()
    first, middle, last = contents(row)[1::2]
    assert first == "오, 좋아요! persona 2."
    assert {middle, last.removeprefix("persona 6. ")} == {"또 물어보세요.", "하늘을 보세요."}
    shown = [messages[0]["content"] for messages in server.asked_of("persona")]
    assert "이번 답은 '오, 좋아요!'라는 말 그대로 시작" in shown[0] and "그대로 끝맺고" in shown[2]
    assert contents(english)[1::2] == ["Oh, good! persona 2.", *[f"persona {n}. Do ask again." for n in (4, 6)]]
    assert contents(without)[1] == "persona 2.", "clio has no prefixes"


def test_a_catchphrase_is_in_view_until_it_came_up_as_often_as_is_welcome(personas):
    def script(model, messages):
        return "별일이네요! 그래요." if (model, len(messages)) == ("persona", 2) else numbered(model, messages)

    with serving(script) as server:
        talk(server, personas)
    first, *later = [messages[0]["content"] for messages in server.asked_of("persona")]
    assert "'별일이네요' 많아야 1번" in first
    assert all("별일이네요" not in system and "입버릇" not in system for system in later)


def test_a_row_in_the_persona_s_words_is_the_first_turn_as_it_is(personas):
    styled = {**SEED, "output": "별은 대기 덕에 반짝여요!", "original": SEED["output"]}
    with serving(numbered) as server:
        (row,) = talk(server, personas, [styled], turns=2).rows.to_pylist()
        assert [len(messages) for _, messages in server.asked] == [4, 4]
    assert contents(row) == [SEED["instruction"], styled["output"], "user 4?", "persona 4."]
    assert row["reference"] == SEED["output"]


def test_personas_take_turns_and_english_seeds_get_english_prompts(personas):
    seeds = [seed("Why do stars twinkle?", "Air.", language="en"), seed("Who was Caesar?", language="en")]
    with serving(numbered) as server:
        rows = talk(server, personas, seeds, turns=1).rows.to_pylist()
    assert [row["persona"] for row in rows] == ["orbit"]  # both dialogues read the same: the second is dropped
    systems = [messages[0]["content"] for messages in server.asked_of("persona")]
    assert sorted("historian" in system for system in systems) == [False, True]
    assert all("Answer the user truthfully" in system for system in systems)
    assert sum("Known answer: Air." in system for system in systems) == 1


def test_a_system_prompt_of_the_spec_stands_before_the_agent_s_own(personas):
    with serving(numbered) as server:
        talk(server, personas, turns=1, assistant={"system_prompt": "짧게."})
    system = server.asked_of("persona")[0][0]["content"]
    assert system.startswith("짧게.\n\n당신은 별 안내원입니다.")


def test_the_user_agent_may_have_nothing_more_to_ask(personas):
    def script(model, messages):
        return "[끝]" if model == "user" and len(messages) > 2 else numbered(model, messages)

    with serving(script) as server:
        outcome = talk(server, personas)
    assert len(outcome.rows.to_pylist()[0]["messages"]) == 2
    assert outcome.report["dialogues that ended at a failed turn"] == 0


def test_a_failed_turn_shortens_a_dialogue_and_drops_one_without_a_turn(personas):
    def script(model, messages):
        if model == "persona" and (len(messages) > 2 or "옛일" in messages[0]["content"]):
            return None
        return numbered(model, messages) + messages[-1]["content"][-5:]

    with serving(script) as server:
        outcome = talk(server, personas, [SEED, seed("옛날에는?", "몰라요")])
    (row,) = outcome.rows.to_pylist()
    assert len(row["messages"]) == 2 and row["messages"][-1]["role"] == "assistant"
    (gone,) = outcome.dropped
    assert gone["reason"].startswith("no whole turn: assistant's turn failed:") and gone["task"] == "dialogue"
    assert outcome.report["dialogues that ended at a failed turn"] == 2


def test_after_a_failure_that_passes_a_dialogue_waits_for_the_next_run_as_it_would_have_begun(personas, tmp_path):
    left = [openai_error(500, "broken")] * 5
    with serving(numbered) as server:
        server.reply_to = lambda prompt: left.pop() if left else None
        first, second = (talk(server, personas, journal=Journal(tmp_path / "j")) for _ in range(2))
        assert len(server.asked) == 5 + 6
    assert first.unfinished and first.rows.num_rows == 0 and "user's turn failed" in first.dropped[0]["reason"]
    assert contents(second.rows.to_pylist()[0])[0] == "user 2?"


def test_a_reply_that_only_repeats_the_question_is_asked_for_again(personas):
    calls = []

    def script(model, messages):
        if model == "user":
            return "왜 반짝이나요?"
        calls.append(messages)
        return "왜 반짝이나요" if len(calls) < 3 else "공기 때문이에요."

    with serving(script) as server:
        (row,) = talk(server, personas, turns=1).rows.to_pylist()
    assert contents(row) == ["왜 반짝이나요?", "공기 때문이에요."] and len(calls) == 3


def test_an_opening_that_answers_is_replaced_by_the_seed_question(personas):
    with serving(lambda model, messages: "대기 때문이지요." if model == "user" else "맞아요.") as server:
        outcome = talk(server, personas, turns=2)
    (row,) = outcome.rows.to_pylist()
    assert contents(row) == ["별은 왜 반짝이나요?", "맞아요."]
    assert len(server.asked_of("user")) == 6  # three samples of the opening, three of the second question


def test_a_user_agent_that_answers_on_is_reminded_to_ask(personas):
    def script(model, messages):
        asking = len(messages) == 2 or "다음 질문을 하세요" in messages[-1]["content"]
        return numbered(model, messages) if model == "persona" or asking else "그렇군요."

    with serving(script) as server:
        (row,) = talk(server, personas, turns=2).rows.to_pylist()
        _, unasked, reminded = server.asked_of("user")
    assert len(row["messages"]) == 4
    assert unasked[-1]["content"] == row["messages"][1]["content"]
    assert reminded[:-1] == unasked[:-1]
    assert reminded[-1]["content"].startswith(f"{unasked[-1]['content']}\n\n(이제 ")
    assert "이제" not in server.asked_of("persona")[-1][2]["content"]


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("사용자: 왜 그런가요?", "왜 그런가요?"),
        ('"왜 그런가요?"', "왜 그런가요?"),
        ("**User:** why so?", "why so?"),
        ("왜 그런가요?\n\n인물: 그건요", "왜 그런가요?"),
        ('그가 "왜?"라고 묻나요?', '그가 "왜?"라고 묻나요?'),
    ],
)
def test_labels_quotes_and_the_other_s_turn_are_taken_off(personas, said, kept):
    with serving(lambda model, messages: said if model == "user" else "네.") as server:
        (row,) = talk(server, personas, turns=1).rows.to_pylist()
    assert contents(row)[0] == kept


def test_a_message_too_long_for_a_chat_field_ends_the_dialogue(personas):
    with serving(lambda model, messages: "왜?" if model == "user" else "가" * 20_001) as server:
        outcome = talk(server, personas, turns=1, assistant={"temperature": 0})
    assert "longer than 20,000 characters" in outcome.dropped[0]["reason"]


def test_a_rerun_asks_nothing(personas, tmp_path):
    with serving(numbered) as server:
        first = talk(server, personas, journal=Journal(tmp_path / "journal.sqlite"))
        asked = len(server.asked)
        again = talk(server, personas, journal=Journal(tmp_path / "journal.sqlite"))
        assert len(server.asked) == asked == 6
    assert again.rows.equals(first.rows)
    assert again.report["models"]["openai/user"]["replayed"] == 3


def test_an_answer_that_differs_only_in_its_phrase_is_a_repetition(personas):
    told = []

    def script(model, messages):
        if model == "user":
            return numbered(model, messages)
        told.append(messages)
        # As asked, the persona says the phrase of its turn itself.
        phrase = messages[0]["content"].partition("이번 답은 '")[2].partition("'")[0]
        air = "공기 때문이에요."
        return f"{[air, air, '빛이 흔들려요.', air, '눈이 떨려요.'][len(told) - 1]} {phrase}"

    with serving(script) as server:
        (row,) = talk(server, personas, persona=["orbit"], use_answer_prefix=True).rows.to_pylist()
    first, second, third = contents(row)[1::2]
    assert first == "공기 때문이에요. 오, 좋아요!"
    assert {second, third} in (
        {"빛이 흔들려요. 또 물어보세요.", "눈이 떨려요. 하늘을 보세요."},
        {"빛이 흔들려요. 하늘을 보세요.", "눈이 떨려요. 또 물어보세요."},
    )


@pytest.mark.parametrize(
    ("said", "turns"),
    [
        *[
            (said, 2)
            for said in (
                "설명해 봐.",
                "말해봐",
                "알려주십시오.",
                "가르쳐 주시죠",
                "예를 들어 주시겠어요.",
                "왜 그렇습니까",
                "Could you explain",
                "And how does it work",
                "더 궁금한 것은 왜 대기가 없는지예요. 알려 주세요.",
            )
        ],
        *[
            (said, 1)
            for said in (
                "[끝]",
                "끝",
                "끝이에요.",
                "끝입니다.",
                "감사합니다! [END]",
                "더 궁금한 것이 없습니다.",
                "아니요, 더 물을 게 없어요. 고맙습니다!",
                "이제 질문은 없어요",
                "I have no more questions, thank you.",
            )
        ],
    ],
)
def test_what_the_user_may_say(personas, said, turns):
    with serving(lambda m, messages: said if m == "user" and len(messages) > 2 else numbered(m, messages)) as server:
        outcome = talk(server, personas, turns=2)
        assert len(server.asked) == 2 + turns
    (row,) = outcome.rows.to_pylist()
    assert len(row["messages"]) == 2 * turns and outcome.report["dialogues that ended at a failed turn"] == 0


@pytest.mark.parametrize(
    "said", ["그런가 봐.", "비가 왔나 봐요.", "What a sight.", "How nice!", "그렇군요.", "별이 없어요."]
)
def test_what_is_no_turn_of_a_user(personas, said):
    with serving(lambda m, messages: said if m == "user" and len(messages) > 2 else numbered(m, messages)) as server:
        outcome = talk(server, personas, turns=2)
    assert outcome.report["dialogues that ended at a failed turn"] == 1


@pytest.mark.parametrize("failing", [1, 2, 3, 4])
def test_after_server_errors_the_next_run_goes_on_and_pays_for_nothing_twice(personas, tmp_path, failing):
    said = []

    def script(model, messages):
        said.append(model)
        return f"{model} {len(said)}" + ("?" if model == "user" else ".")

    with serving(script) as server:
        server.reply_to = lambda _: openai_error(500, "oops") if failing <= server.count < failing + 5 else None
        first, second = [
            talk(server, personas, turns=2, journal=Journal(tmp_path / "journal.sqlite")) for _ in range(2)
        ]
    assert said == ["user", "persona"] * 2
    (row,) = second.rows.to_pylist()
    assert len(row["messages"]) == 4
    if failing < 3:
        assert "turn failed" in first.dropped[0]["reason"]
    else:
        assert contents(first.rows.to_pylist()[0]) == contents(row)[:2]


def test_an_unknown_persona_stops_before_any_call(personas):
    with serving(numbered) as server:
        with pytest.raises(UserError, match="persona 'orbitt' is not defined"):
            talk(server, personas, persona=["orbitt"])
        assert server.asked == []
