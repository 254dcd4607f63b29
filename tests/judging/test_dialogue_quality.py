import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from benchmarks.dialogue_failures import FAILURES
from lingo_hitl.config import QualityConfig
from lingo_hitl.generation.personas import load_personas
from lingo_hitl.generation.phrases import phrase_for
from lingo_hitl.judging.dialogue_quality.figures import FIGURES, beyond, excess
from lingo_hitl.judging.dialogue_quality.measure import measure
from lingo_hitl.records import DIALOGUE_QUALITY
from tests.judging.good_dialogues import ENGLISH, KOREAN, dialogue

PERSONAS = load_personas("sample")
GOOD = {"ko": KOREAN, "en": ENGLISH}
LIMITS = QualityConfig()
COPIES = 3  # of each good dialogue, with the failure drawn anew
TEXTS = st.text(st.characters() | st.sampled_from("가나다요.!?ㅋㅎㅏ😀👩‍🚀\n- \t*`\"'a1"), max_size=80)


def one(*texts, persona=None, language="ko"):
    (figures,) = measure([dialogue(persona, *texts, language=language)], PERSONAS)
    return figures


@pytest.mark.parametrize("language", ["ko", "en"])
def test_good_dialogues_pass_every_default(language):
    for row, figures in zip(GOOD[language], measure(GOOD[language], PERSONAS), strict=True):
        assert excess(figures, LIMITS) is None, row["messages"][0]["content"]
        assert figures["catchphrase_overuse"] == 0 and figures["copying"] < 0.1, row["messages"][0]["content"]


@pytest.mark.parametrize(
    ("figure", "language"),
    [
        (figure, language)
        for figure in FIGURES
        for language in GOOD
        if (figure, language) != ("speech_level_shift", "en")
    ],
)
def test_each_figure_tells_its_own_failure_from_good_dialogues(figure, language):
    draw = random.Random(1)
    spoilt = [FAILURES[figure](row, draw) for row in GOOD[language] for _ in range(COPIES)]
    bad = np.array([row[figure] for row in measure(spoilt, PERSONAS)])
    good = np.array([row[figure] for row in measure(GOOD[language], PERSONAS)])
    labels = [*[0] * len(good), *[1] * len(bad)]
    assert roc_auc_score(labels, [*good, *bad]) >= 0.97
    assert (bad > getattr(LIMITS, figure)).mean() >= 0.8


def test_a_persona_s_phrase_is_counted_beyond_its_welcome():
    answers = ["별은 아주 멀어요.", "빛이 오는 데 몇 년이 걸려요.", "망원경으로 보면 더 잘 보여요."]
    questions = ["별은 멀어요?", "얼마나요?", "잘 보려면요?"]

    def figure(*said):
        return one(*[t for pair in zip(questions, said, strict=True) for t in pair], persona="orbit")

    phrase = "별처럼 반짝이는 질문이에요!"
    assert figure(f"{phrase} {answers[0]}", *answers[1:])["catchphrase_overuse"] == 0
    twice = figure(f"{phrase} {answers[0]}", f"별처럼 반짝이는 질문이네요! {answers[1]}", answers[2])
    assert twice["catchphrase_overuse"] == 0.5, "with another ending it is the same phrase"
    assert figure(*[f"{phrase} {a}" for a in answers])["catchphrase_overuse"] == 1
    never = figure(f"자, 발사 준비 됐나요? {answers[0]}", *answers[1:])
    assert never["catchphrase_overuse"] == 0.5, "welcome: 0"


@pytest.mark.parametrize("language", ["ko", "en"])
@pytest.mark.parametrize("turns", [4, 12])
def test_the_suffixes_that_we_ask_for_are_no_overuse_however_long_the_dialogue(language, turns):
    def asked(persona, suffixes=None):
        one = PERSONAS[persona]
        one = one.model_copy(update={"answer_suffixes": one.answer_suffixes[:suffixes]})
        phrases = [phrase_for(one, language, seed="s", turn=turn) for turn in range(1, turns + 1)]
        said = [text for n, phrase in enumerate(phrases) for text in (f"{n}?", f"{n * 7}. {phrase}")]
        return measure([dialogue(persona, *said, language=language)], {persona: one})[0]["catchphrase_overuse"]

    assert {asked(persona) for persona in PERSONAS} == {0}
    assert asked("orbit", suffixes=1) == 0
    orbit = PERSONAS["orbit"]
    always = [text for n in range(turns) for text in (f"{n}?", f"{n * 7}. {orbit.suffixes(language)[0]}")]
    assert measure([dialogue("orbit", *always, language=language)], PERSONAS)[0]["catchphrase_overuse"] > 0.5


@pytest.mark.parametrize(
    ("language", "texts"),
    [
        ("ko", ["태양 흑점은 뭐예요?", "태양 흑점은 어두운 곳이에요.", "왜 어두워요?", "태양 흑점은 온도가 낮거든요."]),
        ("ko", ["운동이 좋아요?", "운동은 잠을 도울 수 있어요.", "또요?", "기분이 좋아질 수 있어요."]),
        ("ko", ["맞나요?", "네, 봄에 심어요.", "물은요?", "네, 자주 주세요.", "햇빛은요?", "네, 꼭 있어야 해요."]),
        (
            "en",
            [
                "What is the solar wind?",
                "The solar wind is a stream of particles.",
                "Is it fast?",
                "The solar wind travels at 400 km/s.",
            ],
        ),
        (
            "en",
            [
                "Pets?",
                "For example, a cat sleeps a lot.",
                "Others?",
                "For example, a dog barks.",
                "More?",
                "For example, fish.",
            ],
        ),
    ],
)
def test_topics_grammar_and_connectives_are_no_catchphrases(language, texts):
    assert one(*texts, language=language)["catchphrase_overuse"] == 0


def test_shrinking_is_how_much_shorter_the_median_later_answer_is():
    def figure(*lengths):
        return one(*[t for n in lengths for t in ("왜요?", "가" * n)])["shrinking"]

    assert figure(100, 50) == 0.5 and figure(100, 90, 25, 10) == 0.75 and figure(10, 30) == 0
    assert figure(100) is None


def test_copying_counts_runs_wherever_they_stand():
    first = "달은 지구를 도는 위성이에요. 스물일곱 날에 한 바퀴를 돌아요."
    moved = "스물일곱 날에 한 바퀴를 돌아요. 달은 지구를 도는 위성이에요!"
    assert one("달은?", first, "또?", moved)["copying"] > 0.85
    assert one("달은?", first, "또?", "달의 바다는 용암이 굳은 평원이에요.")["copying"] == 0
    asked = "달의 뒷면에 처음으로 착륙한 탐사선의 이름은 무엇인가요?"
    assert one(asked, asked)["copying"] == 1
    assert one("Why?", "It is so.", "Really?", "It is so!", language="en")["copying"] == 1


@pytest.mark.parametrize(
    ("said", "level"),
    [
        ("별이 멀어요. 그렇죠. 정말요?", "해요체"),
        ("별이 멉니다. 보십시오. 가 봅시다.", "합쇼체"),
        ("별이 멀어. 그렇지. 같이 가자. 알겠니?", "반말"),
        ("별은 멀다. 빛이 오는 데 4년이 걸린다.", "해라체"),
        ("그는 “별이 멀다.”라고 했어요. (다들 안다.) 그래서 떠났어요.", "해요체"),
        ("이렇게 해요.\n- 씻는다.\n- 말린다.\n1. 담는다.", "해요체"),
        ("감사합니다. 봄이에요. 안녕하세요!", "해요체"),
    ],
)
def test_speech_levels_are_read_from_the_endings(said, level):
    figures = one("별은 멀다.", said)
    assert figures["speech_level"] == level and figures["speech_level_shift"] == 0


def test_a_change_of_level_counts_by_how_far_it_goes():
    assert one("음", "가요. 와요. 봐요. 간다.")["speech_level_shift"] == 0.25
    assert one("음", "가요. 와요. 봐요. 갑니다.")["speech_level_shift"] == 0.125
    assert one("음", "갑니다. 옵니다.", persona="orbit")["speech_level_shift"] == 0.5, "orbit speaks 해요체"
    assert one("음", "먹었어. 봤어.", persona="historian")["speech_level_shift"] == 1
    assert one("가요. 갔어.", "가요.")["speech_level_shift"] == 0.5, "the user's levels count too"
    assert one("음", "사과.", persona="orbit")["speech_level_shift"] is None


def test_rows_of_other_tasks_and_empty_dialogues_have_no_figures():
    rows = [
        {"task": "instruction", "language": "ko", "messages": None, "persona": None},
        dialogue(None),
        dialogue(None, "?"),
    ]
    nothing = dict.fromkeys(DIALOGUE_QUALITY.names)
    assert measure(rows, PERSONAS) == [nothing] * 3


def test_a_reason_names_the_figure_and_its_limit():
    figures = {"catchphrase_overuse": 0.2, "shrinking": None, "copying": 0.82, "speech_level_shift": 0.0}
    assert excess(figures, LIMITS) == "copying above 0.5 (0.82)"
    assert beyond(figures, LIMITS) == ["copying"]
    assert excess(figures, LIMITS.model_copy(update={"copying": None})) is None
    both = excess({**figures, "shrinking": 0.9}, LIMITS)
    assert both == "shrinking above 0.8, copying above 0.5 (0.90, 0.82)"


def test_20_000_characters_without_a_break_are_measured():
    for text in ("가" * 20_000, "word " * 4_000, "ㅋ" * 20_000, "😀" * 10_000):
        for language in ("ko", "en"):
            figures = one("왜?", text, "또?", text, language=language, persona="orbit")
            assert all(v is None or isinstance(v, str) or 0 <= v <= 1 for v in figures.values())


@settings(max_examples=60, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=6), st.sampled_from(["ko", "en"]), st.sampled_from([None, "orbit", "x"]))
def test_figures_are_between_0_and_1_and_the_same_in_any_company(texts, language, persona):
    row = dialogue(persona, *texts, language=language)
    (alone,) = measure([row], PERSONAS)
    assert list(alone) == DIALOGUE_QUALITY.names
    assert all(alone[f] is None or (0 <= alone[f] <= 1 and math.isfinite(alone[f])) for f in FIGURES)
    assert measure([KOREAN[0], row, ENGLISH[0]], PERSONAS)[1] == alone


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.sampled_from(["봄이 가요.", "봄이 갑니다.", "봄이 갔어.", "봄이 간다.", "사과 하나.", "네."]),
        min_size=1,
        max_size=8,
    ),
    st.randoms(),
)
def test_the_order_of_sentences_changes_no_level(sentences, draw):
    before = one("음", " ".join(sentences))
    draw.shuffle(sentences)
    after = one("음", " ".join(sentences))
    assert (before["speech_level"], before["speech_level_shift"]) == (
        after["speech_level"],
        after["speech_level_shift"],
    )
