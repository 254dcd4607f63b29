"""A labeler's way through all three datasets, in a real browser; what they say then comes home."""

from __future__ import annotations

import pytest

from argilla_setup import launcher
from lingo_hitl.annotation.pull import pull
from lingo_hitl.annotation.push import push
from lingo_hitl.ledger import Ledger
from lingo_hitl.records import identified
from tests.annotation.conftest import mapped_rows, mapped_table, people, project  # noqa: F401
from tests.browser.conftest import Labeler

pytestmark = [pytest.mark.server, pytest.mark.browser]

TASKS = ("dialogue", "preference", "instruction")


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        yield ledger


@pytest.fixture
def signed_in(labeler: Labeler, argilla_home) -> Labeler:
    account = launcher.credentials(argilla_home).accounts["annotator1"]
    labeler.sign_in(account.username, account.password)
    return labeler


@pytest.mark.parametrize("task", TASKS)
def test_search_filter_find_similar_edit_a_suggestion_submit(signed_in, people, project, ledger, task):  # noqa: F811
    rows = [*mapped_rows(10, task=task), *mapped_rows(4, task=task, text="김치를 맛있게 담그려면")]
    push(mapped_table(rows), project, connection=people.connection, ledger=ledger)
    question, suggested = ("rating_1", 4) if task == "preference" else ("rating", 3)

    signed_in.open(f"{project.project}-{task}")
    signed_in.await_count(14)
    signed_in.search("별")
    signed_in.await_count(10)
    signed_in.filter_by_cluster("별 · 우주")
    signed_in.await_count(5)
    signed_in.find_similar()
    signed_in.await_count(4)  # all but the record itself
    text = signed_in.record_text()
    assert "별은 왜 빛나나요" in text
    assert signed_in.rating(question) == suggested
    signed_in.rate(question, 5)
    assert signed_in.rating(question) == 5
    signed_in.submit()
    signed_in.page.get_by_text("별은 왜 빛나나요").first.wait_for()

    [found] = pull(project, connection=people.connection, ledger=ledger).datasets.values()
    assert (found.new, found.submitted) == (1, 1)
    [answer] = ledger.answers()
    assert (answer.person, answer.body["status"]) == ("annotator1", "submitted")
    assert answer.body["values"][question] == 5
    row = next(row for row in rows if row["id"] == answer.row)
    assert row["instruction"] in text
    assert answer.body["text"] == row["id"]
    assert signed_in.faults == []
    assert signed_in.outside == []


@pytest.mark.parametrize("task", TASKS)
def test_a_text_is_shown_to_the_letter_whatever_is_in_it(signed_in, people, project, ledger, task):  # noqa: F811
    hostile = '<b>굵게</b> &lt;p&gt; & <img src=x onerror="alert(1)"><script>alert(2)</script>'
    [row] = mapped_rows(1, task=task)
    if task == "dialogue":
        row["messages"] = [{"role": "user", "content": "태그?"}, {"role": "assistant", "content": hostile}]
    elif task == "preference":
        row["completions"] = [hostile, "다른 답"]
    else:
        row["output"] = hostile
    push(mapped_table([identified(row)]), project, connection=people.connection, ledger=ledger)
    signed_in.open(f"{project.project}-{task}")
    assert hostile in signed_in.record_text()
    assert signed_in.faults == []


def test_an_answer_that_cannot_be_saved_stays_on_the_page(signed_in, people, project, ledger):  # noqa: F811
    push(mapped_table(mapped_rows(3, task="instruction")), project, connection=people.connection, ledger=ledger)
    page = signed_in.page
    signed_in.open(f"{project.project}-instruction")
    signed_in.await_count(3)
    text = signed_in.record_text()
    signed_in.rate("rating", 2)
    # As in the seconds in which a server is started again.
    page.route("**/responses*", lambda route: route.abort("connectionrefused"))
    signed_in.submit()
    page.get_by_text("서버가 응답하지 않아 저장되지 않았습니다").wait_for()
    page.wait_for_load_state("networkidle")
    assert (signed_in.record_text(), signed_in.rating("rating")) == (text, 2)
    page.unroute("**/responses*")
    signed_in.submit()
    page.locator(".pagination__info", has_text="2 of 3").wait_for()
    [found] = pull(project, connection=people.connection, ledger=ledger).datasets.values()
    assert (found.new, found.submitted) == (1, 1)
