"""What `benchmarks.koquality` times; each function runs in a process of its own (`benchmarks.alone`).

Each first does a few rows, so that what is imported and set up once is no part of the seconds: the loops of
the original were timed that way too. Seconds are CPU seconds; files and folders come as text, for JSON's sake.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from benchmarks.alone import cpu_seconds, peak_bytes
from benchmarks.floor import forward_flops, matmul_rate
from lingo_hitl.config import Corpus, KoQualityConfig
from lingo_hitl.curation import run as koquality
from lingo_hitl.models.causal_lm import PerplexityModel
from lingo_hitl.models.encoder import VectorModel
from lingo_hitl.models.weights import quiet_transformers

LENGTH_GROUPS = 5
RATIO = 0.01
WARM_ROWS = 40
"""Enough for every stage to have something to do."""

Costs = dict[str, float]


def ours(
    *, rows: str, out: str, perplexity_model: str, encoder: str, method: str, clusters: int, floor: bool = False
) -> dict[str, Any]:
    """`curate run` on a file of rows: CPU seconds of each stage, and the peak of memory before and after.

    With `floor` comes what the arithmetic of its perplexities takes as a plain matrix product, whose rate
    is measured just before and just after, because a busy machine is now faster, now slower.
    """
    models = {"perplexity_model": perplexity_model, "encoder": encoder, "method": method}
    _run(_first_rows(rows, out), f"{out}-warm", clusters=2, **models)
    rates: list[float] = []

    def look(stage: str) -> None:
        if floor and stage in ("prepare", "perplexity"):
            rates.append(matmul_rate())

    before = peak_bytes()
    stages = _run(rows, out, clusters=clusters, after=look, **models)
    found = {"stages": stages, "before": before, "peak": peak_bytes()}
    return {**found, "floor": _arithmetic(Path(out), perplexity_model) / float(np.mean(rates))} if floor else found


def _run(
    rows: str,
    out: str,
    *,
    perplexity_model: str,
    encoder: str,
    method: str,
    clusters: int,
    after: Callable[[str], None] = lambda stage: None,
) -> Costs:
    """CPU seconds of each stage; what `after` does when a stage is done is no part of them."""
    stages: Costs = {}
    last = cpu_seconds()

    def note(stage: str) -> None:
        nonlocal last
        stages[stage] = cpu_seconds() - last
        after(stage)
        last = cpu_seconds()

    windows = "koquality" if method == "exact" else "weighted"
    koquality.run(
        [Corpus(path=rows, columns={"id": "id"})],
        Path(out),
        perplexity_model=PerplexityModel(perplexity_model, device="cpu", windows=windows),
        encoder=VectorModel(encoder, pooling="pooler", device="cpu"),
        config=KoQualityConfig(method=method, length_groups=LENGTH_GROUPS, clusters=clusters, ratio=RATIO),
        tell=lambda manifest: note(manifest.stage),
    )
    return stages


def _arithmetic(out: Path, perplexity_model: str) -> int:
    """FLOPs that the perplexities in a folder needed, each distinct text once."""
    from transformers import AutoConfig

    texts = pq.read_table(out / "prepare" / "rows.parquet", columns=["instruction"]).to_pandas()
    tokens = pq.read_table(out / "perplexity" / "rows.parquet", columns=["n_tokens"]).to_pandas()["n_tokens"]
    return forward_flops(
        AutoConfig.from_pretrained(perplexity_model), tokens[~texts["instruction"].duplicated()].tolist()
    )


def original(*, rows: str, part: str, exact: str, perplexity_model: str, encoder: str, clusters: int) -> dict[str, Any]:
    """The original's loops: the models on the rows in `part`, k-means and sampling on all of `rows`.

    k-means starts from the vectors in `exact`, a folder that `ours` left; how far those, the perplexities, the
    length groups and the sample there are from the original's comes along.
    """
    from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

    from benchmarks import original as loops

    with quiet_transformers():
        neox, roberta = AutoModelForCausalLM.from_pretrained(perplexity_model), AutoModel.from_pretrained(encoder)
    neox_words, roberta_words = (AutoTokenizer.from_pretrained(folder) for folder in (perplexity_model, encoder))
    few = loops.prepare(_read(part)[:5])
    loops.embeddings(loops.perplexities(few, neox, neox_words)["instruction"], roberta, roberta_words)
    timed, costs = _stopwatch()

    timed("prepare", lambda: loops.prepare(_read(rows)))
    table = timed("perplexity", lambda: loops.perplexities(loops.prepare(_read(part)), neox, neox_words))
    vectors = timed("embedding", lambda: loops.embeddings(list(table["instruction"]), roberta, roberta_words))
    scored, found = _left_by_exact(Path(exact))
    loops.clusters(found[:WARM_ROWS], np.zeros(WARM_ROWS), 2)
    groups = loops.length_groups(scored["len"], LENGTH_GROUPS)
    grouped = timed(
        "clusters", lambda: scored.assign(len_group=groups, cluster=loops.clusters(found, groups, clusters))
    )
    sampled = timed("sampling", lambda: loops.sample(grouped, RATIO))

    place = {name: n for n, name in enumerate(scored["id"])}
    same = [place[name] for name in table["id"]]
    ours_ppl = scored["ppl"].to_numpy()[same]
    return {
        "stages": costs,
        "rows": len(_read(part)),
        "perplexity": float(np.max(np.abs(ours_ppl / table["ppl"].to_numpy() - 1))),
        "vectors": float(np.max(np.abs(found[same] - vectors))),
        "length groups": bool((groups == scored["len_group"].to_numpy()).all()),
        "sample": _ppl_by_group(sampled) == _ppl_by_group(scored[scored["selected"]]),
    }


def base_size(*, rows: str, part: str, out: str, encoder: str) -> dict[str, float]:
    """CPU seconds for a row to be embedded: by the original's loop on `part`, and by ours on `rows`."""
    from transformers import AutoModel, AutoTokenizer

    from benchmarks import original as loops

    with quiet_transformers():
        model, words = AutoModel.from_pretrained(encoder), AutoTokenizer.from_pretrained(encoder)
    texts = [row["instruction"] for row in _read(part)]
    loops.embeddings(texts[:1], model, words)
    timed, costs = _stopwatch()
    timed("original", lambda: loops.embeddings(texts, model, words))
    for path, folder in ((_first_rows(rows, out), Path(f"{out}-warm")), (rows, Path(out))):
        koquality.prepare([Corpus(path=path)], folder)
        source = VectorModel(encoder, pooling="pooler", device="cpu")
        timed("ours", lambda folder=folder, source=source: koquality.embedding(folder, source))
    return {"original": costs["original"] / len(texts), "ours": costs["ours"] / len(_read(rows))}


def _stopwatch() -> tuple[Callable[[str, Callable[[], Any]], Any], Costs]:
    """A function that does some work and notes its CPU seconds under a name, and the notes; the last time counts."""
    costs: Costs = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        started = cpu_seconds()
        found = work()
        costs[name] = cpu_seconds() - started
        return found

    return timed, costs


def _left_by_exact(folder: Path) -> tuple[pd.DataFrame, np.ndarray]:
    """Rows with a perplexity that the exact method left, by (len, ppl) as the original has them, and their vectors.

    The vectors are float32 [n, d].
    """
    rows = pq.read_table(folder / "rows.parquet").to_pandas().rename(columns={"length": "len"})
    rows = rows[rows["ppl"].notna()].sort_values(["len", "ppl", "id"], ignore_index=True)
    index = pq.read_table(folder / "embedding" / "rows.parquet").to_pandas().set_index("id")["vector"]
    return rows, np.load(folder / "embedding" / "vectors.npy")[index.loc[rows["id"]].to_numpy()]


def _ppl_by_group(rows: pd.DataFrame) -> list[tuple[int, float]]:
    return sorted(zip(rows["len_group"].astype(int), rows["ppl"].round(2), strict=True))


def _read(path: str) -> list[dict[str, str]]:
    with Path(path).open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _first_rows(rows: str, out: str) -> str:
    """A file with the first few rows beside the folder `out`."""
    path = Path(f"{out}-warm.jsonl")
    with Path(rows).open(encoding="utf-8") as file:
        path.write_text("".join(itertools.islice(file, WARM_ROWS)), encoding="utf-8")
    return str(path)
