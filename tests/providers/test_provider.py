"""The loopback providers keep what the tests and benchmarks that lean on them take for granted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from lingo_hitl.judging.parse import parse_ratings
from tests.providers import LASTING, PASSING, Faults, Provider, Quotas, running, speak
from tests.providers.wire import Call

ROOT = Path(__file__).resolve().parents[2]


def post(provider, text, *, key="k", timeout=5.0):
    body = {"contents": [{"role": "user", "parts": [{"text": text}]}]}
    url = f"{provider.url}/v1beta/models/m:generateContent"
    return requests.post(url, json=body, headers={"x-goog-api-key": key}, timeout=timeout)


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 0.5), st.integers(0, 40)), max_size=80),
    st.integers(1, 5),
    st.integers(10, 90),
)
def test_no_key_is_ever_given_more_than_its_minute_allows(asked, requests_a_minute, tokens_a_minute):
    quotas = Quotas(requests_a_minute, tokens_a_minute, scale=30)
    now, given_to = 100.0, {"a": [], "b": []}
    for key, pause, tokens in asked:
        now += pause
        if (limit := quotas.admit(key, now, tokens)) is None:
            given_to[key].append((now, tokens))
        else:
            assert 0 < limit.seconds <= 2.0
    for times in given_to.values():
        for i, (start, _) in enumerate(times):
            minute = [tokens for at, tokens in times[i:] if at < start + 2.0]
            assert len(minute) <= requests_a_minute
            assert sum(minute) <= tokens_a_minute or len(minute) == 1


def test_a_refused_request_may_come_again_after_the_time_that_it_was_told():
    quotas = Quotas(requests_per_minute=2, requests_per_day=3)
    assert [quotas.admit("a", at, 1) for at in (0.0, 10.0)] == [None, None]
    limit = quotas.admit("a", 20.0, 1)
    assert limit.seconds == pytest.approx(40) and quotas.admit("a", 20.0 + limit.seconds, 1) is None
    assert quotas.admit("a", 600.0, 1).quota == "GenerateRequestsPerDayPerProjectPerModel"


def test_the_same_questions_meet_the_same_faults_whatever_came_between():
    def met(digests):
        faults = Faults.spread(0.5, (*PASSING, *LASTING))
        found = {}
        for digest in digests:
            found.setdefault(digest, []).append(faults.meet(digest)[0])
        return found

    some = [f"{n}" for n in range(200)]
    forth, back = met(some * 2), met([*reversed(some), *some])
    assert forth == back
    share = sum(first is not None for first, _ in forth.values()) / len(some)
    assert 0.35 < share < 0.65
    assert all(second == first for first, second in forth.values() if first in LASTING)


@pytest.mark.parametrize("held", [False, True], ids=["words", "json"])
@pytest.mark.parametrize("language", ["ko", "en"])
def test_a_judge_of_the_brain_s_is_understood_and_rates_a_text_alike_wherever_it_stands(language, held):
    from lingo_hitl.generation.prompts import render

    def rated(texts):
        shown = {"criteria": "-", "instruction": "?", "texts": texts, "json": held}
        content = render("lingo_hitl.judging.prompts", language, "annotate", **shown)
        one = {"type": 6, "properties": {"rationale": {"type": 1}, "rating": {"type": 3}}}  # as the SDK writes it
        schema = {"type": 6, "properties": {f"text_{n}": one for n, _ in enumerate(texts, start=1)}}
        config = {"generationConfig": {"responseSchema": schema}} if held else {}
        call = Call(1, "k", "m", True, [{"role": "user", "content": content}], config)
        return [verdict.rating for verdict in parse_ratings(speak(call), len(texts))]

    texts = ["하나", "둘\n\n두 단락", "셋", "four"]
    ratings = rated(texts)
    assert None not in ratings and rated(texts[::-1]) == ratings[::-1]


@pytest.mark.parametrize(
    ("fault", "seen"),
    [
        ("429", "429"),
        ("500", "500"),
        ("502", "502"),
        ("503", "503"),
        ("reset", "ConnectionError"),
        ("cut", "ChunkedEncodingError"),
        ("truncated", "JSONDecodeError"),
        ("stall", "ConnectionError"),  # requests' name for a body that stops coming
        ("empty", ""),
        ("safety", "SAFETY"),
        ("max_tokens", "MAX_TOKENS"),
        ("blocked", "blocked"),
    ],
)
def test_each_fault_reaches_the_client_as_what_it_is(fault, seen):
    def came(provider):
        try:
            reply = post(provider, "별", timeout=0.2)
            if reply.status_code != 200:
                return [str(reply.status_code)]
            candidate = reply.json().get("candidates", [None])[0]
        except requests.RequestException as error:
            return [type(error).__name__]
        if candidate is None:
            return ["blocked"]
        return [candidate["finishReason"], candidate["content"]["parts"][0]["text"]]

    with running(Provider(faults=Faults({fault: 1.0}))) as provider:
        assert seen in came(provider)
        [call] = provider.calls
        broken = fault in ("reset", "cut", "stall")
        assert broken or provider.wait_until(lambda it: it.answered == 1)
        assert call.fault == fault and (call.answered is None) == broken


def test_as_a_process_of_its_own_it_writes_down_every_call(tmp_path):
    log = tmp_path / "calls.jsonl"
    options = ["--requests-per-minute", "2", "--refused", "bad", "--log", str(log)]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.providers", *options],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        provider = Provider(url=process.stdout.readline().strip())
        codes = [post(provider, "별", key=key).status_code for key in ("a", "a", "a", "b", "bad")]
        process.stdin.close()
        assert process.wait(10) == 0
    assert codes == [200, 200, 429, 200, 403]
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    assert [(line[1], line[3]) for line in lines if line[0] == "sent"] == list(enumerate(codes, start=1))
    assert len({line[4] for line in lines if line[0] == "arrived"}) == 1
