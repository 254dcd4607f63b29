import pytest

from lingo_hitl.errors import UserError
from lingo_hitl.generation.personas import choose, load_personas

ORBIT = """
  - name: orbit
    title_ko: 별 안내원
    title_en: a star guide
    role_ko: 천문대에서 일합니다.
    role_en: You work at an observatory.
    speech_level: 해요체
    answer_prefixes: ["음,"]
    catchphrases: [{ko: 별일이네요, en: How odd, welcome: 1}]
"""


@pytest.fixture
def personas(tmp_path):
    path = tmp_path / "personas.yaml"
    path.write_text("personas:" + ORBIT + ORBIT.replace("orbit", "historian"), encoding="utf-8")
    return path


def refused(path, text):
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load_personas(str(path))
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    return str(caught.value)


def test_personas_are_read_and_chosen_by_name(personas):
    found = load_personas(str(personas))
    assert list(found) == ["orbit", "historian"]
    assert found["orbit"].title("ko") == "별 안내원" and found["orbit"].role("en") == "You work at an observatory."
    assert found["orbit"].catchphrases[0].welcome == 1
    assert [p.name for p in choose(found, ["historian", "orbit"], path="x")] == ["historian", "orbit"]
    assert [p.name for p in choose(found, None, path="x")] == ["orbit", "historian"]


def test_an_unknown_name_is_told_those_that_there_are(personas):
    with pytest.raises(UserError) as caught:
        choose(load_personas(str(personas)), ["orbitt"], path=str(personas))
    assert "persona 'orbitt' is not defined; personas in personas.yaml: orbit, historian." in str(caught.value)
    assert "Did you mean 'orbit'?" in str(caught.value)


def test_a_wrong_file_is_one_line(tmp_path):
    path = tmp_path / "p.yaml"
    assert "a list `personas`" in refused(path, "orbit: {}")
    assert ":2: not valid YAML" in refused(path, "personas:\n\t- x")
    assert "key 'title_ko' is missing" in refused(path, "personas:\n  - name: orbit\n")
    assert "Did you mean 'speech_level'?" in refused(path, "personas:" + ORBIT.replace("speech_level", "speech_levl"))
    assert "used twice" in refused(path, "personas:" + ORBIT + ORBIT)
    assert "catchphrases.0.welcome" in refused(path, "personas:" + ORBIT.replace("welcome: 1", "welcome: often"))
    path.unlink()
    with pytest.raises(UserError, match="cannot be read"):
        load_personas(str(path))


def test_a_phrase_is_korean_alone_or_in_both_languages(personas, tmp_path):
    orbit = load_personas(str(personas))["orbit"]
    assert orbit.prefixes("ko") == ["음,"] and orbit.prefixes("en") == []
    assert orbit.welcome("ko", 3) == {"음,": 1, "별일이네요": 1} and orbit.welcome("en", 3) == {"How odd": 1}
    wrong = "personas:" + ORBIT.replace('["음,"]', "[{ko: 음, welcome: 1}]")
    assert "unknown key 'answer_prefixes.0.welcome'" in refused(tmp_path / "p.yaml", wrong)


@pytest.mark.parametrize("language", ["ko", "en"])
def test_the_shipped_personas_are_whole(language):
    shipped = load_personas("sample")
    named = {"orbit", "neuroticism", "medician", "humanities_scholar", "historian_and_physician"}
    assert len(shipped) == 6 and named < set(shipped)
    for persona in shipped.values():
        assert len(persona.prefixes(language)) >= 3 and len(persona.suffixes(language)) >= 4
        assert len(persona.welcome(language, 3)) >= 9 and persona.speech_level in ("해요체", "합쇼체", "반말")
