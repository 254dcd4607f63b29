"""`method: exact` against the outputs of the original's own scripts, and against their loops told again."""

from __future__ import annotations

import csv
import json
import math
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingo_hitl.config import KoQualityConfig
from lingo_hitl.curation.exact import file_order
from lingo_hitl.curation.grouping import quantile_length_groups
from lingo_hitl.curation.koquality import Cells, cells_of, choose, select
from lingo_hitl.errors import UserError
from tests.curation.pools import ids, pool_of

LOST = "no perplexity, as for a text of one token: the original drops it"


@pytest.fixture(scope="module")
def golden(shared):
    """A pool of the 1,000 golden rows in any order, rows of golden_clusters.csv by id, and golden_selection.json."""
    folder = shared / "golden" / "koquality"
    with (folder / "golden_ppl.csv").open(encoding="utf-8") as file:
        kept = list(csv.DictReader(file))
    with (folder / "golden_clusters.csv").open(encoding="utf-8") as file:
        labels = {row["id"]: row for row in csv.DictReader(file)}
    selections = json.loads((folder / "golden_selection.json").read_text(encoding="utf-8"))
    vectors = dict(zip((row["id"] for row in kept), np.load(folder / "golden_embeddings_f32.npy"), strict=True))
    perplexity = {row["id"]: float(row["ppl"]) for row in kept}
    with (folder / "raw_sorted.jsonl").open(encoding="utf-8") as file:
        raw = [json.loads(line) for line in file]
    rows = [
        {
            "id": row["group"],
            "text": row["instruction"],
            "perplexity": perplexity.get(row["group"]),
            "vector": vectors.get(row["group"], np.zeros(64)),
        }
        for row in raw
    ]
    np.random.default_rng(0).shuffle(rows)
    return pool_of(rows), [row["id"] for row in kept], labels, selections


def test_row_loss_and_file_order(golden):
    pool, kept, _, _ = golden
    assert ids(pool, file_order(pool)) == kept
    selection = select(pool, KoQualityConfig(method="exact", length_groups=5, clusters=1))
    assert ids(pool, selection.order[: len(kept)]) == kept
    lost = selection.groups == -1
    assert sorted(ids(pool, lost)) == ["a0146", "a0161", "a0169", "a0229", "a0328", "a0440", "a0461"]
    assert {reason for reason, gone in zip(selection.reasons.to_pylist(), lost, strict=True) if gone} == {LOST}
    assert selection.report["lost, of one token"] == 7


@pytest.mark.parametrize("groups", [1, 5, 10])
def test_length_groups(golden, groups):
    pool, kept, labels, _ = golden
    length = dict(zip(pool.ids.to_pylist(), pool.lengths.tolist(), strict=True))
    expected = [int(labels[name][f"L{groups}_len_group"]) for name in kept]
    assert quantile_length_groups([length[name] for name in kept], groups).tolist() == expected


def check_clusters_and_selections(golden, groups, clusters):
    pool, kept, labels, selections = golden
    config = KoQualityConfig(method="exact", length_groups=groups, clusters=clusters)
    cells = cells_of(pool, config)
    position = {name: n for n, name in enumerate(pool.ids.to_pylist())}
    ours = {name: (int(cells.groups[position[name]]), int(cells.clusters[position[name]])) for name in kept}
    theirs = {
        name: (int(labels[name][f"L{groups}_len_group"]), int(labels[name][f"L{groups}_K{clusters}"])) for name in kept
    }
    pairs = {(ours[name], theirs[name]) for name in kept}
    assert len(pairs) == len(set(ours.values())) == len(set(theirs.values())), "the same clusters under other names"
    checked = 0
    for key, expected in selections.items():
        found = re.fullmatch(rf"len{groups}_k{clusters}_m(\w+)_n([\d.]+)", key)
        if not found:
            continue
        changed = {"sampling": found[1], "ratio": float(found[2])}
        selection = choose(pool, cells, config.model_copy(update=changed))
        chosen = ids(pool, selection.sample_order)
        assert len(chosen) == expected["n"], key
        if found[1] != "rand":
            wanted = Counter((theirs[name], pool.perplexity[position[name]]) for name in expected["ids"])
            assert Counter((theirs[name], pool.perplexity[position[name]]) for name in chosen) == wanted, key
        checked += 1
    assert checked == 9


@pytest.mark.parametrize(("groups", "clusters"), [(1, 1), (5, 1), (5, 10), (10, 1), (10, 10)])
def test_clusters_and_selections(golden, groups, clusters):
    check_clusters_and_selections(golden, groups, clusters)


@pytest.mark.model
@pytest.mark.parametrize(
    ("groups", "clusters"), [(1, 10), (1, 20), (1, 50), (1, 100), (5, 20), (5, 50), (5, 100), (10, 20), (10, 50)]
)
def test_all_clusters_and_selections(golden, groups, clusters):
    check_clusters_and_selections(golden, groups, clusters)


def test_a_group_smaller_than_its_clusters_stops_as_the_original_does(golden):
    with pytest.raises(
        UserError,
        match=r"length group 1 of 10 has 65 rows \(7 rows of one token are lost\), fewer than the 100 clusters",
    ):
        select(golden[0], KoQualityConfig(method="exact", length_groups=10, clusters=100))


def told_again(members, sampling, ratio):
    """One cluster, sampled as the original's loop does it; members are (perplexity, length, id, text)."""
    if sampling == "ppl":
        return sorted(members)[:: int(1 / ratio)]
    size = int(ratio * len(members))
    falling = sorted(members, key=lambda m: (-m[0], *m[1:]))
    seen = {}
    for member in falling:
        seen.setdefault(member[3], member)
    return list(seen.values())[:size]


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["가", "나나", "다다다", "라라라", "마마마마마"]),
            st.sampled_from([None, 1.0, 2.004, 2.001, 3.5, 70.25]),
            st.integers(0, 2),
            st.integers(0, 2),
        ),
        max_size=60,
    ),
    st.sampled_from([0.01, 0.05, 0.1, 0.2, 0.29, 0.3, 0.7, 1.0]) | st.floats(0.001, 1),
    st.sampled_from(["ppl", "ppl_h"]),
)
def test_sampling_is_that_of_the_loops(cases, ratio, sampling):
    rows = [{"id": f"id{n:02}", "text": text, "perplexity": ppl} for n, (text, ppl, *_) in enumerate(cases)]
    kept = np.array([ppl is not None for _, ppl, *_ in cases], dtype=bool)
    places = np.array([cell for *_, group, cluster in cases for cell in [(group, cluster)]]).reshape(-1, 2)
    cells = Cells(*(np.where(kept, places[:, n], -1).astype(np.int64) for n in range(2)))
    pool = pool_of(rows)
    selection = choose(pool, cells, KoQualityConfig(method="exact", ratio=ratio, sampling=sampling))
    members = {}
    for n in np.flatnonzero(kept):
        key = (round(rows[n]["perplexity"], 2), int(pool.lengths[n]), rows[n]["id"], rows[n]["text"])
        members.setdefault(tuple(places[n]), []).append(key)
    expected = [member[2] for cell in sorted(members) for member in sorted(told_again(members[cell], sampling, ratio))]
    assert ids(pool, selection.sample_order) == expected
    assert (np.array(selection.reasons.to_pylist()) == LOST).tolist() == (~kept).tolist()
    assert (np.array(selection.reasons.to_pylist()) == "selected").tolist() == selection.selected.tolist()
    assert selection.report["selected"] == len(expected)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=80), st.floats(0.001, 1), st.integers(0, 3), st.randoms())
def test_rand_takes_a_share_of_each_length_group(lengths, ratio, seed, random):
    rows = [
        {"id": f"id{n:02}", "text": "글" * size, "perplexity": 2.0, "vector": [1.0]} for n, size in enumerate(lengths)
    ]
    config = KoQualityConfig(method="exact", length_groups=1, clusters=1, sampling="rand", ratio=ratio, seed=seed)
    pool = pool_of(rows)
    cells = Cells(quantile_length_groups(lengths, 4), np.zeros(len(rows), dtype=np.int64))
    selection = choose(pool, cells, config)
    for group in set(cells.groups.tolist()):
        inside = cells.groups == group
        assert selection.selected[inside].sum() == round(ratio * inside.sum())
    random.shuffle(rows)
    again = pool_of(rows)
    cells = Cells(quantile_length_groups(again.lengths, 4), cells.clusters)
    assert set(ids(again, choose(again, cells, config).selected)) == set(ids(pool, selection.selected))


def test_perplexity_is_rounded_as_python_rounds():
    values = [2.675, 1.005, 0.125, 1e300, math.inf]
    rows = [{"id": f"id{n}", "text": "같은 글", "perplexity": value, "vector": [0.0]} for n, value in enumerate(values)]
    selection = select(pool_of(rows), KoQualityConfig(method="exact", length_groups=1, clusters=1))
    assert selection.perplexity.tolist() == [2.67, 1.0, 0.12, 1e300, math.inf]


def row(n, text="글", perplexity=2.0, vector=(1.0, 0.0)):
    return {"id": f"id{n}", "text": text, "perplexity": perplexity, "vector": vector}


@pytest.mark.parametrize(
    ("rows", "config", "line"),
    [
        ([row(0)], {"clusters": 2}, "length group 1 of 1 has 1 rows, fewer than the 2 clusters"),
        ([row(n) for n in range(9)], {"length_groups": 3}, "length group 1 of 3 has 0 rows, fewer than the 1 clusters"),
        ([row(n, perplexity=None) for n in range(3)], {}, r"has 0 rows \(3 rows of one token are lost\)"),
        ([row(0), row(1, vector=None)], {}, "1 rows, such as 'id1', have no vector of finite numbers"),
        ([row(0), row(1, vector=[math.nan, 0.0])], {}, "1 rows, such as 'id1', have no vector of finite numbers"),
    ],
)
def test_where_the_original_stops(rows, config, line):
    with pytest.raises(UserError, match=line) as caught:
        select(pool_of(rows), KoQualityConfig(**{"method": "exact", "length_groups": 1, "clusters": 1, **config}))
    assert "method balanced" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_rows_at_all():
    assert len(select(pool_of([]), KoQualityConfig(method="exact")).selected) == 0
