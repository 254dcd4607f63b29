"""The benchmark of KoQuality runs, and what it measures against is the original's behaviour."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from benchmarks.rows import thin, write_rows

ALMOST = 1e-4


def texts_of(path):
    return [json.loads(line)["instruction"] for line in path.read_text(encoding="utf-8").splitlines()]


def test_varied_rows_are_distinct_and_the_same_each_time(tmp_path):
    nowhere = tmp_path / "no-data"
    told = write_rows(tmp_path / "a.jsonl", 2_000, data=nowhere)
    write_rows(tmp_path / "b.jsonl", 2_000, data=nowhere)
    texts = texts_of(tmp_path / "a.jsonl")
    assert len(set(texts)) == 2_000
    assert texts == texts_of(tmp_path / "b.jsonl")
    assert str(nowhere) in told, "it must be said that rows are not the real ones"


def test_a_thin_part_has_the_lengths_of_the_whole(tmp_path):
    write_rows(tmp_path / "all.jsonl", 1_000, data=tmp_path / "no-data")
    part = texts_of(thin(tmp_path / "all.jsonl", tmp_path / "part.jsonl", 100))
    whole = [len(text) for text in texts_of(tmp_path / "all.jsonl")]
    assert len(set(part)) == 100
    assert np.mean([len(text) for text in part]) == pytest.approx(np.mean(whole), rel=0.02)


@pytest.mark.model
def test_the_original_told_again_gives_what_the_original_gave(shared):
    from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

    from benchmarks import original

    golden = shared / "golden" / "koquality"
    rows = [json.loads(line) for line in (golden / "raw_sorted.jsonl").read_text(encoding="utf-8").splitlines()]
    table = original.prepare([{"id": r["group"], "instruction": r["instruction"], "output": r["output"]} for r in rows])
    assert list(table["id"]) == [row["group"] for row in rows]
    expected = pd.read_csv(golden / "golden_ppl.csv")

    part = table.iloc[::20]
    neox, roberta = golden / "models" / "neox_tiny", golden / "models" / "roberta_tiny"
    words = AutoTokenizer.from_pretrained(neox)
    scored = original.perplexities(part, AutoModelForCausalLM.from_pretrained(neox), words)
    there = expected.set_index("id")
    assert set(part["id"]) - set(scored["id"]) == set(part["id"]) - set(expected["id"]) != set()
    assert np.allclose(scored["ppl"], there.loc[scored["id"], "ppl"], rtol=ALMOST, atol=0.02)
    position = {name: n for n, name in enumerate(expected["id"])}
    vectors = np.load(golden / "golden_embeddings_f32.npy")
    found = original.embeddings(
        scored["instruction"], AutoModel.from_pretrained(roberta), AutoTokenizer.from_pretrained(roberta)
    )
    assert np.abs(found - vectors[[position[name] for name in scored["id"]]]).max() < ALMOST

    groups = original.length_groups(expected["len"], 5)
    clusters = pd.read_csv(golden / "golden_clusters.csv").set_index("id").loc[expected["id"]]
    assert (groups == clusters["L5_len_group"].to_numpy()).all()
    labels = original.clusters(vectors, groups, 10)
    pairs = set(zip(groups, labels, clusters["L5_K10"], strict=True))
    assert len(pairs) == 50, "the same clusters under other numbers"
    sampled = original.sample(expected.assign(len_group=groups, cluster=clusters["L5_K10"].to_numpy()), 0.05)
    chosen = json.loads((golden / "golden_selection.json").read_text(encoding="utf-8"))["len5_k10_mppl_n0.05"]["ids"]
    assert Counter(sampled["ppl"]) == Counter(there.loc[chosen, "ppl"])


@pytest.mark.model
def test_the_benchmark_of_koquality_runs_and_exact_agrees_with_the_original(tmp_path):
    from benchmarks.koquality import Plan, measure

    plan = Plan(rows=300, part=40, clusters=3, tiny=True)
    lines = {line.what: line for line in measure("loops", plan, tmp_path)}
    for method in ("balanced", "exact"):
        for stage in ("prepare", "perplexity", "embedding", "clusters", "sampling", "whole"):
            assert {f"{method}: {stage}"} <= set(lines)
    assert float(lines["exact: perplexity, largest difference"].ours) < ALMOST
    assert float(lines["exact: vectors, largest difference"].ours) < ALMOST
    assert lines["exact: length groups"].ours == lines["exact: sample"].ours == "as the original's"


@pytest.mark.model
def test_models_of_the_real_sizes_are_measured_by_code_that_runs_on_a_cpu(tmp_path):
    from benchmarks.real_sizes import measure

    write_rows(tmp_path / "rows.jsonl", 100, data=tmp_path / "no-data")
    found = measure(rows=str(tmp_path / "rows.jsonl"), folder=str(tmp_path), device="cpu", tiny=True)
    for stage in ("perplexity", "embedding"):
        assert 0 < found[stage]["FLOPs a second"] < found["matrix"]


@pytest.mark.server
def test_the_benchmark_of_the_server_runs_and_tells_what_is_met(argilla_home):
    from benchmarks import argilla_server
    from benchmarks.argilla_load import Server, dataset_of, fill, rows_in

    server = Server(argilla_home)
    path = dataset_of(server)
    cost, times = fill(server, path, 0, 40)
    lines = [argilla_server.pushed_line(cost, times, rows=40, stock=10 * cost)]
    assert (lines[0].figure, lines[0].met) == ("10.0x less CPU than stock", True)
    lines += argilla_server.pages(server, path, 40, repeats=2)
    busy = list(argilla_server.crowd(server, path, 40, people=2, turns=1))
    assert "0 errors" in busy[0].figure
    assert rows_in(server, path) > 40, "a script pushed meanwhile"
    missed = argilla_server.Line("slow", [10.0, 2000.0]).within(100)
    assert missed.met is False
    table = argilla_server.table([*lines, *busy, missed], (40,))
    assert table.row_count == len(lines) + len(busy) + 1
    with server.client() as owner:
        owner.delete(path)


def test_the_benchmark_of_generation_tells_what_a_call_costs_beside_the_bare_sdk(tmp_path):
    from benchmarks import generation

    plan = generation.Plan(overhead_dialogues=6)
    (line,) = generation.measure("overhead", plan, tmp_path)
    assert (line.what, line.target) == ("CPU a call, 20 calls", "at most 3 ms")
    whole, sdk, more = (float(told.split()[0]) for told in (line.ours, line.beside, line.ratio))
    assert sdk > 0 and more == pytest.approx(whole - sdk, abs=0.02), "the few calls of a test say no more"


def test_the_rates_of_the_benchmark_of_generation_are_those_of_the_provider_s_log(tmp_path):
    from benchmarks.loopback import read_calls

    log = tmp_path / "calls.jsonl"
    kinds = [(200, None), (429, "GenerateRequestsPerMinutePerProjectPerModel"), (500, "500"), (200, "truncated")]
    lines = [["arrived", n, n / 10, "k", "digest"] for n in range(40)]
    lines += [["sent", n, n / 10 + 1, *kinds[n % 4]] for n in range(39)]
    log.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    calls = read_calls(log)
    assert (len(calls), calls.accepted(), calls.useful()) == (40, 30, 10)
    assert (calls.accepted(1.0, 2.0), calls.useful(1.0, 2.0)) == (8, 2)
