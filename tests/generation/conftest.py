import pytest

PERSONAS = """
personas:
  - name: orbit
    title_ko: 별 안내원
    title_en: a star guide
    role_ko: 천문대에서 일합니다.
    role_en: You work at an observatory.
    speech_level: 해요체
    answer_prefixes: [{ko: "오, 좋아요!", en: "Oh, good!"}]
    answer_suffixes: [{ko: "또 물어보세요.", en: "Do ask again."}, 하늘을 보세요.]
    catchphrases: [{ko: 별일이네요, welcome: 1}, {ko: 발사, welcome: 0}]
  - name: clio
    title_ko: 역사학자
    title_en: a historian
    role_ko: 옛일을 압니다.
    role_en: You know the past.
    speech_level: 합쇼체
"""


@pytest.fixture
def personas(tmp_path):
    path = tmp_path / "personas.yaml"
    path.write_text(PERSONAS, encoding="utf-8")
    return str(path)
