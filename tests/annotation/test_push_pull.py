"""Push and sync against a real Argilla: nothing twice, nothing lost, nobody's answer touched."""

from __future__ import annotations

import pytest

from lingo_hitl.annotation.argilla_api import connect
from lingo_hitl.annotation.consensus import consensus
from lingo_hitl.annotation.datasets import dataset_name, find_dataset, pages
from lingo_hitl.annotation.pull import pull
from lingo_hitl.annotation.push import push
from lingo_hitl.errors import UserError
from lingo_hitl.ledger import Ledger
from tests.annotation.conftest import mapped_rows, mapped_table

pytestmark = pytest.mark.server


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        yield ledger


@pytest.fixture
def send(project, people, ledger):
    """Push rows; returns how many were created, updated and unchanged."""

    def send(rows):
        outcome = push(mapped_table(rows), project, connection=people.connection, ledger=ledger)
        states = outcome.rows["state"].to_pylist()
        return tuple(states.count(state) for state in ("created", "updated", "unchanged")), outcome

    return send


@pytest.fixture
def sync(project, people, ledger):
    def sync():
        [found] = pull(project, connection=people.connection, ledger=ledger).datasets.values()
        return found.new, found.edited, found.retracted

    return sync


def test_all_three_tasks_arrive_with_what_a_labeler_needs(send, people):
    rows = [row for task in ("dialogue", "preference", "instruction") for row in mapped_rows(3, task=task)]
    counts, _ = send(rows)
    assert counts == (9, 0, 0)
    for task in ("dialogue", "preference", "instruction"):
        records = people.records(task)
        assert len(records) == 3
        record = next(iter(records.values()))
        assert record["metadata"]["cluster"] in ("별 · 우주", "요리 · 음식")
        assert {s["agent"] for s in record["suggestions"]} == {"tiny judge"}
        assert all(0 < s["score"] <= 1 for s in record["suggestions"])
        dataset = find_dataset(people.connection, people.project, task)
        guidelines = people.connection.request("GET", f"datasets/{dataset.id}")["guidelines"]
        assert "점수" in guidelines
        assert "rating" in guidelines


def test_a_second_push_changes_nothing(send, people):
    rows = mapped_rows(20)
    assert send(rows)[0] == (20, 0, 0)
    before = people.records()
    assert send(rows)[0] == (0, 0, 20)
    assert people.records() == before


def test_only_what_changed_is_sent(send, people):
    rows = mapped_rows(20)
    send(rows)
    rows[3] = {**rows[3], "ratings": [5.0]}
    counts, _ = send(rows)
    assert counts == (0, 1, 19)
    record = people.records()[rows[3]["id"]]
    assert [s["value"] for s in record["suggestions"]] == [5]
    assert record["metadata"]["cluster"]


def test_answers_are_never_touched_by_a_push(send, people):
    rows = mapped_rows(5)
    send(rows)
    people.answer("annotator1", rows[0]["id"], rating=2, correction="제 글")
    before = people.records()[rows[0]["id"]]["responses"]
    rows[0] = {**rows[0], "ratings": [5.0], "cluster": "새 주제"}
    assert send(rows)[0] == (0, 1, 4)
    assert people.records()[rows[0]["id"]]["responses"] == before


def test_records_that_vanished_from_argilla_are_sent_again(send, people):
    rows = mapped_rows(6)
    send(rows)
    gone = people.records()[rows[2]["id"]]["id"]
    people.request("owner", "DELETE", f"records/{gone}")
    assert send(rows)[0] == (1, 0, 5)
    assert set(people.records()) == {row["id"] for row in rows}


def test_an_answer_comes_home_once_with_who_when_and_what_was_shown(send, sync, people, ledger):
    rows = mapped_rows(4)
    send(rows)
    people.answer("annotator1", rows[1]["id"], rating=2, correction="더 나은 글")
    assert sync() == (1, 0, 0)
    assert sync() == (0, 0, 0)
    [answer] = ledger.answers()
    assert (answer.row, answer.person) == (rows[1]["id"], "annotator1")
    assert answer.body["values"] == {"rating": 2, "correction": "더 나은 글"}
    assert answer.body["text"] == rows[1]["id"]
    assert answer.body["suggestions"]
    assert answer.body["at"].startswith("20")


def test_an_edit_appends_and_a_deletion_retracts(send, sync, people, ledger):
    rows = mapped_rows(3)
    send(rows)
    given = people.answer("annotator1", rows[0]["id"], rating=2)
    people.answer("annotator2", rows[0]["id"], rating=4)
    assert sync() == (2, 0, 0)
    people.request(
        "annotator1", "PUT", f"responses/{given['id']}", {"status": "submitted", "values": {"rating": {"value": 5}}}
    )
    assert sync() == (0, 1, 0)
    people.request("annotator1", "DELETE", f"responses/{given['id']}")
    assert sync() == (0, 0, 1)
    assert sync() == (0, 0, 0)
    assert [(a.person, a.body["values"]["rating"]) for a in ledger.answers()] == [("annotator2", 4)]
    said = [event.body["values"]["rating"] for _, event in ledger.history(rows[0]["id"]) if "values" in event.body]
    assert sorted(said) == [2, 4, 5]


@pytest.mark.parametrize("task", ["dialogue", "preference", "instruction"])
def test_the_text_that_was_on_the_screen_has_the_rows_own_hash(send, sync, people, ledger, task):
    rows = mapped_rows(2, task=task)
    send(rows)
    values = {"rating_1": 5, "rating_2": 1} if task == "preference" else {"rating": 4}
    people.answer("annotator1", rows[0]["id"], task=task, **values)
    sync()
    assert [a.body["text"] for a in ledger.answers()] == [rows[0]["id"]]
    view = consensus(mapped_table(rows), ledger.answers()).rows.to_pylist()[0]
    assert view["human_ratings"] == ([5.0, 1.0] if task == "preference" else [4.0])


def test_an_answer_to_a_text_that_somebody_changed_in_argilla_does_not_count(send, sync, people, ledger):
    rows = mapped_rows(2)
    send(rows)
    record = people.records()[rows[0]["id"]]["id"]
    people.request("owner", "PATCH", f"records/{record}", {"fields": {"instruction": "다른 글", "output": "다른 답"}})
    people.answer("annotator1", rows[0]["id"], rating=4)
    sync()
    outcome = consensus(mapped_table(rows), ledger.answers())
    assert outcome.report["answered"] == 0
    assert outcome.report["answers_about_a_text_changed_in_argilla"] == 1


def test_a_row_that_argilla_refuses_is_dropped_with_its_reason_and_the_rest_goes(send, people):
    rows = mapped_rows(9)
    rows[4] = {**rows[4], "vector": [0.1, 0.2]}
    counts, outcome = send(rows)
    assert counts == (8, 0, 0)
    [lost] = outcome.dropped
    assert lost["id"] == rows[4]["id"]
    assert "Argilla refused it" in lost["reason"]


def test_settings_that_drifted_are_found_before_anything_is_sent(send, people, project):
    rows = mapped_rows(3)
    send(rows)
    with pytest.raises(UserError, match=r"8 dimensions there and 4 here\. Nothing was sent"):
        send(mapped_rows(5, dimensions=4))
    with pytest.raises(UserError, match="'rating_3' is missing"):
        pairs = mapped_rows(2, task="preference")
        send(pairs)
        send([{**pairs[0], "completions": ["a", "b", "c"], "ratings": None, "confidence": None}])
    assert len(people.records()) == 3


def test_a_dataset_made_earlier_gets_the_filters_that_were_added_since(send, people, project):
    rows = mapped_rows(2, task="dialogue")
    send(rows[:1])
    dataset = find_dataset(people.connection, project, "dialogue")
    assert dataset is not None
    properties = f"datasets/{dataset.id}/metadata-properties"
    listed = people.connection.request("GET", f"me/{properties}")["items"]
    (copying,) = [item["id"] for item in listed if item["name"] == "copying"]
    people.connection.request("DELETE", f"metadata-properties/{copying}")
    figures = {"copying": 0.25, "speech_level": "해요체"}
    assert send([{**row, **figures} for row in rows])[0] == (1, 1, 0)
    (added,) = [i for i in people.connection.request("GET", f"me/{properties}")["items"] if i["name"] == "copying"]
    assert added["title"] == "베낌 · Copying" and added["visible_for_annotators"] is False
    held = [record["metadata"] for record in pages(people.connection, str(dataset.id))]
    assert [(metadata["copying"], metadata["speech_level"]) for metadata in held] == [(0.25, "해요체")] * 2


def test_an_unfinished_dataset_is_made_again(send, people, project):
    name = dataset_name(project, "instruction")
    workspace = people.connection.client.workspaces("lingo")
    people.request("owner", "POST", "datasets", {"name": name, "workspace_id": str(workspace.id), "guidelines": "x"})
    assert send(mapped_rows(3))[0] == (3, 0, 0)


@pytest.mark.parametrize(
    ("url", "key", "says"),
    [
        (None, "wrong", "refused the API key"),
        ("http://127.0.0.1:9", "x", "no Argilla answers there"),
        ("ftp://x", "x", "expected a URL"),
        (None, "", "ARGILLA_API_KEY is empty"),
    ],
)
def test_a_wrong_url_or_key_is_one_line(people, project, monkeypatch, url, key, says):
    monkeypatch.setenv("ARGILLA_API_KEY", key)
    config = project.argilla.model_copy(update={"url": url or people.connection.url})
    with pytest.raises(UserError, match=says) as caught:
        connect(config, people.home)
    assert "\n" not in str(caught.value)
    assert key == "" or key not in str(caught.value) or key == "x"


def test_an_unknown_workspace_is_named(people, project):
    with pytest.raises(UserError, match=r"no workspace 'other'; this key sees: .*lingo"):
        connect(project.argilla.model_copy(update={"workspace": "other"}), people.home)


def test_a_record_that_is_not_ours_is_left_alone(send, sync, people, ledger):
    rows = mapped_rows(2)
    send(rows)
    place = find_dataset(people.connection, people.project, "instruction").id
    foreign = {"fields": {"instruction": "남의 글", "output": "남의 답"}}
    [made] = people.request("owner", "POST", f"datasets/{place}/records/bulk", {"items": [foreign]})["items"]
    given = {"record_id": made["id"], "status": "submitted", "values": {"rating": {"value": 1}}}
    people.request("annotator1", "POST", "me/responses/bulk", {"items": [given]})
    people.answer("annotator1", rows[0]["id"], rating=4)
    assert sync() == (1, 0, 0)
    assert [a.row for a in ledger.answers()] == [rows[0]["id"]]


def test_a_dataset_renamed_in_argilla_stays_the_projects(send, sync, people):
    rows = mapped_rows(3)
    send(rows)
    place = find_dataset(people.connection, people.project, "instruction").id
    people.request("owner", "PATCH", f"datasets/{place}", {"name": f"renamed-{place}"})
    assert send(rows)[0] == (0, 0, 3)
    record = people.connection.request("GET", f"datasets/{place}/records")["items"][0]["id"]
    given = {"record_id": record, "status": "submitted", "values": {"rating": {"value": 2}}}
    people.request("annotator1", "POST", "me/responses/bulk", {"items": [given]})
    assert sync() == (1, 0, 0)


def test_a_suggestion_that_no_judge_makes_any_more_leaves_the_screen(send, people):
    rows = mapped_rows(3)
    send(rows)
    rows[1] = {**rows[1], "ratings": [None], "judge": None}
    assert send(rows)[0] == (0, 1, 2)
    records = people.records()
    assert [len(records[row["id"]]["suggestions"]) for row in rows] == [1, 0, 1]


def test_an_answer_goes_with_the_suggestions_that_were_on_the_screen_then(send, sync, people, ledger):
    rows = mapped_rows(1)
    send(rows)
    people.answer("annotator1", rows[0]["id"], rating=2)
    send([{**rows[0], "ratings": [5.0]}])
    people.answer("annotator2", rows[0]["id"], rating=5)
    sync()
    seen = {a.person: a.body["suggestions"] for a in ledger.answers()}
    first, second = [event.body["suggestions"] for _, event in ledger.history(rows[0]["id"]) if event.kind == "pushed"]
    assert seen == {"annotator1": first, "annotator2": second}


def test_overlap_follows_the_config_until_a_record_is_finished(send, people, project, ledger):
    def with_overlap(overlap):
        return project.model_copy(update={"push": project.push.model_copy(update={"overlap": overlap})})

    rows = mapped_rows(2)
    send(rows)
    place = find_dataset(people.connection, project, "instruction").id
    push(mapped_table(rows), with_overlap(2), connection=people.connection, ledger=ledger)
    assert people.connection.request("GET", f"datasets/{place}")["distribution"]["min_submitted"] == 2
    for person in ("annotator1", "annotator2"):
        people.answer(person, rows[0]["id"], rating=4)
    with pytest.raises(UserError, match=r"asks 2 people and 1 of its records are finished"):
        push(mapped_table(rows), with_overlap(3), connection=people.connection, ledger=ledger)


def test_the_text_that_people_saw_is_in_the_ledger_itself(send, ledger):
    rows = mapped_rows(1)
    send(rows)
    [(_, pushed)] = ledger.history(rows[0]["id"])
    assert pushed.body["fields"] == {"instruction": rows[0]["instruction"], "output": rows[0]["output"]}
