"""KoQuality from files to a sample, as the command line runs it."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from lingo_hitl.curation.folders import ROWS
from lingo_hitl.models import checkpoint
from tests.models.test_checkpoint import records
from tests.test_cli import lingo, refused

pytestmark = pytest.mark.model  # each run of the command line takes seconds

KIWI = ("--perplexity-model", "packaged/kiwi", "--encoder", "packaged/kiwi")
SMALL = ("--length-groups", "2", "--clusters", "3", "--ratio", "0.1")


@pytest.fixture
def golden(shared):
    return shared / "golden" / "koquality"


def corpus(folder: Path, rows: int = 60) -> Path:
    """A JSONL file of distinct Korean instructions."""
    subjects = ["별", "바다", "역사", "요리", "수학", "음악", "여행", "건강", "경제", "언어"]
    asks = [
        "무엇인가요?",
        "왜 중요한지 설명해 주세요.",
        "어떻게 배우면 좋을까요?",
        "예를 하나 들어 줘",
        "역사를 알려 주세요.",
        "요약해 줘",
    ]
    texts = [f"{subject}에 대해 {ask}" for ask in asks for subject in subjects][:rows]
    path = folder / "corpus.jsonl"
    lines = [
        json.dumps({"no": f"r{n}", "instruction": text, "output": f"답 {n}"}, ensure_ascii=False)
        for n, text in enumerate(texts)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def curated(folder: Path, *options: str, inputs: tuple[Path, ...] = ()) -> Path:
    """The folder that `curate run` leaves."""
    out = folder / "out"
    done = lingo("curate", "run", "--input", *map(str, inputs), *options, "--out", str(out), folder=folder)
    assert done.returncode == 0, done.stderr
    return out


def test_what_is_written(tmp_path):
    out = curated(tmp_path, *KIWI, *SMALL, "--id-column", "no", inputs=(corpus(tmp_path),))
    rows, selected = (pq.read_table(out / name) for name in ("rows.parquet", "selected.parquet"))
    assert rows.schema.equals(ROWS)
    assert selected.schema.equals(ROWS)
    assert rows["id"].to_pylist() == [f"r{n}" for n in range(60)]
    assert sorted(selected["id"].to_pylist()) == sorted(r["id"] for r in rows.to_pylist() if r["selected"])
    assert selected.num_rows == 6
    assert set(rows["source"].to_pylist()) == {"corpus"}
    assert all(row["reason"] for row in rows.to_pylist())
    assert "<html" in (out / "report.html").read_text(encoding="utf-8")
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["report"]["selected"] == 6
    assert list(manifest["report"]["stages"]) == ["prepare", "perplexity", "embedding", "clusters"]


def test_the_same_command_again_computes_nothing_and_another_ratio_only_samples(tmp_path):
    path = corpus(tmp_path)
    curated(tmp_path, *KIWI, *SMALL, inputs=(path,))
    again = lingo("curate", "run", "--input", str(path), *KIWI, *SMALL, "--out", "out", folder=tmp_path)
    assert again.stdout.count("done before") == 5
    more = lingo(
        "curate", "run", "--input", str(path), *KIWI, *SMALL, "--ratio", "0.2", "--out", "out", folder=tmp_path
    )
    assert more.stdout.count("done before") == 4
    assert pq.read_table(tmp_path / "out" / "selected.parquet").num_rows == 12


def test_stage_by_stage_gives_what_the_whole_gives(tmp_path):
    path = corpus(tmp_path)
    whole = curated(tmp_path, *KIWI, *SMALL, inputs=(path,))
    for command in (
        ("prepare", "--input", str(path), "--out", "steps"),
        ("perplexity", "steps", "--perplexity-model", "packaged/kiwi"),
        ("embedding", "steps", "--encoder", "packaged/kiwi"),
        ("clusters", "steps", "--length-groups", "2", "--clusters", "3"),
        ("sampling", "steps", "--ratio", "0.1"),
    ):
        done = lingo("curate", *command, folder=tmp_path)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "steps" / "rows.parquet").read_bytes() == (whole / "rows.parquet").read_bytes()
    assert (tmp_path / "steps" / "selected.parquet").read_bytes() == (whole / "selected.parquet").read_bytes()


def test_a_stage_that_is_older_than_what_it_was_made_from_is_refused(tmp_path):
    path = corpus(tmp_path)
    curated(tmp_path, *KIWI, *SMALL, inputs=(path,))
    corpus(tmp_path, rows=40)
    assert lingo("curate", "prepare", "--input", str(path), "--out", "out", folder=tmp_path).returncode == 0
    assert "was made before the last run of 'prepare'" in refused(lingo("curate", "sampling", "out", folder=tmp_path))


def test_another_encoder_gives_what_a_fresh_folder_gives(golden, tmp_path):
    path, models = corpus(tmp_path), ("--perplexity-model", "packaged/kiwi", "--encoder")
    for encoder, out in (
        (str(golden / "models" / "roberta_tiny"), "out"),
        ("packaged/kiwi", "out"),
        ("packaged/kiwi", "fresh"),
    ):
        done = lingo("curate", "run", "--input", str(path), *models, encoder, *SMALL, "--out", out, folder=tmp_path)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "rows.parquet").read_bytes() == (tmp_path / "fresh" / "rows.parquet").read_bytes()


def test_nobodys_files_are_written_over(tmp_path):
    path, out = corpus(tmp_path), tmp_path / "out"
    command = ("curate", "run", "--input", str(path), *KIWI, *SMALL, "--out", "out")
    (out / "embedding").mkdir(parents=True)
    (out / "embedding" / "notes.txt").write_text("mine")
    assert "no earlier run made it" in refused(lingo(*command, folder=tmp_path))
    assert (out / "embedding" / "notes.txt").read_text() == "mine"
    (out / "embedding" / "notes.txt").unlink()
    (out / "rows.parquet").write_text("mine too")
    assert "no earlier run made it" in refused(lingo(*command, folder=tmp_path))
    assert (out / "rows.parquet").read_text() == "mine too"
    (out / "rows.parquet").unlink()
    assert lingo(*command, folder=tmp_path).returncode == 0
    itself = ("curate", "run", "--input", "out/selected.parquet", *KIWI, *SMALL, "--out", "out")
    assert "would be written over" in refused(lingo(*itself, folder=tmp_path))


def test_exact_is_exact_all_the_way_or_not_at_all(tmp_path):
    path = corpus(tmp_path)
    (tmp_path / "p.yaml").write_text(f"project: p\ncorpus: [{{path: {path}}}]\ngenerate: {{instruction: {{}}}}\n")
    groups = ("--length-groups", "1", "--clusters", "2")
    exact = ("curate", "run", "--config", "p.yaml", "--method", "exact", *groups, "--ratio", "0.1", "--out", "exact")
    done = lingo(*exact, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert lingo("curate", "prepare", "--input", str(path), "--out", "other", folder=tmp_path).returncode == 0
    for command in (("perplexity", "other", *KIWI[:2]), ("embedding", "other", *KIWI[2:])):
        assert lingo("curate", *command, folder=tmp_path).returncode == 0
    mixed = lingo("curate", "clusters", "other", "--method", "exact", *groups, folder=tmp_path)
    assert "was made for method balanced, not exact" in refused(mixed)


def test_a_damaged_file_is_told_and_mended_by_the_same_command(tmp_path):
    path = corpus(tmp_path)
    out = curated(tmp_path, *KIWI, *SMALL, inputs=(path,))
    whole = (out / "rows.parquet").read_bytes()
    vectors = out / "embedding" / "vectors.npy"
    vectors.write_bytes(vectors.read_bytes()[:200])
    assert "damaged" in refused(lingo("curate", "clusters", "out", "--clusters", "2", folder=tmp_path))
    assert lingo("curate", "run", "--input", str(path), *KIWI, *SMALL, "--out", "out", folder=tmp_path).returncode == 0
    assert (out / "rows.parquet").read_bytes() == whole


def test_a_sweep_leaves_a_table_and_a_picture(tmp_path):
    out = curated(tmp_path, *KIWI, *SMALL, inputs=(corpus(tmp_path),))
    settings = ("--length-groups", "1,2", "--clusters", "2,3", "--ratio", "0.1,0.5", "--sampling", "ppl,ppl_h")
    assert lingo("curate", "sweep", "out", *settings, folder=tmp_path).returncode == 0
    assert pq.read_table(out / "sweep.parquet").num_rows == 16
    assert "<html" in (out / "sweep.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--ratio", "0"), "--ratio: "),
        (("--ratio", "1.5"), "--ratio: "),
        (("--clusters", "0"), "--clusters: "),
        (("--sampling", "best"), "--sampling: "),
        (("--seed", "-1"), "--seed: "),
        (("--language", "fr"), "--language: "),
        (("--method", "other"), "--method: "),
        (("--preset", "koalpacca"), "--preset: "),
        (("--id-column", "nr"), "has no column 'nr'"),
        (("--perplexity-model", "./none"), "no such folder"),
        (("--encoder", "./none"), "no such folder"),
        (("--method", "exact", "--clusters", "50"), "50"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, options, says):
    path = corpus(tmp_path)
    settings = dict(zip([*KIWI, *SMALL][::2], [*KIWI, *SMALL][1::2], strict=True)) | dict(
        zip(options[::2], options[1::2], strict=True)
    )
    arguments = [part for pair in settings.items() for part in pair]
    assert says in refused(lingo("curate", "run", "--input", str(path), *arguments, "--out", "out", folder=tmp_path))


def test_a_model_without_a_tokenizer_is_told_before_anything_is_computed(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"model_type": "gpt_neox"}')
    result = lingo(
        "curate",
        "run",
        "--input",
        str(corpus(tmp_path)),
        "--perplexity-model",
        "./model",
        "--encoder",
        "packaged/kiwi",
        "--out",
        "out",
        folder=tmp_path,
    )
    assert "no tokenizer" in refused(result)
    assert not (tmp_path / "out" / "perplexity").exists()


@pytest.mark.parametrize(
    "texts",
    [
        ["별이란 무엇인가요?"],
        ["가나다라"] * 7,
        ["가나다", "나다라", "다라마", "라마바"],
        ["긴 글입니다. " * 25_000, "짧은 글", "a\x00b 널 글자", "별"],
    ],
    ids=["one row", "one text", "fewer rows than clusters", "very long, one token, NUL"],
)
def test_small_and_strange_corpora(tmp_path, texts):
    path = tmp_path / "corpus.jsonl"
    rows = [json.dumps({"instruction": text, "output": "답"}) for text in texts]
    path.write_text("\n".join([*rows, '{"instruction": "half \\ud800 pair", "output": "x"}']) + "\n", encoding="utf-8")
    out = curated(
        tmp_path,
        *KIWI,
        "--length-groups",
        "3",
        "--clusters",
        "5",
        "--ratio",
        "0.5",
        "--deduplicate",
        "none",
        inputs=(path,),
    )
    rows = pq.read_table(out / "rows.parquet")
    assert Counter(rows["instruction"].to_pylist()) == Counter(text.strip() for text in texts)
    assert sum(rows["selected"].to_pylist()) == round(len(texts) / 2)
    lost = pq.read_table(out / "prepare" / "dropped.parquet").to_pylist()
    assert len(lost) == 1
    assert "\\ud800" in lost[0]["row"]


def golden_run(golden: Path, folder: Path, *options: str) -> Path:
    models = golden / "models"
    return curated(
        folder,
        *("--id-column", "group", "--perplexity-model", str(models / "neox_tiny")),
        *("--encoder", str(models / "roberta_tiny"), "--pooling", "pooler", *options),
        inputs=(golden / "raw_sorted.jsonl",),
    )


def test_exact_gives_what_the_original_code_gave(golden, tmp_path):
    """The golden rows, from the texts on: row loss, order, groups, numbers, and every deterministic selection."""
    out = golden_run(
        golden, tmp_path, "--method", "exact", "--length-groups", "5", "--clusters", "20", "--ratio", "0.05"
    )
    rows = pq.read_table(out / "rows.parquet").to_pylist()
    assert len(rows) == 1000
    lost = [row for row in rows if row["ppl"] is None]
    assert {row["id"] for row in lost} == {"a0146", "a0161", "a0169", "a0229", "a0328", "a0440", "a0461"}
    assert {row["selected"] for row in lost} == {False}
    with (golden / "golden_ppl.csv").open(encoding="utf-8") as file:
        expected = list(csv.DictReader(file))
    kept = [row for row in rows if row["ppl"] is not None]
    assert [row["id"] for row in kept] == [row["id"] for row in expected]
    assert [row["n_tokens"] for row in kept] == [int(row["n_tok"]) for row in expected]
    theirs = np.array([float(row["ppl"]) for row in expected])
    np.testing.assert_allclose([row["ppl"] for row in kept], theirs, atol=0.02, rtol=1e-4)
    nll = {row["id"]: row["nll"] for row in pq.read_table(out / "perplexity" / "rows.parquet").to_pylist()}
    np.testing.assert_allclose([nll[row["id"]] for row in expected], [float(row["nll"]) for row in expected], atol=1e-4)
    vectors = np.load(out / "embedding" / "vectors.npy")
    place = {row["id"]: row["vector"] for row in pq.read_table(out / "embedding" / "rows.parquet").to_pylist()}
    found = vectors[[place[row["id"]] for row in expected]]
    np.testing.assert_allclose(found, np.load(golden / "golden_embeddings_f32.npy"), atol=1e-4)

    with (golden / "golden_clusters.csv").open(encoding="utf-8") as file:
        labels = {row["id"]: row for row in csv.DictReader(file)}
    perplexity = {row["id"]: float(row["ppl"]) for row in expected}
    selections = json.loads((golden / "golden_selection.json").read_text(encoding="utf-8"))
    checked = 0
    for key, selection in selections.items():
        groups, k, sampling, ratio = re.fullmatch(r"len(\d+)_k(\d+)_m(\w+)_n([\d.]+)", key).groups()
        if (groups, k) != ("5", "20"):
            continue
        done = lingo("curate", "sampling", "out", "--ratio", ratio, "--sampling", sampling, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        picked = pq.read_table(out / "selected.parquet").to_pylist()
        assert len(picked) == selection["n"], key
        if sampling == "rand":
            continue
        names = {(row["len_group"], row["cluster"]): int(labels[row["id"]]["L5_K20"]) for row in kept}
        found = Counter(
            (row["len_group"], names[row["len_group"], row["cluster"]], perplexity[row["id"]]) for row in picked
        )
        wanted = Counter(
            (int(labels[name]["L5_len_group"]), int(labels[name]["L5_K20"]), perplexity[name])
            for name in selection["ids"]
        )
        assert found == wanted, key
        checked += 1
    assert checked == 6


def test_kill_9_in_each_stage_and_the_same_command_gives_the_same_and_no_batch_twice(golden, tmp_path):
    options = ("--length-groups", "5", "--clusters", "10", "--ratio", "0.1", "--method", "balanced")
    (tmp_path / "calm").mkdir()
    calm = golden_run(golden, tmp_path / "calm", *options)
    killed = dict.fromkeys(("perplexity", "embedding"), 0)
    (tmp_path / "rough").mkdir()
    command = [sys.executable, "-m", "lingo_hitl.cli", "curate", "run", "--input", str(golden / "raw_sorted.jsonl")]
    command += ["--id-column", "group", "--perplexity-model", str(golden / "models" / "neox_tiny")]
    command += ["--encoder", str(golden / "models" / "roberta_tiny"), "--pooling", "pooler", *options, "--out", "out"]
    for stage in (*killed, "clusters", "sampling"):
        process = subprocess.Popen(
            command, cwd=tmp_path / "rough", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        before = {"clusters": "embedding", "sampling": "clusters"}.get(stage)
        watched = tmp_path / "rough" / "out" / (f".{stage}.partial" if stage in killed else str(before))
        while process.poll() is None:
            if watched.exists() and (stage not in killed or finished(watched) > killed[stage]):
                break
            time.sleep(0.002)
        assert process.poll() is None, f"{stage} was over before it could be killed"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        if stage in killed:
            killed[stage] = finished(watched)
    subprocess.run(command, cwd=tmp_path / "rough", check=True, capture_output=True)
    rough = tmp_path / "rough" / "out"
    for name in ("rows.parquet", "selected.parquet", "embedding/vectors.npy", "perplexity/rows.parquet"):
        assert (rough / name).read_bytes() == (calm / name).read_bytes(), name
    for stage, count in killed.items():
        report = json.loads((rough / stage / "manifest.json").read_text(encoding="utf-8"))["report"]
        assert count > 0
        assert report["batches done before"] == count, "each finished batch was taken over, none computed twice"


def finished(folder: Path) -> int:
    """Batches in a stage's log."""
    return len(records(folder)) if (folder / checkpoint.LOG).exists() else 0
