"""What labelers and scripts can search for, asked of a real server through its HTTP API."""

from __future__ import annotations

import json
import math
import random
import uuid
from itertools import chain, pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.argilla_setup.rest import CHAT, CUSTOM, TEXT, Rest, labels, rating

pytestmark = pytest.mark.server

TEXTS = {
    "star": ("한국의 별은 밝다", "The stars of Korea are bright"),
    "school": ("한국어 교육을 받았다", "I made a card payment"),
    "joined": ("한국어교육 정책이 바뀌었다", "The payment was declined, my card too"),
    "love": ("나의 사랑 노래", "Cash is king"),
    "doctor": ("의사 선생님을 만났다", "negative cash flow"),
    "laugh": ("ㅋㅋㅋ 정말 웃기다 😀", "wi-fi at 3.14 GHz"),
    "hanja": ("大韓民國 만세", "ＦＵＬＬ　ｗｉｄｔｈ"),
    "mixed": ("GPT4모델은 빠르다", "don't stop"),
}
TOPICS = {"star": "sky", "school": "edu", "joined": "edu", "love": "song", "doctor": ["body", "edu"]}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def searched_home(request):
    """The home of a server with Argilla's tables in SQLite, and of one with them in PostgreSQL."""
    return (
        request.getfixturevalue("argilla_home") if request.param == "sqlite" else request.getfixturevalue("team").home
    )


@pytest.fixture(scope="module")
def owner(searched_home):
    return Rest(searched_home)


@pytest.fixture(scope="module")
def annotator(searched_home):
    return Rest(searched_home, "annotator1")


@pytest.fixture(scope="module")
def dataset(owner, annotator):
    """Eight records with metadata, suggestions, vectors and two answers."""
    dataset = owner.create_dataset(
        f"search-{uuid.uuid4().hex[:6]}",
        fields={"ko": TEXT, "en": TEXT},
        questions={
            "rating": rating(),
            "topic": labels("a", "b", "c"),
            "tags": labels("x", "y", kind="multi_label_selection"),
        },
        metadata={"topic": "terms", "length": "integer", "score": "float"},
        vectors={"meaning": 3},
    )
    questions = owner.questions(dataset)
    items = []
    for position, (name, (korean, english)) in enumerate(TEXTS.items()):
        metadata = {"length": position, "score": position / 10}
        if name in TOPICS:
            metadata["topic"] = TOPICS[name]
        suggestions = [
            {
                "question_id": questions["rating"],
                "value": position % 5 + 1,
                "score": position / 10,
                "agent": f"model-{position % 2}",
                "type": "model" if position % 2 else "human",
            }
        ]
        if position < 3:
            suggestions.append({"question_id": questions["tags"], "value": ["x", "y"][: position + 1]})
        items.append(
            {
                "external_id": name,
                "fields": {"ko": korean, "en": english},
                "metadata": metadata,
                "suggestions": suggestions,
                "vectors": {"meaning": [1.0, position / 4, 0.0]},
            }
        )
    records = {record["external_id"]: record["id"] for record in owner.upsert(dataset, items)}
    annotator.answer(records["star"], {"rating": 5, "topic": "a"})
    annotator.answer(records["love"], {"rating": 2, "topic": "b"}, status="draft")
    owner.answer(records["love"], {"rating": 4, "topic": "c"})
    return dataset


@pytest.fixture(scope="module")
def records(owner, dataset):
    return {item["record"]["external_id"]: item["record"]["id"] for item in owner.search(dataset)["items"]}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("한국", "star school joined"),
        ("별", "star"),
        ("별은", "star"),
        ("한국어교육", "school joined"),
        ("한국어 교육", "school joined"),
        ('"한국어 교육"', "school joined"),
        ("의사", "doctor"),
        ("선생", "doctor"),
        ("생님", "doctor"),
        ("한국 -별", "school joined"),
        ("별 | 사랑", "star love"),
        ("(별 | 사랑) -노래", "star"),
        ("ㅋㅋ", "laugh"),
        ("😀", "laugh"),
        ("民國", "hanja"),
        ("full width", "hanja"),
        ("모델", "mixed"),
        ("gpt4모델은", "mixed"),
        ("한국", "star school joined"),
        ("card", "school joined"),
        ("CARD payment", "school joined"),
        ("card + payment", "school joined"),
        ("cash | stars", "star love doctor"),
        ("pay*", "school joined"),
        ("pay", ""),
        ('"card payment"', "school"),
        ('"payment card"~3', "school joined"),
        ("negative 의사", "doctor"),
        ("-한국 -cash", "laugh hanja mixed"),
        ("wi-fi", "laugh"),
        ("3.14", "laugh"),
        ("don't", "mixed"),
        ("nothing here", ""),
        ("!!!", ""),
        ('"한국', "star school joined"),
        ("((한국", "star school joined"),
        ("한국)", "star school joined"),
        (r"\-cash", "love doctor"),
        ("NOT", ""),
        ("every", ""),
        ("x", ""),
        ("paymant~1 card", "school joined"),
        ("cahs~2", "love doctor school joined"),
        ("cahs~", "love doctor school joined"),
        ("cahs~1", ""),
        ("stars~1 korea", "star"),
    ],
)
def test_text(owner, dataset, text, names):
    assert set(owner.found(dataset, text)) == set(names.split())


def test_text_in_one_field(owner, dataset):
    assert owner.found(dataset, "한국", field="en") == []
    assert owner.found(dataset, "korea", field="en") == ["star"]
    assert set(owner.found(dataset, "-korea", field="en")) == set(TEXTS) - {"star"}


def test_a_better_match_comes_first(owner):
    dataset = owner.create_dataset(f"rank-{uuid.uuid4().hex[:6]}", fields={"t": TEXT}, questions={"rating": rating()})
    owner.upsert(
        dataset,
        [
            {"external_id": "once", "fields": {"t": "사과 " + "그리고 다른 이야기 " * 30}},
            {"external_id": "often", "fields": {"t": "사과 사과 사과"}},
            *({"external_id": f"other{n}", "fields": {"t": "배와 감"}} for n in range(20)),
        ],
    )
    reply = owner.search(dataset, "사과")
    assert [item["record"]["external_id"] for item in reply["items"]] == ["often", "once"]
    assert reply["items"][0]["query_score"] > reply["items"][1]["query_score"] > 0


def test_an_annotators_text_search_has_relevance_times_random_order(owner, annotator):
    dataset = owner.create_dataset(f"mine-{uuid.uuid4().hex[:6]}", fields={"t": TEXT}, questions={"rating": rating()})
    owner.upsert(dataset, [{"external_id": str(n), "fields": {"t": f"사과 {n}"}} for n in range(30)])
    orders = [client.found(dataset, "사과", me=True) for client in (owner, annotator, annotator)]
    assert sorted(orders[0]) == sorted(orders[1])
    assert orders[0] != orders[1] == orders[2]
    scores = [item["query_score"] for item in annotator.search(dataset, "사과", me=True)["items"]]
    assert scores == sorted(scores, reverse=True)
    pages = [annotator.found(dataset, "사과", me=True, offset=offset, limit=7) for offset in range(0, 30, 7)]
    assert list(chain.from_iterable(pages)) == orders[1]


def test_a_query_that_is_too_long_is_refused_with_a_reason(owner, dataset):
    reply = owner.client.post(
        f"/api/v1/datasets/{dataset}/records/search", json={"query": {"text": {"q": "가" * 3000}}}
    )
    assert reply.status_code == 422
    assert "at most 2000" in reply.text


def test_chat_and_custom_fields(owner):
    dataset = owner.create_dataset(
        f"chat-{uuid.uuid4().hex[:6]}", fields={"talk": CHAT, "card": CUSTOM}, questions={"rating": rating()}
    )
    owner.upsert(
        dataset,
        [
            {
                "external_id": "one",
                "fields": {
                    "talk": [{"role": "user", "content": "안녕 우주"}, {"role": "assistant", "content": "hello sky"}],
                    "card": {"title": "달의 뒷면", "pages": [120, {"note": "초판"}]},
                },
            },
            {"external_id": "two", "fields": {"talk": None, "card": None}},
        ],
    )
    for text, field in [
        ("우주", "talk"),
        ("우주", None),
        ("hello", "talk"),
        ("뒷면", "card"),
        ("120", "card"),
        ("초판", None),
        ("assistant", "talk"),
        ("user 우주", "talk"),
        ("title", "card"),
        ("note -absent", None),
    ]:
        assert owner.found(dataset, text, field=field) == ["one"], text
    assert owner.found(dataset, '"우주 assistant"') == [], "a phrase does not span two messages"
    assert owner.found(dataset, "우주", field="card") == []


def metadata(name):
    return {"entity": "metadata", "metadata_property": name}


def suggestion(question, property="value"):
    return {"entity": "suggestion", "question": question, "property": property}


def response(question=None, property=None):
    return {"entity": "response", "question": question, "property": property}


def terms(scope, *values):
    return {"type": "terms", "scope": scope, "values": list(values)}


def between(scope, ge=None, le=None):
    return {"type": "range", "scope": scope, **({} if ge is None else {"ge": ge}), **({} if le is None else {"le": le})}


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ([terms(metadata("topic"), "edu")], "school joined doctor"),
        ([terms(metadata("topic"), "sky", "song")], "star love"),
        ([between(metadata("length"), 2, 4)], "joined love doctor"),
        ([between(metadata("length"), ge=6)], "hanja mixed"),
        ([terms(metadata("length"), "3")], "love"),
        ([between(metadata("score"), le=0.1)], "star school"),
        ([terms(metadata("topic"), "edu"), between(metadata("length"), le=1)], "school"),
        ([terms(suggestion("rating"), "3")], "joined mixed"),
        ([between(suggestion("rating"), ge=4)], "love doctor"),
        ([between(suggestion("rating", "score"), ge=0.5)], "laugh hanja mixed"),
        ([terms(suggestion("rating", "agent"), "model-1")], "school love laugh mixed"),
        ([terms(suggestion("rating", "type"), "human")], "star joined doctor hanja"),
        ([terms(suggestion("tags"), "y")], "school joined"),
        ([terms(response("rating"), "5")], "star"),
        ([between(response("rating"), ge=3)], "star love"),
        ([terms(response("topic"), "b")], "love"),
        ([terms(response(property="status"), "submitted")], "star love"),
        ([terms(response(property="status"), "draft")], "love"),
        ([terms({"entity": "record", "property": "status"}, "completed")], "star love"),
        ([terms({"entity": "record", "property": "external_id"}, "star", "love")], "star love"),
        ([terms(response(property="status"), "pending")], "school joined doctor laugh hanja mixed"),
        ([terms(response(property="status"), "pending", "draft")], "school joined doctor laugh hanja mixed love"),
    ],
)
def test_filters(owner, dataset, filters, names):
    assert set(owner.found(dataset, filters=filters)) == set(names.split())
    both = set(owner.found(dataset, "한국", filters=filters))
    assert both == set(names.split()) & {"star", "school", "joined"}


def test_an_annotator_filters_by_their_own_answers(annotator, owner, dataset):
    status = response(property="status")
    assert annotator.found(dataset, filters=[terms(status, "draft")], me=True) == ["love"]
    assert annotator.found(dataset, filters=[terms(response("rating"), "4")], me=True) == []
    assert owner.found(dataset, filters=[terms(response("rating"), "4")], me=True) == ["love"]
    assert set(owner.found(dataset, filters=[terms(status, "pending")], me=True)) == set(TEXTS) - {"love"}


@pytest.mark.parametrize(
    ("scope", "first"),
    [
        (metadata("length"), ["star", "school"]),
        (metadata("score"), ["star", "school"]),
        (suggestion("rating", "score"), ["star", "school"]),
        (response("rating"), ["love", "star"]),
        ({"entity": "record", "property": "external_id"}, ["doctor", "hanja"]),
    ],
)
def test_sort(owner, dataset, scope, first):
    assert owner.found(dataset, sort=[{"scope": scope, "order": "asc"}])[:2] == first
    backwards = owner.found(dataset, sort=[{"scope": scope, "order": "desc"}])
    if scope == response("rating"):
        assert backwards[:2] == first[::-1], "records without an answer come last in both directions"
    else:
        assert backwards[::-1][:2] == first


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_sort_by_time(owner, dataset, order):
    """Two records of one request may have the same time."""
    scope = {"entity": "record", "property": "inserted_at"}
    found = owner.search(dataset, sort=[{"scope": scope, "order": order}])["items"]
    times = [item["record"]["inserted_at"] for item in found]
    assert times == sorted(times, reverse=order == "desc") and len(times) == len(TEXTS)


def test_sort_by_terms_puts_those_without_last(owner, dataset):
    for order, first in (("asc", "doctor"), ("desc", "love")):
        found = owner.found(dataset, sort=[{"scope": metadata("topic"), "order": order}])
        assert found[0] == first
        assert set(found[5:]) == {"laugh", "hanja", "mixed"}


def test_pages_follow_each_other(owner, annotator, dataset):
    scopes = (metadata("score"), suggestion("rating", "score"), suggestion("tags"), suggestion("rating", "agent"))
    sorts = [{"sort": [{"scope": scope, "order": order}]} for scope in scopes for order in ("asc", "desc")]
    for more in ({"me": True}, *sorts, {"text": "한국 | cash"}):
        whole = annotator.found(dataset, **more) if more.get("me") else owner.found(dataset, **more)
        client = annotator if more.get("me") else owner
        pages = [client.found(dataset, **more, offset=offset, limit=2) for offset in range(0, len(whole) + 2, 2)]
        assert list(chain.from_iterable(pages)) == whole
        assert client.search(dataset, **more, offset=50, limit=2)["total"] == len(whole)


def test_each_annotator_has_a_random_order_that_stays(searched_home, owner):
    dataset = owner.create_dataset(f"order-{uuid.uuid4().hex[:6]}", fields={"t": TEXT}, questions={"rating": rating()})
    records = owner.upsert(dataset, [{"external_id": str(n), "fields": {"t": f"글 {n}"}} for n in range(100)])
    people = [Rest(searched_home, name) for name in ("annotator1", "annotator2")]
    orders = [person.found(dataset, me=True) for person in people]
    assert orders[0] != orders[1]
    for order in orders:
        assert sorted(order, key=int) == [str(n) for n in range(100)]
        steps = {int(after) - int(before) for before, after in pairwise(order)}
        assert len(steps) > 40, "neighbours in the data are not met at regular strides"
    people[0].answer(records[int(orders[0][0])]["id"], {"rating": 3})
    assert people[0].found(dataset, me=True) == orders[0]
    queue = people[0].found(dataset, me=True, filters=[terms(response(property="status"), "pending")])
    assert queue == orders[0][1:]


def test_similar_records(owner, dataset, records):
    order = list(TEXTS)
    reply = owner.search(dataset, vector={"name": "meaning", "record_id": records["star"]})
    assert [item["record"]["external_id"] for item in reply["items"]] == order[1:]
    scores = [item["query_score"] for item in reply["items"]]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == pytest.approx((1 + 1 / (1 + 1 / 16) ** 0.5) / 2, abs=1e-6)
    least = owner.found(dataset, vector={"name": "meaning", "record_id": records["star"], "order": "least_similar"})
    assert least == order[:0:-1]


def test_similar_to_a_vector_with_filters_and_text(owner, annotator, dataset):
    vector = {"name": "meaning", "value": [1.0, 10.0, 0.0]}
    assert owner.found(dataset, vector=vector)[0] == "mixed"
    assert owner.found(dataset, vector=vector, filters=[terms(metadata("topic"), "edu")]) == [
        "doctor",
        "joined",
        "school",
    ]
    assert owner.found(dataset, "한국", vector=vector) == ["joined", "school", "star"]
    own = [terms(response(property="status"), "submitted", "draft")]
    assert annotator.found(dataset, vector=vector, filters=own, me=True) == ["love", "star"]
    assert owner.found(dataset, vector=vector, limit=2) == ["mixed", "hanja"]
    assert owner.found(dataset, vector=vector, offset=2, limit=2) == ["laugh", "doctor"]


def test_similar_among_many_is_exact_whether_a_filter_lets_few_or_most_pass(owner, annotator):
    dataset = owner.create_dataset(
        f"many-{uuid.uuid4().hex[:6]}",
        fields={"t": TEXT},
        questions={"rating": rating()},
        metadata={"n": "integer"},
        vectors={"v": 2},
    )
    # The larger the number, the less like [1, 0].
    items = [
        {"external_id": str(n), "fields": {"t": "글"}, "metadata": {"n": n}, "vectors": {"v": [1.0, n / 1000]}}
        for n in range(1500)
    ]
    for start in range(0, 1500, 500):
        records = owner.upsert(dataset, items[start : start + 500])
    annotator.answer(records[-1]["id"], {"rating": 3})
    vector = {"name": "v", "value": [1.0, 0.0]}
    most, few = [between(metadata("n"), ge=40)], [between(metadata("n"), ge=1490)]
    assert owner.found(dataset, vector=vector, filters=most, limit=5) == [str(n) for n in range(40, 45)]
    assert owner.found(dataset, vector=vector, filters=few, limit=5) == [str(n) for n in range(1490, 1495)]
    assert owner.found(dataset, vector=vector, filters=[terms(metadata("n"), "1499")]) == ["1499"]
    least = {**vector, "order": "least_similar"}
    pending = [terms(response(property="status"), "pending")]
    assert annotator.found(dataset, vector=least, filters=pending, me=True, limit=5) == [
        str(n) for n in range(1498, 1493, -1)
    ]
    submitted = [terms(response(property="status"), "submitted")]
    assert annotator.found(dataset, vector=vector, filters=submitted, me=True) == ["1499"]
    owner("DELETE", f"/datasets/{dataset}")


def test_a_vector_of_the_wrong_length_is_refused_with_a_reason(owner, dataset):
    body = {"query": {"vector": {"name": "meaning", "value": [1.0, 2.0]}}}
    reply = owner.client.post(f"/api/v1/datasets/{dataset}/records/search", json=body)
    assert reply.status_code == 422


def test_values_that_no_double_and_no_text_of_a_database_holds(searched_home, owner):
    dataset = owner.create_dataset(
        f"odd-{uuid.uuid4().hex[:6]}",
        fields={"t": TEXT},
        questions={"rating": rating()},
        metadata={"length": "integer"},
        vectors={"v": 2},
    )
    huge = {"external_id": "huge", "fields": {"t": "글"}, "metadata": {"length": 10**400}}
    nothing = {"external_id": "nan", "fields": {"t": "글"}, "vectors": {"v": [math.nan, 1.0]}}
    seven = {"external_id": "seven", "fields": {"t": "글"}, "metadata": {"length": 7}, "vectors": {"v": [1.0, 1.0]}}
    owner.upsert(dataset, [huge, seven])
    body = json.dumps({"items": [nothing]}).encode()
    request = {"content": body, "headers": {"content-type": "application/json"}}
    if not owner.client.put(f"/api/v1/datasets/{dataset}/records/bulk", **request).is_success:
        # PostgreSQL's JSON has no NaN; and after an error of its own the server ends the connection.
        owner = Rest(searched_home)
        owner.upsert(dataset, [{**nothing, "vectors": {}}])

    order = [{"scope": metadata("length"), "order": "asc"}]
    assert owner.found(dataset, sort=order) == ["seven", "huge", "nan"]
    over = {"type": "range", "scope": metadata("length"), "ge": 8}
    assert owner.found(dataset, filters=[over]) == ["huge"]
    properties = owner("GET", f"/me/datasets/{dataset}/metadata-properties")["items"]
    limits = owner("GET", f"/metadata-properties/{properties[0]['id']}/metrics")
    assert (limits["min"], limits["max"]) == (7, 7), "what no double holds is no limit that can be shown"
    similar = owner.search(dataset, vector={"name": "v", "value": [1.0, 1.0]})["items"]
    assert [item["record"]["external_id"] for item in similar][:1] == ["seven"]
    assert all(0 <= item["query_score"] <= 1 for item in similar)

    for scope in ({"entity": "record", "property": "external_id"}, suggestion("rating", "agent")):
        assert owner.found(dataset, filters=[terms(scope, "a\0b")]) == []
    early = {"entity": "record", "property": "inserted_at"}
    reply = owner.client.post(
        f"/api/v1/datasets/{dataset}/records/search",
        json={"filters": {"and": [{"type": "range", "scope": early, "ge": "0001-01-01T00:00:00+09:00"}]}},
    )
    assert reply.status_code == 422
    assert "is not a time" in reply.text


def test_changed_and_deleted_records(owner):
    dataset = owner.create_dataset(
        f"change-{uuid.uuid4().hex[:6]}", fields={"t": TEXT}, questions={"rating": rating()}, vectors={"v": 2}
    )
    items = [{"external_id": str(n), "fields": {"t": f"낱말{n} 공통"}, "vectors": {"v": [1.0, n]}} for n in range(5)]
    records = owner.upsert(dataset, items)
    owner.upsert(dataset, [{"external_id": "1", "fields": {"t": "다른 공통"}, "vectors": {"v": [-1.0, -100.0]}}])
    assert owner.found(dataset, "낱말1") == []
    assert owner.found(dataset, "다른") == ["1"]
    assert owner.found(dataset, vector={"name": "v", "value": [1.0, 0.0]})[-1] == "1"
    owner("PATCH", f"/records/{records[2]['id']}", json={"fields": {"t": "고친 공통"}})
    assert owner.found(dataset, "고친") == ["2"]
    owner("DELETE", f"/datasets/{dataset}/records", params={"ids": records[0]["id"]})
    assert set(owner.found(dataset, "공통")) == {"1", "2", "3", "4"}
    assert set(owner.found(dataset, vector={"name": "v", "value": [1.0, 0.0]})) == {"1", "2", "3", "4"}
    owner("DELETE", f"/datasets/{dataset}")


def test_progress_and_metrics(owner, annotator, dataset):
    assert owner("GET", f"/datasets/{dataset}/progress")["completed"] == 2
    mine = annotator("GET", f"/me/datasets/{dataset}/metrics")["responses"]
    assert {name: mine[name] for name in ("total", "submitted", "draft", "pending")} == {
        "total": 8,
        "submitted": 1,
        "draft": 1,
        "pending": 6,
    }
    properties = owner("GET", f"/me/datasets/{dataset}/metadata-properties")["items"]
    metrics = {item["name"]: owner("GET", f"/metadata-properties/{item['id']}/metrics") for item in properties}
    assert metrics["topic"]["values"][0] == {"term": "edu", "count": 3}
    assert metrics["topic"]["total"] == 6
    assert (metrics["length"]["min"], metrics["length"]["max"]) == (0, 7)
    assert (metrics["score"]["min"], metrics["score"]["max"]) == (0.0, 0.7)


# --- filters and sorts against a plain model of them ------------------------------------------------------------------

TOPIC, LENGTH, SCORE = metadata("topic"), metadata("length"), metadata("score")
STATUS = response(property="status")
STATUSES = ("pending", "draft", "submitted", "discarded")
bound = st.none() | st.integers(-1, 7)
limits = st.tuples(bound, bound).filter(lambda pair: pair != (None, None) and (None in pair or pair[0] <= pair[1]))


def some(*values):
    return st.lists(st.sampled_from(values), min_size=1, max_size=3, unique=True)


def ranges(scope, divisor=1):
    return limits.map(lambda pair: between(scope, *(None if bound is None else bound / divisor for bound in pair)))


def any_terms(scope, *values):
    return some(*values).map(lambda chosen: terms(scope, *chosen))


a_filter = st.one_of(
    any_terms(TOPIC, "a", "b", "c", "none such"),
    ranges(LENGTH),
    ranges(SCORE, 10),
    any_terms(suggestion("rating"), "1", "2", "3", "5"),
    ranges(suggestion("rating")),
    ranges(suggestion("rating", "score"), 10),
    any_terms(suggestion("rating", "agent"), "one", "two", "three"),
    any_terms(suggestion("rating", "type"), "model", "human"),
    any_terms(suggestion("tags"), "x", "y"),
    any_terms(response("rating"), "1", "3", "4"),
    ranges(response("rating")),
    any_terms(response("tags"), "x", "y"),
    any_terms(STATUS, *STATUSES),
    any_terms({"entity": "record", "property": "status"}, "pending", "completed"),
)
a_sort = st.sampled_from(
    [
        *(TOPIC, LENGTH, SCORE, response("rating")),
        *(suggestion("rating", property) for property in ("value", "score", "agent", "type")),
        *({"entity": "record", "property": property} for property in ("inserted_at", "status")),
    ]
)


@pytest.fixture(scope="module")
def model(owner, annotator):
    """Forty random records: what was written, by external id, and the dataset's id under ""."""
    chance = random.Random(3)
    dataset = owner.create_dataset(
        f"model-{uuid.uuid4().hex[:6]}",
        fields={"t": TEXT},
        questions={"rating": rating(), "tags": labels("x", "y", kind="multi_label_selection")},
        metadata={"topic": "terms", "length": "integer", "score": "float"},
        min_submitted=2,
    )
    questions = owner.questions(dataset)
    known = {"": dataset}
    items = []
    for number in range(40):
        meta = {"topic": chance.choice(["a", "b", ["a", "c"], None]), "length": chance.choice([None, 0, 3, -1, 6])}
        meta["score"] = chance.choice([None, 0.1, 0.25, 0.7])
        made = {}
        if chance.random() < 0.8:
            made["rating"] = {"value": chance.randint(1, 5), "score": chance.choice([None, 0.1, 0.5])}
            made["rating"] |= {"agent": chance.choice(["one", "two", None]), "type": chance.choice(["model", "human"])}
        if chance.random() < 0.5:
            made["tags"] = {"value": chance.choice([["x"], ["y"], ["y", "x"]])}
        known[str(number)] = {"metadata": {k: v for k, v in meta.items() if v is not None}, "made": made, "said": {}}
        given_ = [{"question_id": questions[name], **value} for name, value in made.items()]
        fields = {"t": f"글 {number}"}
        items.append(
            {
                "external_id": str(number),
                "fields": fields,
                "metadata": known[str(number)]["metadata"],
                "suggestions": given_,
            }
        )
    for record in owner.upsert(dataset, items):
        for client, name in ((owner, "owner"), (annotator, "annotator1")):
            status = chance.choice(STATUSES)
            if status != "pending":
                values = {"rating": chance.randint(1, 5)}
                if chance.random() < 0.5:
                    values["tags"] = chance.choice([["x"], ["x", "y"]])
                client.answer(record["id"], values, status=status)
                known[record["external_id"]]["said"][name] = {"status": status, **values}
    return known


def values_of(record, scope, user):
    """The values that a record has in a scope; of the answers of one user, or of all."""
    if scope["entity"] == "metadata":
        found = record["metadata"].get(scope["metadata_property"])
    elif scope["entity"] == "suggestion":
        found = record["made"].get(scope["question"], {}).get(scope["property"])
    elif scope["entity"] == "record":
        submitted = [said for said in record["said"].values() if said["status"] == "submitted"]
        found = "completed" if len(submitted) >= 2 else "pending"
    else:
        said = [answer for name, answer in record["said"].items() if user in (None, name)]
        if scope["property"] == "status":
            return [answer["status"] for answer in said] or ["pending"]
        found = list(chain.from_iterable(as_list(answer.get(scope["question"])) for answer in said))
    return as_list(found)


def as_list(value):
    return value if isinstance(value, list) else [] if value is None else [value]


def passes(record, one, user):
    values = values_of(record, one["scope"], user)
    if one["type"] == "terms":
        return any(str(value) in one["values"] for value in values)
    low, high = one.get("ge", -1e9), one.get("le", 1e9)
    return any(low <= value <= high for value in values)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(filters=st.lists(a_filter, max_size=3), me=st.booleans(), text=st.sampled_from([None, "글"]))
def test_filters_mean_what_their_model_means(owner, annotator, model, filters, me, text):
    client, user = (annotator, "annotator1") if me else (owner, None)
    expected = {name for name, record in model.items() if name and all(passes(record, f, user) for f in filters)}
    assert set(client.found(model[""], text, filters=filters or None, me=me)) == expected


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(scope=a_sort, order=st.sampled_from(["asc", "desc"]), me=st.booleans(), text=st.sampled_from([None, "글"]))
def test_sorts_mean_what_their_model_means(owner, annotator, model, scope, order, me, text):
    client, user = (annotator, "annotator1") if me else (owner, None)
    found = client.found(model[""], text, sort=[{"scope": scope, "order": order}], me=me)
    assert sorted(found, key=int) == [str(number) for number in range(40)]
    if scope.get("property") == "inserted_at":
        return
    keys = [values_of(model[name], scope, user) for name in found]
    present = [values for values in keys if values]
    assert keys[len(present) :] == [[]] * (40 - len(present)), "those without a value come last in both directions"
    if scope["entity"] == "response":
        present = [sum(values) / len(values) for values in present]
    else:
        present = [min(values) if order == "asc" else max(values) for values in present]
    assert present == sorted(present, reverse=order == "desc")
