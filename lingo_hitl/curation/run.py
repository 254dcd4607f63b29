"""KoQuality on a raw corpus, stage by stage; each leaves a folder in `out` and can be run alone.

    out/prepare/      id, source, instruction, output, language, length
    out/perplexity/   id, n_tokens, nll, ppl
    out/embedding/    id, vector (a row of vectors.npy)
    out/clusters/     id, len_group, cluster, duplicate_group
    out/sampling/     rows.parquet (`ROWS`), selected.parquet, report.html, manifest.json: linked into `out` itself

A stage whose inputs and settings are as before is skipped. The two model stages keep each finished batch
on disk: after a crash they go on where they were.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lingo_hitl.config import Corpus, Engine, KoQualityConfig, PrepareConfig
from lingo_hitl.corpus.prepare import prepare as merge
from lingo_hitl.corpus.seeds import corpus_hashes
from lingo_hitl.curation.koquality import Selection, cells_of, choose
from lingo_hitl.curation.measures import measure
from lingo_hitl.curation.pool import Cells, Ints, Pool
from lingo_hitl.curation.report import write_report, write_sweep
from lingo_hitl.curation.sweep import sweep as sweep_pool
from lingo_hitl.errors import UserError
from lingo_hitl.models.bulk import Computed, ModelSource, compute_all
from lingo_hitl.stages import Manifest, Outcome, file_sha256, link_or_copy, read_manifest, run_stage

ROWS = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("instruction", pa.large_string()),  # a million long texts are more than the 2 GB that a string column holds
        ("output", pa.large_string()),
        ("length", pa.int32()),  # code points of the instruction
        ("n_tokens", pa.int32()),
        ("ppl", pa.float64()),  # null: nothing to predict
        ("len_group", pa.int32()),  # 0 for the shortest; null: lost, as the original loses it
        ("cluster", pa.int32()),  # in its length group
        ("selected", pa.bool_()),
        ("reason", pa.string()),
    ]
)
"""What `rows.parquet` and `selected.parquet` hold."""

PUBLISHED = ("rows.parquet", "selected.parquet", "report.html", "manifest.json")
_GROUPING = ("method", "length_groups", "clusters", "seed", "mini_batch_above", "near_duplicates")


@dataclass(frozen=True)
class Crew:
    """Who runs a model: this process, several of them, or Ray's actors."""

    engine: Engine = "local"
    workers: int | None = None


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
    for name, model in {"perplexity": perplexity_model, "embedding": encoder}.items():
        if read_manifest(out, name) is None:
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
    return run_stage(
        "prepare",
        lambda: merge(corpora, exact=exact, config=config),
        workdir=out,
        config={"corpora": list(corpora), "exact": exact, "prepare": config},
        inputs=corpus_hashes(corpora),
    )


def perplexity(out: Path, model: ModelSource, crew: Crew = HERE) -> Manifest:
    """The perplexity of each instruction."""

    def work(scratch: Path) -> Outcome:
        rows = _columns(out, "prepare", ["id", "instruction"])
        found = compute_all(
            rows["instruction"], model, what="perplexity", folder=scratch, engine=crew.engine, workers=crew.workers
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
        rows = _columns(out, "prepare", ["id", "instruction"])
        found = compute_all(
            rows["instruction"], model, what="vectors", folder=scratch, engine=crew.engine, workers=crew.workers
        )
        table = pa.table({"id": rows["id"], "vector": pa.array(found.index)})
        return Outcome(table, report=_effort(found), files={"vectors.npy": scratch / "values.npy"})

    return _model_stage("embedding", work, out, model)


def clusters(out: Path, config: KoQualityConfig) -> Manifest:
    """Length groups, k-means clusters in each, and the rows that nearly repeat each other."""

    def work() -> Outcome:
        pool = read_pool(out)
        cells = cells_of(pool, config)
        table = {"id": pool.ids, "len_group": _or_null(cells.groups), "cluster": pa.array(cells.clusters, pa.int32())}
        table["duplicate_group"] = _duplicates(pool, config)
        sizes = np.unique(cells.groups[cells.groups >= 0], return_counts=True)[1]
        return Outcome(pa.table(table), report={"rows in each length group": sizes.tolist()})

    settings = {name: getattr(config, name) for name in _GROUPING}
    return run_stage(
        "clusters", work, workdir=out, config=settings, inputs=_inputs(out, "prepare", "perplexity", "embedding")
    )


def sampling(out: Path, config: KoQualityConfig) -> Manifest:
    """Pick the sample from the clusters, write it and all rows with their reasons, and draw the report."""

    def work() -> Outcome:
        selection = read_selection(out, config)
        pool = selection.pool
        sources, outputs = (_whole(out, name) for name in ("source", "output"))
        measures = measure(pool, selection, sources, seed=config.seed)
        rows, stages = rows_of(out, selection, selection.order), _stages(out)
        scratch.mkdir(parents=True, exist_ok=True)
        chosen = rows_of(out, selection, selection.sample_order)
        pq.write_table(chosen, scratch / "selected.parquet", compression="zstd")
        write_report(
            scratch / "report.html",
            title=f"KoQuality · {out.name}",
            pool=pool,
            selection=selection,
            measures=measures,
            sources=sources,
            outputs=outputs,
            dropped=stages["prepare"]["drops"],
            seconds={name: about["seconds"] for name, about in stages.items()},
            settings=_settings(config, stages),
        )
        report = {**selection.report, "measures": measures.as_json(), "stages": stages}
        files = {name: scratch / name for name in ("selected.parquet", "report.html")}
        return Outcome(rows, report=report, files=files)

    scratch = out / ".sampling.partial"
    needed = _inputs(out, "prepare", "perplexity", "embedding", "clusters")
    grouped = read_manifest(out, "clusters")
    assert grouped is not None
    for name in _GROUPING:
        if grouped.config[name] != getattr(config, name):
            raise UserError(
                f"{out / 'clusters'} was made with {name} {grouped.config[name]}, not {getattr(config, name)}. "
                f"Run `lingo-hitl curate clusters {out}` with it first."
            )
    manifest = run_stage("sampling", work, workdir=out, config=config, inputs=needed)
    shutil.rmtree(scratch, ignore_errors=True)
    _publish(out)
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
    _inputs(out, "prepare", "perplexity", "embedding")
    pool = read_pool(out)
    found = sweep_pool(
        pool,
        config,
        length_groups=list(length_groups),
        clusters=list(cluster_counts),
        ratios=list(ratios),
        samplings=list(samplings),
        sources=_whole(out, "source"),
    )
    for name, write in {
        "sweep.parquet": lambda path: pq.write_table(found, path, compression="zstd"),
        "sweep.html": lambda path: write_sweep(path, found, title=f"KoQuality sweep · {out.name}"),
    }.items():
        fresh = out / f".{name}.new"
        write(fresh)
        fresh.replace(out / name)
    return found


def read_pool(out: Path) -> Pool:
    """What the stages before `clusters` left in `out`, as columns; vectors stay on disk.

    Raises:
        UserError: one of them has not run there.
    """
    rows = _columns(out, "prepare", ["id", "length", "quality"])
    values = np.load(out / "embedding" / "vectors.npy", mmap_mode="r")
    return Pool(
        ids=rows["id"].combine_chunks(),
        texts=_whole(out, "instruction"),
        lengths=rows["length"].to_numpy().astype(np.int64),
        perplexity=_columns(out, "perplexity", ["ppl"])["ppl"].to_numpy(),
        vectors=values,
        vector_of=_columns(out, "embedding", ["vector"])["vector"].to_numpy(),
        quality=None if rows["quality"].null_count == rows.num_rows else rows["quality"].to_numpy(),
        duplicate_group=_duplicate_groups(out),
    )


def read_selection(out: Path, config: KoQualityConfig) -> Selection:
    """What `config` picks from the clusters in `out`."""
    return choose(read_pool(out), _cells(out), config)


def rows_of(out: Path, selection: Selection, positions: Ints) -> pa.Table:
    """The rows at `positions` with all that was found out about them; columns of `ROWS`."""
    prepared = _columns(out, "prepare", ["id", "source", "instruction", "output", "length"])
    columns = {name: prepared[name].cast(ROWS.field(name).type) for name in prepared.column_names}
    columns["n_tokens"] = _columns(out, "perplexity", ["n_tokens"])["n_tokens"]
    columns["ppl"] = pa.array(selection.perplexity, from_pandas=True)
    columns["len_group"] = _or_null(selection.groups)
    columns["cluster"] = pa.array(selection.clusters, pa.int32(), mask=selection.groups < 0)
    columns["selected"] = pa.array(selection.selected)
    columns["reason"] = selection.reasons
    table = pa.table({name: columns[name] for name in ROWS.names}).cast(ROWS)
    return table.take(pa.array(positions))


def _model_stage(name: str, work: Callable[[Path], Outcome], out: Path, model: ModelSource) -> Manifest:
    """A stage whose finished batches stay in a hidden folder until the whole is there."""
    scratch = out / f".{name}.partial"
    manifest = run_stage(
        name,
        lambda: work(scratch),
        workdir=out,
        config={"model": model.identity},
        inputs=_inputs(out, "prepare"),
    )
    shutil.rmtree(scratch, ignore_errors=True)
    return manifest


def _effort(found: Computed) -> dict[str, Any]:
    return {"distinct texts": len(found.values), "batches": found.batches, "batches done before": found.resumed}


def _inputs(out: Path, *needs: str) -> dict[str, str]:
    """The hashes of the rows of stages, after a look whether each is there and newer than what it was made from.

    Raises:
        UserError: a stage has not run in `out`, or not since one before it ran again.
    """
    hashes: dict[str, str] = {}
    for name in needs:
        manifest, rows = read_manifest(out, name), out / name / "rows.parquet"
        if manifest is None or not rows.is_file():
            raise UserError(f"{rows} is not there. Run `lingo-hitl curate {name} {out}` first.")
        for earlier, sha256 in manifest.inputs.items():
            if hashes.get(earlier, sha256) != sha256:
                raise UserError(
                    f"{out / name} was made before the last run of '{earlier}'. "
                    f"Run `lingo-hitl curate {name} {out}` first."
                )
        hashes[name] = file_sha256(rows)
    return hashes


def _columns(out: Path, stage: str, names: Sequence[str]) -> pa.Table:
    path = out / stage / "rows.parquet"
    try:
        return pq.read_table(path, columns=list(names))
    except pa.ArrowException as error:
        raise UserError(f"{path} is damaged ({error}). Delete {path.parent} and run the stage again.") from error


def _whole(out: Path, name: str) -> pa.LargeStringArray:
    """A column of the prepared rows in one piece."""
    return _columns(out, "prepare", [name])[name].cast(pa.large_string()).combine_chunks()


def _or_null(labels: Ints) -> pa.Array:
    """Labels as int32, those below 0 as null."""
    return pa.array(labels, pa.int32(), mask=labels < 0)


def _cells(out: Path) -> Cells:
    found = _columns(out, "clusters", ["len_group", "cluster"])
    groups, labels = (found[name].fill_null(-1).to_numpy().astype(np.int64) for name in found.column_names)
    return Cells(groups, labels)


def _duplicates(pool: Pool, config: KoQualityConfig) -> pa.Array:
    """The group of rows that nearly repeat each other, by row; null where none were looked for."""
    if config.method == "exact" or config.near_duplicates is None:
        return pa.nulls(len(pool), pa.int64())
    from lingo_hitl.corpus.duplicates import near_duplicate_groups

    return pa.array(near_duplicate_groups(pool.texts, config.near_duplicates))


def _duplicate_groups(out: Path) -> Ints | None:
    if read_manifest(out, "clusters") is None:
        return None
    groups = _columns(out, "clusters", ["duplicate_group"])["duplicate_group"]
    return None if groups.null_count else groups.to_numpy()


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


def _publish(out: Path) -> None:
    """Link what the last stage made into `out` itself, the manifest last."""
    for name in PUBLISHED:
        fresh = out / f".{name}.new"
        fresh.unlink(missing_ok=True)
        link_or_copy(out / "sampling" / name, fresh)
        fresh.replace(out / name)
