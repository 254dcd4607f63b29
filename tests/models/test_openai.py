"""distilabel's own OpenAI client against a loopback server, with the journal in between."""

import pytest

from lingo_hitl.errors import UserError
from lingo_hitl.llm_config import LLMSpec, Quota
from lingo_hitl.models.journal import Journal
from lingo_hitl.models.loop import submit
from lingo_hitl.models.session import Session
from tests.providers import RESET, Provider, openai_error, openai_text

SECRET = "sk-verysecret"
RATING = {"type": "object", "properties": {"rating": {"type": "integer"}}, "required": ["rating"]}


def openai(provider: Provider, journal=None, **spec):
    spec = LLMSpec(model="openai/tiny", base_url=f"{provider.url}/v1", **spec)
    model = Session(journal or Journal.in_memory()).llm(spec)
    model.backoff_s, model.attempts = 0.01, 3
    return model


def only(model, *prompts):
    return [group[0] for group in model.complete([[{"role": "user", "content": p}] for p in prompts])]


def test_answers_come_in_the_order_of_the_questions(provider):
    said = only(openai(provider, temperature=0.2, max_new_tokens=50), "a", "b", "a")
    assert [c.text for c in said] == ["answer to a", "answer to b", "answer to a"]
    assert (said[0].input_tokens, said[0].output_tokens, said[0].finish) == (1, 4, "stop")
    assert sorted(provider.prompts) == ["a", "b"]
    assert provider.bodies[0]["max_tokens"] == 50 and provider.bodies[0]["temperature"] == 0.2


def test_a_server_of_one_s_own_is_not_sent_openai_s_key(provider, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    only(openai(provider), "a")
    assert SECRET not in provider.keys


def test_the_key_that_the_config_names_is_sent(provider, monkeypatch):
    monkeypatch.setenv("MY_KEY", SECRET)
    only(openai(provider, api_key_env=["MY_KEY"]), "a")
    assert list(provider.keys) == [SECRET]


def test_an_error_costs_that_row_alone_and_is_asked_again_by_the_next_run(provider):
    provider.reply_to = lambda prompt: (500, {"error": {"message": "oops"}}) if prompt == "bad" else None
    journal = Journal.in_memory()
    good, bad = only(openai(provider, journal), "good", "bad")
    assert good.text == "answer to good"
    assert bad.text is None and "InternalServerError" in bad.finish
    provider.reply_to = lambda prompt: None
    assert only(openai(provider, journal), "good", "bad")[1].text == "answer to bad"
    assert provider.prompts.count("good") == 1


def test_an_empty_reply_has_its_reason(provider):
    provider.planned.extend([openai_text(None), openai_text(" \n")])
    none, blank = only(openai(provider), "a"), only(openai(provider), "b")
    assert (none[0].text, none[0].finish) == (None, "no text in the reply")
    assert (blank[0].text, blank[0].finish) == (None, "empty reply")


def test_a_refused_key_stops_the_run_without_telling_it(provider, monkeypatch):
    monkeypatch.setenv("MY_KEY", SECRET)
    provider.bad_keys[SECRET] = (401, {"error": {"message": f"Incorrect API key: {SECRET}"}})
    model = openai(provider, api_key_env=["MY_KEY"])
    with pytest.raises(UserError, match="MY_KEY") as raised:
        only(model, "a")
    assert SECRET not in str(raised.value) and SECRET not in repr(model) and SECRET not in str(model.dump())


def test_a_server_that_is_not_there_stops_the_run():
    model = Session.in_memory().llm(LLMSpec(model="openai/tiny", base_url="http://127.0.0.1:9/v1"))
    model.backoff_s = 0.01
    with pytest.raises(UserError, match="cannot be reached"):
        only(model, "a")


def test_a_connection_that_breaks_for_one_row_costs_that_row_alone(provider):
    provider.reply_to = lambda prompt: RESET if prompt == "bad" else None
    model = openai(provider)
    model.backoff_s = 0.3  # the good one is answered before the bad one is given up
    bad, good = only(model, "bad", "good")
    assert good.text == "answer to good"
    assert bad.text is None and not bad.lasting and bad.finish == "no connection, 3 times"


def test_a_network_that_goes_away_stops_the_run(provider):
    model = openai(provider)
    only(model, "before")
    provider.reply_to = lambda prompt: RESET
    with pytest.raises(UserError, match="cannot be reached"):
        only(model, "a", "b")


@pytest.mark.parametrize("place", ["http://me:pa55@127.0.0.1:9/v1", "me:pa55@127.0.0.1:9"])
def test_a_password_in_the_environment_s_url_is_refused_and_not_told(monkeypatch, place):
    monkeypatch.setenv("OPENAI_BASE_URL", place)
    with pytest.raises(UserError, match="OPENAI_BASE_URL: holds a name or a password") as raised:
        Session.in_memory().llm(LLMSpec(model="openai/tiny"))
    assert "pa55" not in str(raised.value)


def test_neither_an_error_nor_the_journal_has_the_endpoint(provider, monkeypatch, tmp_path):
    monkeypatch.setenv("MY_KEY", SECRET)
    spec = LLMSpec(model="openai/tiny", base_url=f"{provider.url}/v1", api_key_env=["MY_KEY"])
    with Journal(tmp_path / "j") as journal:
        model = Session(journal, quotas={"MY_KEY": Quota(requests_per_day=2)}).llm(spec)
        with pytest.raises(UserError, match=r"^openai/tiny: over the limit") as raised:
            only(model, "a", "b", "c")
    held = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert provider.url not in str(raised.value) and provider.url.encode() not in held
    with Journal(tmp_path / "j") as later, pytest.raises(UserError, match="over the limit"):
        only(Session(later, quotas={"MY_KEY": Quota(requests_per_day=2)}).llm(spec), "c")
    assert len(provider.prompts) == 2


def most_at_once(calls):
    return max(sum(other.arrived <= call.arrived < other.answered for other in calls) for call in calls)


def test_no_more_requests_are_under_way_than_the_config_says(provider):
    provider.delay_s = 0.05
    only(openai(provider, in_flight=2), *"abcdef")
    assert provider.wait_until(lambda it: it.answered == 6)
    assert 1 <= most_at_once(provider.calls) <= 2


@pytest.mark.parametrize(
    ("spec", "quota", "most"),
    [
        ({}, {}, 16),
        ({"in_flight": 100}, {}, 100),
        ({"api_key_env": ["MY_KEY"]}, {}, 4),
        ({"api_key_env": ["MY_KEY"]}, {"tokens_per_minute": 1000}, 64),
        ({"api_key_env": ["MY_KEY"]}, {"requests_per_minute": 60}, 64),
        ({"api_key_env": ["MY_KEY"]}, {"requests_per_minute": 3600}, 300),
        ({"api_key_env": ["MY_KEY"]}, {"requests_per_minute": 60_000}, 512),
        ({"api_key_env": ["MY_KEY"], "in_flight": 8}, {"requests_per_minute": 60}, 8),
    ],
)
def test_so_many_requests_are_under_way_at_once(provider, monkeypatch, spec, quota, most):
    monkeypatch.setenv("MY_KEY", SECRET)
    spec = LLMSpec(model="openai/tiny", base_url=f"{provider.url}/v1", **spec)
    [key] = Session(Journal.in_memory(), quotas={"MY_KEY": Quota(**quota)}).llm(spec).keys()
    assert key.most_in_flight == most


def test_a_second_key_takes_over_where_the_first_is_refused_and_a_limit_is_waited_for(provider, monkeypatch):
    monkeypatch.setenv("OLD", "sk-old")
    monkeypatch.setenv("NEW", SECRET)
    provider.bad_keys["sk-old"] = (401, {"error": {"message": "revoked"}})
    provider.planned.append((429, {"error": {"message": "slow down"}}))
    model = openai(provider, api_key_env=["OLD", "NEW"])
    assert [said.text for said in only(model, "a", "b")] == ["answer to a", "answer to b"]
    assert model.session.tally.keys()["NEW"]["calls"] == 2
    assert model.session.tally.keys()["NEW"]["limited"] == 1


def test_a_server_that_knows_no_schemas_is_asked_without(provider):
    provider.planned.append((400, {"error": {"message": "response_format is not supported"}}))
    model = openai(provider)
    said = submit(model.acomplete([{"role": "user", "content": "a"}], schema=RATING)).result()
    assert said.text == "answer to a"
    assert ["response_format" in body for body in provider.bodies] == [True, False]


def test_a_request_that_is_bad_for_another_reason_leaves_the_others_their_schema(provider):
    provider.reply_to = lambda prompt: openai_error(400, "too long") if prompt == "long" else None
    model = openai(provider)
    long = submit(model.acomplete([{"role": "user", "content": "long"}], schema=RATING)).result()
    assert long.text is None and "too long" in long.finish
    submit(model.acomplete([{"role": "user", "content": "a"}], schema=RATING)).result()
    assert ["response_format" in body for body in provider.bodies] == [True, False, True]


def test_being_asked_without_a_schema_counts_as_a_request_of_its_key(provider, monkeypatch):
    monkeypatch.setenv("MY_KEY", SECRET)
    provider.planned.append(openai_error(400, "response_format is not supported"))
    spec = LLMSpec(model="openai/tiny", base_url=f"{provider.url}/v1", api_key_env=["MY_KEY"])
    model = Session(Journal.in_memory(), quotas={"MY_KEY": Quota(requests_per_day=1)}).llm(spec)
    with pytest.raises(UserError, match="over the limit of every API key"):
        submit(model.acomplete([{"role": "user", "content": "a"}], schema=RATING)).result()
    assert len(provider.prompts) == 1


@pytest.mark.parametrize(
    "page",
    [
        (200, "<html><body>please sign in</body></html>"),
        (200, "<html><body>로그인하십시오</body></html>".encode("euc-kr")),
        (200, {"error": {"message": "overloaded"}}),
        (200, {"choices": [{"index": 0}]}),
        (200, []),
    ],
    ids=["html", "EUC-KR", "error", "no message", "list"],
)
def test_what_is_no_completion_is_asked_again(provider, page):
    provider.planned.append(page)
    assert only(openai(provider), "a")[0].text == "answer to a"
    assert len(provider.prompts) == 2


def test_half_a_text_that_a_filter_ended_is_no_text(provider):
    provider.planned.append(openai_text("half a te", "content_filter"))
    [cut] = only(openai(provider), "a")
    assert (cut.text, cut.finish) == (None, "stopped: content_filter")


def test_a_text_is_cut_where_the_server_says_so(provider):
    provider.planned.extend([openai_text("half", "length", tokens_out=2), openai_text("whole", tokens_out=50)])
    [cut], [whole] = only(openai(provider), "a"), only(openai(provider, max_new_tokens=50), "b")
    assert (cut.text, cut.finish, whole.text, whole.finish) == ("half", "length", "whole", "stop")


def test_openai_itself_needs_a_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(UserError, match=r"looked for OPENAI_API_KEY\)"):
        Session.in_memory().llm(LLMSpec(model="openai/gpt"))
