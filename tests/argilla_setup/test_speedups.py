"""The faster server answers as Argilla's own code does: the same requests to both, and the replies compared."""

from __future__ import annotations

import json
import re

import pytest

from tests.argilla_setup.rest import CHAT, CUSTOM, TEXT, Rest, labels, rating

pytestmark = pytest.mark.server

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def test_the_functions_that_are_replaced_are_those_that_were_read(argilla_home):
    log = (argilla_home / "logs" / "server.log").read_text()
    assert "left slow" not in log, "the log names the functions whose source is another one"
    assert "slow parts are replaced" in log


def exchange(home):
    """Every kind of bulk request and what can be read afterwards, as (status, text) with ids and times made equal."""
    owner, annotator = Rest(home), Rest(home, "annotator1")
    dataset = owner.create_dataset(
        "same",
        fields={"t": TEXT, "talk": CHAT, "card": CUSTOM},
        questions={"rating": rating(), "tags": labels("x", "y", kind="multi_label_selection")},
        metadata={"topic": "terms", "length": "integer", "score": "float"},
        vectors={"v": 3, "w": 2},
        min_submitted=1,
    )
    rating_id, tags_id = (owner.questions(dataset)[name] for name in ("rating", "tags"))
    user = annotator("GET", "/me")["id"]
    answered = {"user_id": user, "status": "submitted", "values": {"rating": {"value": 4}}}
    whole = {
        "external_id": "a",
        "fields": {
            "t": "한국 \u2028 </script>",
            "talk": [{"role": "user", "content": "안녕"}],
            "card": {"n": [1, None]},
        },
        "metadata": {"topic": ["p", "q"], "length": 3, "score": 1e-7, "other": 12345678901234567890},
        "vectors": {"v": [0.1, -1e-7, 1e16], "w": [1, 2]},
        "suggestions": [
            {"question_id": rating_id, "value": 2, "score": 0.5, "agent": "m", "type": "model"},
            {"question_id": tags_id, "value": ["y", "x"], "score": [0.1, 0.9]},
        ],
    }
    put, post = ("PUT", f"/datasets/{dataset}/records/bulk"), ("POST", f"/datasets/{dataset}/records/bulk")
    search = ("POST", f"/datasets/{dataset}/records/search")
    mine = ("POST", f"/me/datasets/{dataset}/records/search")
    every = {"params": {"include": ["responses", "suggestions", "vectors"], "limit": 100}}
    listed = ("GET", f"/datasets/{dataset}/records")
    asked = [
        (put, {"json": {"items": [whole, {"external_id": "b", "fields": {"t": "둘"}, "responses": [answered]}]}}),
        (listed, every),
        (put, {"json": {"items": [{"external_id": "a", "vectors": {"v": [9, 8, 7]}}, {"fields": {"t": "셋"}}]}}),
        (put, {"json": {"items": [{"external_id": "a", "metadata": None, "suggestions": whole["suggestions"][:1]}]}}),
        (put, {"json": {"items": [{"external_id": "b", "fields": {"t": "다른"}, "metadata": {"length": 1}}]}}),
        (listed, every),
        (post, {"json": {"items": [{**whole, "external_id": "c"}, {"external_id": "d", "fields": {"t": "넷"}}]}}),
        (post, {"json": {"items": [{"external_id": "a", "fields": {"t": "schon da"}}]}}),
        (put, {"json": {"items": [{"external_id": "e", "fields": {"t": "x"}}, {"external_id": "e", "fields": {}}]}}),
        (put, {"json": {"items": [{"fields": {"t": "gut"}}, {"fields": {"none": "such"}}]}}),
        (put, {"json": {"items": [{"fields": {"t": "x"}, "vectors": {"v": [1.0]}}]}}),
        (put, {"json": {"items": [{"fields": {"t": "x"}, "suggestions": [{"question_id": rating_id, "value": 9}]}]}}),
        (put, {"json": {"items": [{"fields": {"t": 5}, "metadata": {"length": "lang"}}]}}),
        (put, {"json": {"items": []}}),
        (put, {"content": b'{"items": [{"fields": {"t": "\\ud800"}}]}'}),
        (put, {"content": b'{"items": [{"fields": {"t": "x"}, "metadata": {"score": NaN}}]}'}),
        (put, {"content": b'{"items": [{"fields": {"t": "x"}}'}),
        (put, {"content": '{"items": [{"fields": {"t": "열여섯"}}]}'.encode("utf-16")}),
        (put, {"content": b"\xff\xfe\x00"}),
        (listed, every),
        (search, {"json": {"query": {"text": {"q": "안녕"}}}, **every}),
        (mine, {"json": {}, **every}),
        (("GET", f"/me/datasets/{dataset}/metrics"), {}),
    ]
    replies = []
    json_type = {"content-type": "application/json"}
    for (method, path), more in asked:
        client = annotator if path.startswith("/me") else owner
        reply = client.client.request(method, f"/api/v1{path}", **more, headers=json_type)
        replies.append((method, path.rpartition("/")[2], reply.status_code, reply.text))
    return normalised(replies)


def normalised(replies):
    """With ids numbered in the order in which they come up, no times, and JSON written in one way."""
    numbers = {}

    def numbered(found):
        return numbers.setdefault(found.group(), f"id{len(numbers)}")

    def without_times(value):
        if isinstance(value, dict):
            return {key: without_times(one) for key, one in value.items() if key not in ("inserted_at", "updated_at")}
        if isinstance(value, list):
            return [without_times(one) for one in value]
        return value

    same = []
    for method, path, status, reply in replies:
        text = reply
        try:
            value = without_times(json.loads(reply))
            if path == "search":
                # An annotator's order follows from ids, which two servers draw each for itself.
                value["items"].sort(
                    key=lambda item: (item["record"]["fields"]["t"] or "", item["record"]["external_id"] or "")
                )
                value["items"] = [{**item, "query_score": None} for item in value["items"]]
            text = json.dumps(value, sort_keys=True, ensure_ascii=False)
        except ValueError:
            pass
        same.append((method, path, status, UUID.sub(numbered, text)))
    return same


def test_bulk_requests_are_answered_as_by_argillas_own_code(argilla_home, start, home, monkeypatch):
    monkeypatch.setenv("LINGO_HITL_SPEEDUPS", "off")
    start()
    fast, stock = exchange(argilla_home), exchange(home)
    for ours, theirs in zip(fast, stock, strict=True):
        assert ours == theirs
