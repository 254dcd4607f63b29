"""KoQuality on a raw corpus, stage by stage; each leaves a folder in `out` and can be run alone.

    out/prepare/      id, source, instruction, output, language, length
    out/perplexity/   id, n_tokens, nll, ppl
    out/embedding/    id, vector (a row of vectors.npy)
    out/clusters/     id, len_group, cluster, duplicate_group
    out/sampling/     rows.parquet (`folders.ROWS`), selected.parquet, report.html; linked into `out` itself

A stage whose inputs and settings are as before is skipped. The two model stages keep each finished batch
on disk: after a crash they go on where they were.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lingo_hitl.config import Corpus, DType, Engine, KoQualityConfig, Pooling, PrepareConfig
from lingo_hitl.corpus.duplicates import near_duplicate_groups
from lingo_hitl.corpus.prepare import prepare as merge
from lingo_hitl.corpus.seeds import corpus_hashes
from lingo_hitl.curation.folders import (
    check_ours,
    columns,
    inputs_of,
    or_null,
    publish,
    read_pool,
    read_selection,
    sampled_rows,
    whole,
    write_rows,
)
from lingo_hitl.curation.koquality import cells_of
from lingo_hitl.curation.measures import measure
from lingo_hitl.curation.pool import Ints, Pool
from lingo_hitl.curation.report import write_report, write_sweep
from lingo_hitl.curation.sweep import sweep as sweep_pool
from lingo_hitl.errors import UserError
from lingo_hitl.models.bulk import Computed, ModelSource, compute_all
from lingo_hitl.models.causal_lm import PerplexityModel
from lingo_hitl.models.encoder import VectorModel
from lingo_hitl.stages import Manifest, Outcome, read_manifest, run_stage

GROUPING = ("method", "length_groups", "clusters", "seed", "mini_batch_above", "near_duplicates")
"""The settings that the clusters depend on."""


@dataclass(frozen=True)
class Crew:
    """Who runs a model: this process, several of them, or Ray's actors."""

    engine: Engine = "local"
    workers: int | None = None


def perplexity_model(
    spec: str, config: KoQualityConfig, dtype: DType = "float32", device: str | None = None
) -> PerplexityModel:
    """The language model, reading long texts as the method does."""
    return PerplexityModel(spec, dtype, device, windows="koquality" if config.method == "exact" else "weighted")


def encoder(
    spec: str,
    config: KoQualityConfig,
    pooling: Pooling = "auto",
    dtype: DType = "float32",
    device: str | None = None,
) -> VectorModel:
    """The encoder; method exact takes its pooler's output, where nothing else is asked for, and cuts at 512 tokens."""
    if config.method != "exact" or spec.startswith("packaged/"):
        return VectorModel(spec, pooling, dtype, device)
    return VectorModel(spec, "pooler" if pooling == "auto" else pooling, dtype, device, most_tokens=512)


HERE = Crew()
AS_IT_COMES = PrepareConfig()


def run(
    corpora: Sequence[Corpus],
    out: Path,
    *,
    perplexity_model: ModelSource,
    encoder: ModelSource,
    config: KoQualityConfig,
    preparation: PrepareConfig = AS_IT_COMES,
    crew: Crew = HERE,
    tell: Callable[[Manifest], None] = lambda manifest: None,
) -> Manifest:
    """All stages, from files to `out/selected.parquet`; `tell` gets each manifest as soon as it is there.

    Raises:
        UserError: a file, a model or a setting with which it cannot be done; nothing that was finished is lost.
    """
    check_ours(out, corpora)
    for name, model in {"perplexity": perplexity_model, "embedding": encoder}.items():
        before = read_manifest(out, name)
        if before is None or before.config["model"] != model.identity:
            model.load()  # a mistake in the second model must not be told after hours with the first
    tell(prepare(corpora, out, exact=config.method == "exact", config=preparation))
    tell(perplexity(out, perplexity_model, crew))
    tell(embedding(out, encoder, crew))
    tell(clusters(out, config))
    manifest = sampling(out, config)
    tell(manifest)
    return manifest


def prepare(
    corpora: Sequence[Corpus], out: Path, *, exact: bool = False, config: PrepareConfig = AS_IT_COMES
) -> Manifest:
    """Merge the corpora into one table; see `corpus.prepare.prepare`."""
    check_ours(out, corpora)
    return run_stage(
        "prepare",
        lambda: merge(corpora, exact=exact, config=config),
        workdir=out,
        config={"corpora": list(corpora), "exact": exact, "prepare": None if exact else config},
        inputs=corpus_hashes(corpora),
    )


def perplexity(out: Path, model: ModelSource, crew: Crew = HERE) -> Manifest:
    """The perplexity of each instruction."""

    def work(scratch: Path) -> Outcome:
        rows = columns(out, "prepare", ["id", "instruction"])
        found = compute_all(
            rows["instruction"],
            model,
            what="perplexity of distinct texts",
            folder=scratch,
            engine=crew.engine,
            workers=crew.workers,
        )
        nll, tokens = found.values[:, 0][found.index], found.values[:, 1][found.index]
        with np.errstate(over="ignore"):
            ppl = np.exp(nll)
        table = {
            "id": rows["id"],
            "n_tokens": pa.array(tokens.astype(np.int32)),
            "nll": pa.array(nll, from_pandas=True),
            "ppl": pa.array(ppl, from_pandas=True),
        }
        return Outcome(pa.table(table), report=_effort(found))

    return _model_stage("perplexity", work, out, model)


def embedding(out: Path, model: ModelSource, crew: Crew = HERE) -> Manifest:
    """The vector of each instruction; equal instructions share one."""

    def work(scratch: Path) -> Outcome:
        rows = columns(out, "prepare", ["id", "instruction"])
        found = compute_all(
            rows["instruction"],
            model,
            what="vectors of distinct texts",
            folder=scratch,
            engine=crew.engine,
            workers=crew.workers,
        )
        table = pa.table({"id": rows["id"], "vector": pa.array(found.index)})
        return Outcome(table, report=_effort(found), files={"vectors.npy": scratch / "values.npy"})

    return _model_stage("embedding", work, out, model)


def clusters(out: Path, config: KoQualityConfig) -> Manifest:
    """Length groups, k-means clusters in each, and the rows that nearly repeat each other."""

    def work() -> Outcome:
        pool = read_pool(out)
        cells = cells_of(pool, config)
        repeats = _repeats(pool, config)
        table = {"id": pool.ids, "len_group": or_null(cells.groups), "cluster": pa.array(cells.clusters, pa.int32())}
        table["duplicate_group"] = pa.nulls(len(pool), pa.int64()) if repeats is None else pa.array(repeats)
        sizes = np.unique(cells.groups[cells.groups >= 0], return_counts=True)[1]
        return Outcome(pa.table(table), report={"rows in each length group": sizes.tolist()})

    needed = inputs_of(out, "prepare", "perplexity", "embedding")
    _check_method(out, config)
    settings = {name: getattr(config, name) for name in GROUPING}
    return run_stage("clusters", work, workdir=out, config=settings, inputs=needed)


def sampling(out: Path, config: KoQualityConfig) -> Manifest:
    """Pick the sample from the clusters, write it and all rows with their reasons, and draw the report."""

    def work() -> Outcome:
        selection = read_selection(out, config)
        sources = whole(out, "source")
        measures = measure(selection.pool, selection, sources, seed=config.seed)
        stages = _stages(out)
        scratch.mkdir(parents=True, exist_ok=True)
        write_rows(scratch / "rows.parquet", out, selection)
        chosen = sampled_rows(out, selection)
        pq.write_table(chosen, scratch / "selected.parquet", compression="zstd")
        write_report(
            scratch / "report.html",
            title=f"KoQuality · {out.name}",
            pool=selection.pool,
            selection=selection,
            measures=measures,
            sources=sources,
            outputs=_outputs(chosen, selection.sample_order, len(selection.pool)),
            dropped=stages["prepare"]["drops"],
            seconds={name: about["seconds"] for name, about in stages.items()},
            settings=_settings(config, stages),
        )
        report = {**selection.report, "measures": measures.as_json(), "stages": stages}
        files = {name: scratch / name for name in ("selected.parquet", "report.html")}
        return Outcome(scratch / "rows.parquet", report=report, files=files)

    scratch = out / ".sampling.partial"
    needed = inputs_of(out, "prepare", "perplexity", "embedding", "clusters")
    _check_method(out, config)
    grouped = read_manifest(out, "clusters")
    for name in GROUPING:
        before = grouped.config.get(name) if grouped else None
        if before != getattr(config, name):
            raise UserError(
                f"{out / 'clusters'} was made with {name} {before}, not {getattr(config, name)}. "
                f"Run `lingo-hitl curate clusters {out}` with it first."
            )
    manifest = run_stage("sampling", work, workdir=out, config=config, inputs=needed)
    shutil.rmtree(scratch, ignore_errors=True)
    publish(out)
    return manifest


def sweep(
    out: Path,
    config: KoQualityConfig,
    *,
    length_groups: Sequence[int],
    cluster_counts: Sequence[int],
    ratios: Sequence[float],
    samplings: Sequence[str],
) -> pa.Table:
    """What many settings would pick; writes `out/sweep.parquet` and `out/sweep.html`.

    Raises:
        UserError: the models have not run in `out`.
    """
    inputs_of(out, "prepare", "perplexity", "embedding")
    _check_method(out, config)
    pool = read_pool(out)
    pool = replace(pool, duplicate_group=_repeats(pool, config))
    found = sweep_pool(
        pool,
        config,
        length_groups=list(length_groups),
        clusters=list(cluster_counts),
        ratios=list(ratios),
        samplings=list(samplings),
        sources=whole(out, "source"),
    )
    for name, write in {
        "sweep.parquet": lambda path: pq.write_table(found, path, compression="zstd"),
        "sweep.html": lambda path: write_sweep(path, found, title=f"KoQuality sweep · {out.name}"),
    }.items():
        fresh = out / f".{name}.new"
        write(fresh)
        fresh.replace(out / name)
    return found


def _model_stage(name: str, work: Callable[[Path], Outcome], out: Path, model: ModelSource) -> Manifest:
    """A stage whose finished batches stay in a hidden folder until the whole is there."""
    scratch = out / f".{name}.partial"
    manifest = run_stage(
        name,
        lambda: work(scratch),
        workdir=out,
        config={"model": model.identity},
        inputs=inputs_of(out, "prepare"),
    )
    shutil.rmtree(scratch, ignore_errors=True)
    return manifest


def _computed(texts: pa.ChunkedArray, model: ModelSource, scratch: Path, crew: Crew, *, what: str) -> Computed:
    return compute_all(texts, model, what=what, folder=scratch, engine=crew.engine, workers=crew.workers)


def _effort(found: Computed) -> dict[str, Any]:
    return {"distinct texts": len(found.values), "batches": found.batches, "batches done before": found.resumed}


def _check_method(out: Path, config: KoQualityConfig) -> None:
    """Refuse to call exact what was not read as the original reads, and the other way round."""
    prepared, read = read_manifest(out, "prepare"), read_manifest(out, "perplexity")
    exact = config.method == "exact"
    for name, found in {
        "prepare": bool(prepared and prepared.config.get("exact")),
        "perplexity": bool(read and read.config["model"].get("windows") == "koquality"),
    }.items():
        if found != exact:
            other = "exact" if found else "balanced"
            raise UserError(
                f"{out / name} was made for method {other}, not {config.method}: the original reads texts differently. "
                f"Run `lingo-hitl curate {name}` with --method {config.method} first, or all with `curate run`."
            )


def _repeats(pool: Pool, config: KoQualityConfig) -> Ints | None:
    """Rows that nearly repeat each other share a number; None where the settings look for none."""
    if config.method == "exact" or config.near_duplicates is None:
        return None
    return near_duplicate_groups(pool.texts, config.near_duplicates)


def _outputs(chosen: pa.Table, positions: Ints, rows: int) -> pa.Array:
    """The sampled rows' outputs at their places among all rows, null elsewhere."""
    place = np.full(rows, -1, dtype=np.int64)
    place[positions] = np.arange(len(positions))
    return chosen["output"].combine_chunks().take(pa.array(place, mask=place < 0))


def _stages(out: Path) -> dict[str, Any]:
    """Settings, counts and seconds of the stages before, for the manifest of the last."""
    found = {name: read_manifest(out, name) for name in ("prepare", "perplexity", "embedding", "clusters")}
    return {
        name: {"config": m.config, "rows_in": m.rows_in, "rows_out": m.rows_out, "drops": m.drops, "seconds": m.seconds}
        for name, m in found.items()
        if m
    }


def _settings(config: KoQualityConfig, stages: dict[str, Any]) -> dict[str, Any]:
    """What a reader of the report wants to know that it was made with."""
    models = {name: stages[name]["config"]["model"].get("spec") for name in ("perplexity", "embedding")}
    ours = config.model_dump()
    if config.method == "exact":
        ours = {name: ours[name] for name in ("method", "length_groups", "clusters", "ratio", "sampling", "seed")}
    return {"perplexity_model": models["perplexity"], "encoder": models["embedding"], **ours}
