"""No key is ever over its quota, whatever comes when; and hardly any of a quota is lost."""

import asyncio
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingo_hitl.errors import UserError
from lingo_hitl.llm_config import Quota
from lingo_hitl.models.completion import Completion
from lingo_hitl.models.journal import Entry, Journal
from lingo_hitl.models.keys import PERIOD_S, Key, KeyPool
from lingo_hitl.models.session import Session
from lingo_hitl.models.stop import Stop
from tests.models.virtual_time import run

MINUTE = 60.0


def pool_of(*keys, patience_s=900.0, journal=None, stop=None):
    return KeyPool("m", keys, patience_s=patience_s, stop=stop or Stop(), journal=journal or Journal.in_memory())


def clock():
    return asyncio.get_running_loop().time()


async def ask(pool, log, *, tokens=0.0, used=None, seconds=1.0, after=0.0):
    """One request that takes `seconds`; `log` gets its key, when it went out and what it cost."""
    await asyncio.sleep(after)
    key, sent = await pool.take(tokens)
    log.append((key.variable, clock(), tokens if used is None else used))
    await asyncio.sleep(seconds)
    pool.give_back(key, sent, used=used, size=0)


def most_in_a_minute(log, key, weigh=lambda cost: 1):
    sent = [(at, weigh(cost)) for variable, at, cost in log if variable == key]
    return max(sum(w for at, w in sent if start <= at < start + MINUTE) for start, _ in sent)


def together(*requests):
    async def all_of_them():
        return await asyncio.gather(*requests, return_exceptions=True)

    return all_of_them()


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 90),
    st.lists(st.tuples(st.floats(0, 200), st.floats(0, 20)), min_size=2, max_size=120),
)
def test_no_minute_has_more_requests_than_allowed(limit, arrivals):
    log = []
    pool = pool_of(Key("A", "a", Quota(requests_per_minute=limit)), patience_s=1e9)
    run(together(*(ask(pool, log, after=after, seconds=seconds) for after, seconds in arrivals)))
    assert len(log) == len(arrivals)
    assert most_in_a_minute(log, "A") <= limit


@settings(max_examples=25, deadline=None)
@given(
    st.integers(100, 5000),
    st.lists(st.tuples(st.integers(1, 400), st.floats(0.5, 1.0), st.floats(0, 100)), min_size=2, max_size=80),
)
def test_no_minute_has_more_tokens_than_allowed(limit, requests):
    log = []
    pool = pool_of(Key("A", "a", Quota(tokens_per_minute=limit)))
    # What was expected of a prompt is never less than it has here; a guess that is too low is another matter.
    asked = [ask(pool, log, tokens=t, used=max(1, int(t * share)), after=after) for t, share, after in requests]
    run(together(*asked))
    assert len(log) == len(requests)
    largest = max(cost for _, _, cost in log)
    assert most_in_a_minute(log, "A", weigh=lambda cost: cost) <= max(limit, largest)


def test_a_quota_is_used_up_by_a_queue():
    log = []
    pool = pool_of(*(Key(name, name, Quota(requests_per_minute=60)) for name in "AB"))
    run(together(*(ask(pool, log, seconds=2.5) for _ in range(600))))
    took = max(at for _, at, _ in log) - min(at for _, at, _ in log)
    assert took < 600 / 2 / 0.98
    assert sum(key == "A" for key, _, _ in log) == pytest.approx(300, abs=5)


def test_what_prompts_really_had_is_what_counts():
    log = []
    pool = pool_of(Key("A", "a", Quota(tokens_per_minute=6000)))
    run(together(*(ask(pool, log, tokens=1000, used=100, seconds=0.1) for _ in range(300))))
    took = log[-1][1] - log[0][1]
    assert took < 1.25 * 300 * 100 / 100  # seconds that 300 prompts of 100 tokens need; 3000 by the guess


def test_a_refused_key_rests_as_long_as_it_was_told_and_loses_no_quota_after():
    log = []

    async def scene():
        pool = pool_of(Key("A", "a", Quota(requests_per_minute=60)))
        first, sent = await pool.take(0)
        waiting = [asyncio.create_task(ask(pool, log)) for _ in range(40)]
        await asyncio.sleep(0.1)
        pool.rest(first, 30.0, backoff_s=1.0)
        pool.give_back(first, sent, used=None, size=0)
        told = clock()
        await asyncio.gather(*waiting)
        return told

    told = run(scene())
    sent = sorted(at for _, at, _ in log if at > told)
    assert len(sent) >= 39 and sent[0] >= told + 30
    assert sent[-1] <= told + 30 + 41 * 1.02


def test_a_refused_key_leaves_the_work_to_the_others():
    log = []

    async def scene():
        pool = pool_of(Key("A", "a"), Key("B", "b"))
        first, sent = await pool.take(0)
        pool.rest(first, 300.0, backoff_s=1.0)
        pool.give_back(first, sent, used=None, size=0)
        await together(*(ask(pool, log) for _ in range(8)))
        return first.variable, clock()

    resting, ended = run(scene())
    assert {key for key, _, _ in log} == {"A", "B"} - {resting}
    assert ended < 1000 + 10


def test_each_refusal_in_a_row_is_a_longer_rest():
    async def scene():
        key = Key("A", "a")
        pool, pauses = pool_of(key), []
        for _ in range(4):
            pool.rest(key, None, backoff_s=0.5)
            pauses.append(key.rests_until - clock())
        pool.worked(key)
        await asyncio.sleep(100)
        pool.rest(key, None, backoff_s=0.5)
        return pauses, key.rests_until - clock()

    pauses, after_success = run(scene())
    assert pauses == pytest.approx([1, 2, 4, 8], abs=0.01)
    assert after_success == pytest.approx(1, abs=0.01)


def test_a_dead_key_is_taken_out_and_named_by_its_variable_alone():
    async def scene():
        one, other = Key("ONE", "secret-1"), Key("OTHER", "secret-2")
        pool = pool_of(one, other)
        pool.put_out(one, pool.without_secrets("401 secret-1 is revoked"))
        key, sent = await pool.take(0)
        assert key is other
        pool.give_back(key, sent, used=None, size=0)
        pool.put_out(other, "403")
        await pool.take(0)

    with pytest.raises(UserError, match=r"no API key is left \(ONE: 401 \$ONE is revoked; OTHER: 403\)") as raised:
        run(scene())
    assert "secret" not in str(raised.value)


def test_a_slow_quota_is_waited_for_and_no_reason_to_stop():
    log = []
    pool = pool_of(Key("A", "a", Quota(requests_per_minute=2)), patience_s=60)
    results = run(together(*(ask(pool, log) for _ in range(30))))
    assert results == [None] * 30


def test_a_limit_that_lasts_longer_than_patience_is_a_clean_stop():
    async def scene():
        key = Key("A", "a")
        pool = pool_of(key, patience_s=60)
        pool.rest(key, 7200, backoff_s=1)
        await pool.take(0)

    with pytest.raises(UserError, match=r"over the limit of every API key \(A\), the next one is free in 2\.0 h"):
        run(scene())


def test_a_stop_wakes_all_who_wait():
    async def scene():
        stop = Stop()
        pool = pool_of(Key("A", "a", Quota(requests_per_minute=1)), stop=stop)
        waiting = [asyncio.create_task(pool.take(0)) for _ in range(5)]
        await asyncio.sleep(1)
        stop.because(UserError("enough"))
        results = await asyncio.gather(*waiting, return_exceptions=True)
        return [str(r) for r in results if isinstance(r, BaseException)], clock()

    said, ended = run(scene())
    assert said == ["enough"] * 4
    assert ended < 1000 + 2


def test_a_key_that_is_named_among_others_too_has_one_quota_for_a_model():
    log = []

    async def scene():
        session = Session(Journal.in_memory())
        quota = Quota(requests_per_minute=30)
        alone = session.pool("m", [Key("A", "a", quota)], patience_s=900)
        among = session.pool("m", [Key("A", "a", quota), Key("B", "b", quota)], patience_s=900)
        assert session.pool("m", [Key("A", "a", quota)], patience_s=900) is alone
        assert session.pool("other", [Key("A", "a", quota)], patience_s=900).keys[0] is not alone.keys[0]
        await together(*(ask(pool, log, seconds=3.0) for pool in (alone, among) for _ in range(60)))

    run(scene())
    assert len(log) == 120
    assert most_in_a_minute(log, "A") <= 30 and most_in_a_minute(log, "B") <= 30


def test_a_day_s_requests_are_counted_across_processes(tmp_path):
    quota = Quota(requests_per_day=5)
    path = tmp_path / "j.sqlite"
    period = int(time.time() // PERIOD_S)
    with Journal(path) as mine, Journal(path) as theirs:  # as two processes have it

        async def scene():
            pool, other = pool_of(Key("A", "a", quota), journal=mine), pool_of(Key("A", "a", quota), journal=theirs)
            for _ in range(3):
                await other.take(0)
            theirs.put([Entry(b"k", "m", Completion("text"))])
            for _ in range(2):
                await pool.take(0)
            with pytest.raises(UserError, match="over the limit of every API key"):
                await pool.take(0)
            mine.put([Entry(b"l", "m", Completion("text"))])
            await asyncio.sleep(2)  # until the other reads again
            with pytest.raises(UserError, match="over the limit of every API key"):
                await other.take(0)

        run(scene())
    with Journal(path) as later:
        counts = later.requests_since("A", "m", since=period - 1)
    assert sum(counts.values()) == 5
