"""No row of the test split is given away by one of the training split."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lingo_hitl.release.splits import groups_of, held_out

rows_of_a_release = st.lists(
    st.fixed_dictionaries(
        {
            "seed": st.none() | st.sampled_from("abcdefgh"),
            "instruction": st.sampled_from(["q1", "q2 ", " q2", "q3", "카페", "카페", "q 4", "q\n4"]),
        }
    ),
    max_size=20,
).map(lambda rows: [{**row, "id": f"id{n}"} for n, row in enumerate(rows)])


@given(rows_of_a_release, st.randoms())
def test_rows_that_share_a_seed_or_a_prompt_share_a_group(rows, random):
    groups = groups_of(rows)
    for one in rows:
        for other in rows:
            if one["seed"] and one["seed"] == other["seed"]:
                assert groups[one["id"]] == groups[other["id"]]
            if one["instruction"].split() == other["instruction"].split():
                assert groups[one["id"]] == groups[other["id"]]
    random.shuffle(rows)
    assert groups_of(rows) == groups


@given(
    st.sets(st.integers(0, 30).map(str), max_size=12),
    st.sets(st.integers(0, 30).map(str), max_size=12),
    st.sampled_from([0.0, 0.01, 0.1, 0.5, 0.99]),
    st.integers(0, 5),
)
def test_each_set_can_be_trained_on_and_tested_on(pairs, conversations, fraction, seed):
    test = held_out([pairs, conversations], fraction=fraction, seed=seed)
    for part in (pairs, conversations):
        assert not part or part - test
        if fraction == 0:
            assert not part & test
        elif len(part) > 1:
            assert part & test


def test_a_group_keeps_its_side_when_others_come():
    before = {f"group {n}" for n in range(300)}
    after = before | {f"later {n}" for n in range(300)}
    first = held_out([before], fraction=0.2, seed=1)
    assert 30 < len(first) < 90
    assert held_out([after], fraction=0.2, seed=1) & before == first


def test_a_further_row_of_the_same_seed_leaves_the_group_its_name():
    row = {"id": "1", "seed": "s", "instruction": "q"}
    more = [{"id": "0", "seed": "s", "instruction": "a"}, row, {"id": "2", "seed": None, "instruction": "q"}]
    assert groups_of(more)["1"] == groups_of([row])["1"]
