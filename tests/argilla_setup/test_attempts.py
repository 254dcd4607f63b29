"""How often a wrong password or key may be tried, by a clock of the test's own."""

from __future__ import annotations

import pytest

from argilla_setup.security.attempts import ADDRESS, NAME, PAIR, Attempts


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def attempts(clock):
    return Attempts(clock)


def test_a_name_at_an_address_may_fail_a_few_times_and_again_later(attempts, clock):
    assert [attempts.start("minji", "10.0.0.1") for _ in range(PAIR.failures)] == [0.0] * PAIR.failures
    assert attempts.start("minji", "10.0.0.1") == PAIR.seconds
    clock.now += PAIR.seconds - 1
    assert attempts.start("minji", "10.0.0.1") == 1
    clock.now += 1
    assert attempts.start("minji", "10.0.0.1") == 0


def test_refused_attempts_do_not_make_the_wait_longer(attempts, clock):
    for _ in range(1000):
        attempts.start("minji", "10.0.0.1")
        clock.now += 0.1
    assert attempts.start("minji", "10.0.0.1") < PAIR.seconds


def test_a_right_password_clears_the_name_at_that_address(attempts):
    for _ in range(10):
        for _ in range(PAIR.failures - 1):
            assert attempts.start("minji", "10.0.0.1") == 0
        attempts.succeed("minji", "10.0.0.1")


def test_guesses_at_one_name_shut_out_neither_the_team_nor_the_name_elsewhere(attempts, clock):
    """The whole team sits behind one address, and so does somebody who guesses at minji's password all day."""
    for _ in range(24 * 60):
        attempts.start("minji", "office")
        clock.now += 60
    for _ in range(PAIR.failures):
        attempts.start("minji", "office")
    assert attempts.start("minji", "office") > 0
    for name in ("seojun", "jiwoo", "owner"):
        assert attempts.start(name, "office") == 0
    assert attempts.start("minji", "home") == 0, "one address alone does not use up what a name may fail everywhere"
    # In a browser where minji has signed in before, minji waits for nobody, even behind the same address.
    assert attempts.start("minji", "office", browser="a1") == 0


def test_a_known_browser_may_fail_no_more_often(attempts):
    tried = sum(attempts.start("minji", f"10.0.0.{number}", browser="a1") == 0 for number in range(100))
    assert tried == PAIR.failures
    assert attempts.start("minji", "10.0.0.1", browser="b2") == 0
    attempts.succeed("minji", "10.0.0.1", browser="b2")
    assert attempts.start("minji", "10.0.0.1", browser="a1") > 0


def test_guesses_at_many_names_from_one_address_end(attempts):
    tried = sum(attempts.start(f"name{number}", "office") == 0 for number in range(10 * ADDRESS.failures))
    assert tried == ADDRESS.failures
    assert attempts.start("jiwoo", "office") > 0, "who has not signed in before has to wait"
    assert attempts.start("jiwoo", "office", browser="a1") == 0, "who has, has not"
    assert attempts.start("jiwoo", "elsewhere") == 0


def test_guesses_at_one_name_from_many_addresses_end(attempts):
    tried = sum(attempts.start("minji", f"10.{number // 256}.{number % 256}.1") == 0 for number in range(500))
    assert tried == NAME.failures
    assert attempts.start("minji", "10.9.9.9") > 0
    assert attempts.start("minji", "10.9.9.9", browser="a1") == 0


def test_who_signs_in_often_uses_up_nothing(attempts):
    for number in range(2 * NAME.failures):
        assert attempts.start("minji", f"10.0.{number // 256}.{number % 256}") == 0
        attempts.succeed("minji", f"10.0.{number // 256}.{number % 256}")


def test_addresses_of_one_ipv6_network_are_one(attempts):
    tried = sum(attempts.start(f"name{number}", f"2001:db8::{number:x}") == 0 for number in range(200))
    assert tried == ADDRESS.failures
    assert attempts.start("name", "2001:db8:0:1::1") == 0


def guess(attempts, key, address):
    """Whether a wrong key could be tried."""
    if attempts.wait_for_key(key, address):
        return False
    attempts.fail_key(key, address)
    return True


def test_keys_may_be_guessed_no_more_often_and_right_ones_always_work(attempts, clock):
    attempts.succeed_key("right")
    assert sum(guess(attempts, f"wrong{number}", "office") for number in range(500)) == ADDRESS.failures
    assert attempts.wait_for_key("right", "office") == 0
    assert attempts.wait_for_key("other", "office") > 0
    assert attempts.wait_for_key("other", "elsewhere") == 0
    assert attempts.start("minji", "office") == 0, "passwords are counted apart"
    clock.now += ADDRESS.seconds
    assert attempts.wait_for_key("other", "office") == 0


def test_a_script_with_an_old_key_shuts_nobody_out(attempts):
    attempts.succeed_key("rotated away")
    assert all(guess(attempts, "rotated away", "office") for _ in range(1000))
    assert attempts.wait_for_key("new", "office") == 0


def test_what_is_remembered_is_bounded(clock):
    attempts = Attempts(clock, remembered=50)
    for number in range(500):
        attempts.start(f"{number}" * 1000, f"10.0.{number // 256}.{number % 256}")
        attempts.fail_key(f"wrong{number}", "office")
    assert len(attempts) <= 2 * 50
    attempts.succeed_key("right")
    for number in range(500):
        attempts.fail_key(f"more{number}", f"10.0.{number // 256}.{number % 256}")
    assert attempts.wait_for_key("right", "office") == 0, "keys that are made up do not drive out the right ones"
    assert len(attempts) <= 2 * 50
