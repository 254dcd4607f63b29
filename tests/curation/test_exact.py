"""The pieces of the original KoQuality against the outputs of its own scripts."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter

import numpy as np
import pytest

from lingo_hitl.curation.exact import sample_ppl, sample_ppl_h
from lingo_hitl.curation.grouping import clusters, quantile_length_groups


@pytest.fixture(scope="module")
def golden(shared):
    folder = shared / "golden" / "koquality"
    with (folder / "golden_ppl.csv").open(encoding="utf-8") as file:
        rows = [(float(r["ppl"]), int(r["len"]), r["id"]) for r in csv.DictReader(file)]
    with (folder / "golden_clusters.csv").open(encoding="utf-8") as file:
        labels = {r["id"]: r for r in csv.DictReader(file)}
    with (folder / "raw_sorted.jsonl").open(encoding="utf-8") as file:
        texts = {r["group"]: r["instruction"] for r in map(json.loads, file)}
    selections = json.loads((folder / "golden_selection.json").read_text(encoding="utf-8"))
    return folder, rows, labels, texts, selections


@pytest.mark.parametrize("groups", [1, 5, 10])
def test_length_groups(golden, groups):
    _, rows, labels, _, _ = golden
    expected = [int(labels[name][f"L{groups}_len_group"]) for _, _, name in rows]
    assert quantile_length_groups([length for _, length, _ in rows], groups).tolist() == expected


def test_every_selection_by_perplexity(golden):
    _, rows, labels, texts, selections = golden
    perplexity = {name: ppl for ppl, _, name in rows}
    checked = 0
    for key, selection in selections.items():
        groups, k, method, ratio = re.fullmatch(r"len(\d+)_k(\d+)_m(\w+)_n([\d.]+)", key).groups()
        if method == "rand":
            continue
        column, group_column = f"L{groups}_K{k}", f"L{groups}_len_group"

        def place(name, columns=(group_column, column)):
            return tuple(int(labels[name][c]) for c in columns)

        members: dict[tuple[int, ...], list] = {}
        for row in rows:
            members.setdefault(place(row[2]), []).append(row)
        found = []
        for cell in members.values():
            if method == "ppl":
                chosen = sample_ppl(cell, float(ratio))
            else:
                chosen = sample_ppl_h(cell, [texts[name] for _, _, name in cell], float(ratio))
            found += [cell[i] for i in chosen]
        expected = Counter((place(name), perplexity[name]) for name in selection["ids"])
        assert Counter((place(name), ppl) for ppl, _, name in found) == expected, key
        checked += 1
    assert checked == 84


@pytest.mark.parametrize(("groups", "k"), [(5, 20), (10, 10)])
def test_clusters_of_the_golden_vectors(golden, groups, k):
    folder, rows, labels, _, _ = golden
    vectors = np.load(folder / "golden_embeddings_f32.npy")
    group = np.array([int(labels[name][f"L{groups}_len_group"]) for _, _, name in rows])
    for one in range(groups):
        members = np.flatnonzero(group == one)
        ours = clusters(vectors[members], k, 42)
        theirs = [int(labels[rows[i][2]][f"L{groups}_K{k}"]) for i in members]
        assert len(set(zip(ours.tolist(), theirs, strict=True))) == k, "the same clusters under other names"
