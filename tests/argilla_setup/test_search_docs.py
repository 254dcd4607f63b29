"""What docs/search.md says about searching, asked of a running server; its examples cannot drift from these."""

from __future__ import annotations

import re
import unicodedata
import uuid
from pathlib import Path

import pytest

from tests.argilla_setup.rest import CHAT, CUSTOM, TEXT, Rest, labels, rating

pytestmark = pytest.mark.server

PAGE = Path(__file__).parents[2] / "docs" / "search.md"
TEXTS = {
    "both": "a red brick house",
    "far": "red one two three house",
    "turned": "house of red",
    "red": "a red car",
    "houses": "two houses",
    "typo": "a hause",
    "blue": "blue house",
    "minus": 'minus house -house and " a quote',
}
TABLE = {
    "red house": "both far turned",
    "red | house": "both far turned red blue minus",
    "red -house": "red",
    '"red house"': "",
    '"red house"~3': "both far turned",
    "hous*": "both far turned houses blue minus",
    "hause~1": "both far turned typo blue minus",
    "(red | blue) house": "both far turned blue",
    "\\-house": "both far turned blue minus",
    '\\"': "",
}
"""Each query of the page's table and what it finds above."""

KOREAN = {"reads": "한국어를 배운다", "star": "별은 밝다", "spaced": "한국어 교육 정책", "joined": "한국어교육정책"}
KOREAN |= {
    "love": "나의 사랑",
    "doctor": "의사를 만났다",
    "laugh": "ㅋㅋㅋ 😀",
    "wide": "ＡＢＣ",
    "hanja": "大韓民國",
    "dot": "3 14",
}
SAID = {
    "국어": "reads spaced joined",
    "별": "star",
    "한국어교육정책": "spaced joined",
    "한국어 교육 정책": "spaced joined",
    '"한국어 교육 정책"': "spaced joined",
    "의사": "doctor",
    unicodedata.normalize("NFD", "의사"): "doctor",
    "abc": "wide",
    "ㅋㅋ": "laugh",
    "😀": "laugh",
    "民國": "hanja",
    "민국": "",
    "3.14": "dot",
    "별은~1": "star",
    "별응~1": "",
}


@pytest.fixture(scope="module")
def owner(argilla_home):
    return Rest(argilla_home)


def dataset_with(owner, texts, **more):
    settings = {"fields": {"t": TEXT}, "questions": {"rating": rating()}, **more}
    dataset = owner.create_dataset(f"docs-{uuid.uuid4().hex[:6]}", **settings)
    owner.upsert(dataset, [{"external_id": name, "fields": {"t": text}} for name, text in texts.items()])
    return dataset


def test_the_table_of_queries(owner):
    section = PAGE.read_text(encoding="utf-8").partition("## Searching for text")[2].partition("##")[0]
    cells = [line.replace(r"\|", "¦").split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    queries = [query.replace("¦", "|") for cell in cells for query in re.findall("`([^`]+)`", cell)]
    assert queries == list(TABLE)
    dataset = dataset_with(owner, TEXTS)
    for query, names in TABLE.items():
        assert set(owner.found(dataset, query)) == set(names.split()), query
    assert set(owner.found(dataset, "red | house brick")) == {"both"}, "operators bind from left to right"
    assert set(owner.found(dataset, "RED car")) == {"red"}


def test_korean(owner):
    dataset = dataset_with(owner, KOREAN)
    for query, names in SAID.items():
        assert set(owner.found(dataset, query)) == set(names.split()), query


def test_chats_custom_fields_and_hyphens(owner):
    dataset = owner.create_dataset(
        f"docs-{uuid.uuid4().hex[:6]}", fields={"talk": CHAT, "card": CUSTOM, "t": TEXT}, questions={"rating": rating()}
    )
    talk = [{"role": "System Prompt", "content": "안녕"}]
    fields = {"talk": talk, "card": {"pages": None, "new": True, "tags": ["x"]}, "t": "pre and fixes"}
    owner.upsert(dataset, [{"external_id": "one", "fields": fields}])
    for query, there in {"prompt": 1, "system": 1, "pages": 1, "none": 0, "pre-fix*": 1}.items():
        assert len(owner.found(dataset, query)) == there, query


def test_metadata_are_known_at_once_and_as_they_were_written(owner):
    dataset = owner.create_dataset(f"docs-{uuid.uuid4().hex[:6]}", fields={"t": TEXT}, questions={"rating": rating()})
    items = [{"external_id": str(n), "fields": {"t": "글"}, "metadata": {"late": n + 0.13}} for n in range(3)]
    owner.upsert(dataset, items)
    body = {"name": "late", "title": "late", "settings": {"type": "float"}, "visible_for_annotators": True}
    made = owner("POST", f"/datasets/{dataset}/metadata-properties", json=body)
    scope = {"entity": "metadata", "metadata_property": "late"}
    assert owner.found(dataset, filters=[{"type": "range", "scope": scope, "ge": 2}]) == ["2"]
    assert owner("GET", f"/metadata-properties/{made['id']}/metrics") == {"type": "float", "min": 0.13, "max": 2.13}


def test_times_progress_and_what_is_refused(owner, argilla_home):
    questions = {"rating": rating(), "topic": labels("a", "b")}
    dataset = owner.create_dataset(
        f"docs-{uuid.uuid4().hex[:6]}", fields={"t": TEXT}, questions=questions, min_submitted=2
    )
    early = owner.upsert(dataset, [{"external_id": "early", "fields": {"t": "글"}}])[0]
    late = owner.upsert(dataset, [{"external_id": "late", "fields": {"t": "글"}}])[0]
    for name in ("inserted_at", "updated_at"):
        scope = {"entity": "record", "property": name}
        assert owner.found(dataset, filters=[{"type": "range", "scope": scope, "ge": late[name]}]) == ["late"]
        assert owner.found(dataset, filters=[{"type": "range", "scope": scope, "le": early[name]}]) == ["early"]
    people = [Rest(argilla_home, name) for name in ("annotator1", "annotator2")]
    for person, topic in zip(people, "ab", strict=True):
        assert owner("GET", f"/datasets/{dataset}/progress")["completed"] == 0
        person.answer(late["id"], {"rating": 3, "topic": topic})
    people[0].answer(early["id"], {"rating": 3, "topic": "b"}, status="discarded")
    progress = owner("GET", f"/datasets/{dataset}/progress")
    assert {name: progress[name] for name in ("total", "completed", "pending")} == {
        "total": 2,
        "completed": 1,
        "pending": 1,
    }
    mine = people[0]("GET", f"/me/datasets/{dataset}/metrics")["responses"]
    assert (mine["submitted"], mine["discarded"], mine["pending"]) == (1, 1, 0)
    topic = {"entity": "response", "question": "topic"}
    assert owner.found(dataset, sort=[{"scope": topic, "order": "asc"}]) == ["late", "early"]
    for scope in (
        {"entity": "suggestion", "question": "rating", "property": "agent"},
        {"entity": "response", "property": "status"},
        {"entity": "record", "property": "id"},
    ):
        refused = {"filters": {"and": [{"type": "range", "scope": scope, "ge": 1}]}}
        reply = owner.client.post(f"/api/v1/datasets/{dataset}/records/search", json=refused)
        assert reply.status_code == 422, reply.text
