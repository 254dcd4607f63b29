"""The real google-generativeai against a loopback server that breaks in every way the real one does."""

import pytest

from lingo_hitl.errors import UserError
from lingo_hitl.llm_config import LLMSpec
from lingo_hitl.models.journal import Journal
from lingo_hitl.models.session import Session
from tests.providers import Provider, gemini_error, gemini_text, over_limit

SECRET, OTHER = "AIzaSecretOne", "AIzaSecretTwo"
BAD_KEY = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID", "domain": "x"}


@pytest.fixture(autouse=True)
def environment(monkeypatch, provider: Provider):
    monkeypatch.setenv("GEMINI_API_KEY", SECRET)
    monkeypatch.setenv("GEMINI_KEY_2", OTHER)
    monkeypatch.setenv("GEMINI_API_ENDPOINT", provider.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def gemini(journal=None, **spec):
    model = Session(journal or Journal.in_memory()).llm(LLMSpec(model="gemini/gemini-test", **spec))
    model.backoff_s, model.timeout_s, model.attempts = 0.01, 5.0, 3
    return model


def ask(*prompts):
    return [[{"role": "user", "content": prompt}] for prompt in prompts]


def only(model, *prompts):
    return [group[0] for group in model.complete(ask(*prompts))]


def test_what_is_asked_arrives_in_gemini_s_own_form(provider):
    model = gemini(temperature=0.3, top_p=0.9, top_k=40, max_new_tokens=99)
    conversation = [
        {"role": "system", "content": "한국어로 답하라"},
        {"role": "user", "content": "안녕"},
        {"role": "assistant", "content": "네"},
        {"role": "user", "content": "별은?"},
    ]
    [[said]] = model.complete([conversation])
    assert (said.text, said.input_tokens, said.output_tokens) == ("answer to 별은?", 14, 6)
    [body] = provider.bodies
    assert body["systemInstruction"]["parts"] == [{"text": "한국어로 답하라"}]
    assert [c["role"] for c in body["contents"]] == ["user", "model", "user"]
    config = body["generationConfig"]
    assert config["topK"] == 40 and config["maxOutputTokens"] == 99
    assert config["temperature"] == pytest.approx(0.3) and config["topP"] == pytest.approx(0.9)


@pytest.mark.parametrize(
    "fault",
    [
        gemini_error(500, "INTERNAL", "oops"),
        gemini_error(503, "UNAVAILABLE", "overloaded"),
        (502, "<html><body>Bad Gateway</body></html>"),
        (200, "<html><body>please sign in</body></html>"),
        over_limit(0.05),
        gemini_error(429, "RESOURCE_EXHAUSTED", "no hint"),
        (408, "<html><body>too slow</body></html>"),
        (520, "<html><body>Web server is returning an unknown error</body></html>"),
        gemini_error(529, "UNAVAILABLE", "overloaded"),
        (200, "<html><body>로그인하십시오</body></html>".encode("euc-kr")),
    ],
    ids=["500", "503", "502 html", "200 html", "429 with pause", "429 without", "408", "520", "529", "200 EUC-KR"],
)
def test_a_passing_fault_is_asked_again(provider, fault):
    provider.planned.append(fault)
    assert only(gemini(), "별")[0].text == "answer to 별"
    assert len(provider.prompts) == 2


def test_lasting_server_errors_cost_that_row_alone_and_are_asked_again_later(provider):
    provider.reply_to = lambda prompt: gemini_error(500, "INTERNAL", "oops") if prompt == "bad" else None
    journal = Journal.in_memory()
    good, bad = only(gemini(journal), "good", "bad")
    assert good.text == "answer to good"
    assert bad.text is None and bad.finish.startswith("500") and "3 times" in bad.finish
    provider.reply_to = lambda prompt: None
    assert [c.text for c in only(gemini(journal), "good", "bad")] == ["answer to good", "answer to bad"]
    assert provider.prompts.count("good") == 1


def test_a_timeout_costs_that_row_alone(provider):
    model = gemini()
    model.timeout_s, model.attempts, provider.delay_s = 0.1, 2, 0.4
    [slow] = only(model, "slow")
    assert slow.text is None and slow.finish == "timeout, 2 times"


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ((200, {"promptFeedback": {"blockReason": "SAFETY"}}), "prompt blocked: SAFETY"),
        (gemini_text("half", "SAFETY"), "stopped: SAFETY"),
        (gemini_text("", "MAX_TOKENS"), "MAX_TOKENS"),
        (gemini_text("", "STOP"), "empty reply"),
        ((200, {}), "no candidates"),
    ],
    ids=["blocked", "safety", "max tokens", "empty", "nothing"],
)
def test_a_refusal_has_its_reason_and_is_not_paid_for_twice(provider, reply, reason):
    provider.reply_to = lambda prompt: reply if prompt == "bad" else None
    model = gemini()
    good, bad = only(model, "good", "bad")
    assert good.text == "answer to good"
    assert (bad.text, bad.finish) == (None, reason)
    only(model, "good", "bad")
    assert len(provider.prompts) == 2


@pytest.mark.parametrize("code", [407, 413, 422])
def test_a_refusal_without_a_class_of_its_own_costs_that_row_alone(provider, code):
    provider.reply_to = lambda prompt: (code, "<html>no</html>") if prompt == "bad" else None
    good, bad = only(gemini(), "good", "bad")
    assert good.text == "answer to good"
    assert bad.text is None and not bad.lasting and bad.finish.startswith(str(code))


@pytest.mark.parametrize("reason", ["SAFETY", "A_REASON_OF_NEXT_YEAR"])
def test_half_a_text_that_a_filter_ended_is_no_text(provider, reason):
    provider.planned.append(gemini_text("반쪽", reason))
    [cut] = only(gemini(), "x")
    assert cut.text is None and cut.finish.startswith("stopped: ")


def test_a_bad_request_costs_that_row_alone(provider):
    provider.planned.append(gemini_error(400, "INVALID_ARGUMENT", "too long"))
    [bad] = only(gemini(), "x")
    assert bad.text is None and bad.finish == "400 too long"


@pytest.mark.parametrize(
    "refusal",
    [
        gemini_error(403, "PERMISSION_DENIED", f"key {SECRET} is blocked"),
        gemini_error(401, "UNAUTHENTICATED", "who are you"),
        gemini_error(400, "INVALID_ARGUMENT", "API key not valid.", BAD_KEY),
    ],
    ids=["403", "401", "400"],
)
def test_a_refused_key_goes_out_and_the_others_go_on(provider, refusal):
    provider.bad_keys[SECRET] = refusal
    model = gemini(api_key_env=["GEMINI_API_KEY", "GEMINI_KEY_2"])
    texts = [c.text for c in only(model, *"abcdefgh")]
    assert texts == [f"answer to {letter}" for letter in "abcdefgh"]
    before = provider.keys[SECRET]
    only(model, "later")
    assert provider.keys[SECRET] == before
    report = model.session.report()["keys"]
    assert report["GEMINI_API_KEY"]["refused"].startswith("gemini/gemini-test: 40")
    assert "refused" not in report["GEMINI_KEY_2"] and SECRET not in str(report)


def test_with_no_key_left_the_run_stops_naming_variables_and_no_secret(provider, tmp_path):
    path = tmp_path / "journal.sqlite"
    with Journal(path) as journal:
        model = gemini(journal, api_key_env=["GEMINI_API_KEY", "GEMINI_KEY_2"])
        only(model, "paid")
        for key in (SECRET, OTHER):
            provider.bad_keys[key] = gemini_error(403, "PERMISSION_DENIED", f"key {key} is blocked")
        with pytest.raises(UserError, match=r"no API key is left .*GEMINI_API_KEY.*GEMINI_KEY_2.*resumes") as raised:
            only(model, "paid", "next")
        provider.bad_keys.clear()
        asked = len(provider.prompts)
        texts = [c.text for c in only(gemini(journal), "paid", "next")]
        assert texts == ["answer to paid", "answer to next"]
        assert len(provider.prompts) == asked + 1
    held = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    for key in (SECRET, OTHER):
        assert key not in str(raised.value) and key not in repr(model) and key.encode() not in held


def test_a_key_over_its_limit_rests_while_the_other_works(provider):
    provider.bad_keys[SECRET] = over_limit(30)
    texts = [c.text for c in only(gemini(api_key_env=["GEMINI_API_KEY", "GEMINI_KEY_2"]), *"abcdef")]
    assert texts == [f"answer to {letter}" for letter in "abcdef"]
    assert provider.keys[OTHER] == 6


def test_keys_that_rest_too_long_stop_the_run(provider):
    provider.bad_keys[SECRET] = over_limit(3600)
    with pytest.raises(UserError, match=r"over the limit of every API key \(GEMINI_API_KEY\).*resumes"):
        only(gemini(), "a", "b")


def test_an_unknown_model_stops_the_run(provider):
    provider.planned.append(gemini_error(404, "NOT_FOUND", "models/gemini-test is not found"))
    with pytest.raises(UserError, match="Check the model's name"):
        only(gemini(), "a")


def test_a_password_in_the_endpoint_is_refused_and_not_told(monkeypatch):
    monkeypatch.setenv("GEMINI_API_ENDPOINT", "http://me:pa55@127.0.0.1:9")
    with pytest.raises(UserError, match="GEMINI_API_ENDPOINT: holds a name or a password") as raised:
        gemini()
    assert "pa55" not in str(raised.value)


def test_a_server_that_is_not_there_stops_the_run(monkeypatch):
    monkeypatch.setenv("GEMINI_API_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"cannot be reached .*GEMINI_API_ENDPOINT"):
        only(gemini(), "a")


def test_without_a_key_its_variable_is_named(monkeypatch):
    monkeypatch.delenv("GEMINI_API_KEY")
    with pytest.raises(UserError, match=r"looked for GEMINI_API_KEY\)"):
        gemini()


def test_a_text_that_was_cut_is_kept_and_says_so(provider):
    provider.reply_to = lambda prompt: gemini_text("half", "MAX_TOKENS")
    [cut] = only(gemini(), "long")
    assert (cut.text, cut.finish) == ("half", "length")


@pytest.mark.parametrize("secret", ["AIzaSecret키", "AIza Secret"])
def test_what_can_be_no_key_is_refused_before_a_request_could_tell_it(monkeypatch, secret):
    monkeypatch.setenv("PASTED", secret)
    with pytest.raises(UserError, match="PASTED holds characters that no API key has") as raised:
        Session.in_memory().llm(LLMSpec(model="gemini/g", api_key_env=["PASTED"]))
    assert secret not in str(raised.value)


def test_a_key_that_is_not_set_is_named_though_others_are(monkeypatch):
    monkeypatch.setenv("FIRST", "AIzaFirst")
    monkeypatch.delenv("SECOND", raising=False)
    with pytest.raises(UserError, match=r"looked for SECOND\) \(there: FIRST\)\. Set SECOND"):
        Session.in_memory().llm(LLMSpec(model="gemini/g", api_key_env=["FIRST", "SECOND"]))
