"""`lingo-hitl curate`: the project's stage 6, and KoQuality on a raw corpus, whole or stage by stage."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from lingo_hitl.config import Corpus, KoQualityConfig, MapConfig, PrepareConfig
from lingo_hitl.errors import UserError
from lingo_hitl.project_file import checked, expanded, load_project
from lingo_hitl.stages import Manifest, read_manifest
from lingo_hitl.summary import tell

if TYPE_CHECKING:
    from lingo_hitl.curation.run import Crew
    from lingo_hitl.models.bulk import ModelSource

PERPLEXITY_MODEL = "EleutherAI/polyglot-ko-1.3b"
ENCODER = "BM-K/KoSimCSE-roberta-multitask"
PUBLISHED = {"length_groups": 5, "clusters": 100, "ratio": 0.01}
"""With what the published KoQuality was made: the defaults on a raw corpus."""


class _ConfigOrCommand(TyperGroup):
    """`curate project.yaml` is `curate project project.yaml`: the stage is called like all others."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        named = any(arg in self.commands for arg in args) or bool({"-h", "--help"} & set(args))
        if args and not named and (args[0].startswith("-") or Path(args[0]).suffix or Path(args[0]).is_file()):
            args = ["project", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_ConfigOrCommand,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="6. Filter by what people said and sample by KoQuality (`curate CONFIG`); or KoQuality on a raw corpus.",
)

SOURCES, MODELS, SAMPLE = "Sources", "Models", "Sample"
Out = Annotated[Path, typer.Option(help="The folder to write.", show_default=False)]
Done = Annotated[Path, typer.Argument(help="The folder in which the stages before have run.", show_default=False)]
Input = Annotated[
    list[Path] | None,
    typer.Option("--input", help="A corpus: JSONL, JSON, CSV, TSV, Parquet, a `datasets` folder; several may follow."),
]
More = Annotated[list[Path] | None, typer.Argument(help="More of --input.", hidden=True)]
ProjectFile = Annotated[
    Path | None, typer.Option("--config", help="A project's YAML: its corpora, its map's models, its curate section.")
]
Preset = Annotated[str | None, typer.Option(help="How all --input are laid out.", rich_help_panel=SOURCES)]
IdColumn = Annotated[str | None, typer.Option(help="Keep these ids.", rich_help_panel=SOURCES)]
InstructionColumn = Annotated[str | None, typer.Option(help="Found where absent.", rich_help_panel=SOURCES)]
OutputColumn = Annotated[str | None, typer.Option(help="Found where absent.", rich_help_panel=SOURCES)]
QualityColumn = Annotated[
    str | None,
    typer.Option(help="A rating, higher is better, that the sample respects.", rich_help_panel=SOURCES),
]
Deduplicate = Annotated[
    str | None, typer.Option(help="none, exact or near: rows left out before all else.", rich_help_panel=SOURCES)
]
Similarity = Annotated[
    float | None, typer.Option(help="From which near counts; 0.8 where absent.", rich_help_panel=SOURCES)
]
Languages = Annotated[list[str] | None, typer.Option("--language", help="Keep only ko or en.", rich_help_panel=SOURCES)]
PerplexityModel = Annotated[
    str | None,
    typer.Option(help=f"A folder, a hub id or packaged/kiwi; {PERPLEXITY_MODEL} where absent.", rich_help_panel=MODELS),
]
EncoderModel = Annotated[
    str | None,
    typer.Option(help=f"A folder, a hub id or packaged/kiwi; {ENCODER} where absent.", rich_help_panel=MODELS),
]
Pooling = Annotated[str | None, typer.Option(help="auto, pooler, mean or cls.", rich_help_panel=MODELS)]
DType = Annotated[str | None, typer.Option(help="float32 or bfloat16.", rich_help_panel=MODELS)]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1; chosen where absent.", rich_help_panel=MODELS)]
Engine = Annotated[str | None, typer.Option(help="local or ray.", rich_help_panel=MODELS)]
Workers = Annotated[int | None, typer.Option(help="Processes; one for each GPU where absent.", rich_help_panel=MODELS)]
Method = Annotated[str | None, typer.Option(help="balanced, or exact as the original.", rich_help_panel=SAMPLE)]
LengthGroups = Annotated[int | None, typer.Option(help="5 where absent.", rich_help_panel=SAMPLE)]
Clusters = Annotated[int | None, typer.Option(help="In each length group; 100 where absent.", rich_help_panel=SAMPLE)]
Ratio = Annotated[float | None, typer.Option(help="Of the rows; 0.01 where absent.", rich_help_panel=SAMPLE)]
Sampling = Annotated[
    str | None, typer.Option(help="ppl: along the order; ppl_h: the highest; rand.", rich_help_panel=SAMPLE)
]
Seed = Annotated[int | None, typer.Option(help="42 where absent.", rich_help_panel=SAMPLE)]
KeepPerplexity = Annotated[
    tuple[float, float] | None,
    typer.Option(help="Quantiles, such as 0.01 0.99; rows outside are not sampled.", rich_help_panel=SAMPLE),
]
NearDuplicates = Annotated[
    float | None,
    typer.Option(help="Similarity from which two rows count as one; 0 looks for none.", rich_help_panel=SAMPLE),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@dataclass(frozen=True)
class _Plan:
    """What the options and the project's file together ask for."""

    corpora: list[Corpus]
    models: MapConfig
    koquality: KoQualityConfig
    preparation: PrepareConfig

    @property
    def perplexity_model(self) -> ModelSource:
        from lingo_hitl.curation import run

        if self.models.perplexity is None:
            raise UserError("map.perplexity is null; KoQuality needs a model there, or as --perplexity-model.")
        return run.perplexity_model(self.models.perplexity, self.koquality, self.models.dtype, self.models.device)

    @property
    def encoder(self) -> ModelSource:
        from lingo_hitl.curation import run

        models = self.models
        return run.encoder(models.encoder, self.koquality, models.pooling, models.dtype, models.device)

    @property
    def crew(self) -> Crew:
        from lingo_hitl.curation.run import Crew

        return Crew(self.models.engine, self.models.workers)


@app.command()
def project(
    config: Annotated[Path, typer.Argument(help="The project's YAML file.", show_default=False)],
    workdir: Annotated[Path | None, typer.Option(help="Where stages leave their folders.")] = None,
) -> None:
    """A project's stage 6 on validated rows; `lingo-hitl curate CONFIG` for short."""
    from lingo_hitl import pipeline

    tell(pipeline.curate(load_project(config, workdir=workdir)))


@app.command()
def run(
    ctx: typer.Context,
    out: Out,
    inputs: Input = None,
    more: More = None,
    config: ProjectFile = None,
    preset: Preset = None,
    id_column: IdColumn = None,
    instruction_column: InstructionColumn = None,
    output_column: OutputColumn = None,
    quality_column: QualityColumn = None,
    deduplicate: Deduplicate = None,
    similarity: Similarity = None,
    language: Languages = None,
    perplexity_model: PerplexityModel = None,
    encoder: EncoderModel = None,
    pooling: Pooling = None,
    dtype: DType = None,
    device: Device = None,
    engine: Engine = None,
    workers: Workers = None,
    method: Method = None,
    length_groups: LengthGroups = None,
    clusters: Clusters = None,
    ratio: Ratio = None,
    sampling: Sampling = None,
    seed: Seed = None,
    keep_perplexity: KeepPerplexity = None,
    near_duplicates: NearDuplicates = None,
    as_json: AsJson = False,
) -> None:
    """KoQuality from files to a sample: every stage below, in order."""
    from lingo_hitl.curation import run as koquality

    plan = _plan(ctx.params)
    manifest = koquality.run(
        plan.corpora,
        out,
        perplexity_model=plan.perplexity_model,
        encoder=plan.encoder,
        config=plan.koquality,
        preparation=plan.preparation,
        crew=plan.crew,
        tell=(lambda manifest: None) if as_json else tell,
    )
    _conclude(manifest, out, as_json=as_json)


@app.command()
def prepare(
    ctx: typer.Context,
    out: Out,
    inputs: Input = None,
    more: More = None,
    config: ProjectFile = None,
    preset: Preset = None,
    id_column: IdColumn = None,
    instruction_column: InstructionColumn = None,
    output_column: OutputColumn = None,
    quality_column: QualityColumn = None,
    deduplicate: Deduplicate = None,
    similarity: Similarity = None,
    language: Languages = None,
    method: Method = None,
) -> None:
    """Sources with differing columns into one table of instruction, output, source, length."""
    from lingo_hitl.curation import run as koquality

    plan = _plan(ctx.params)
    exact = plan.koquality.method == "exact"
    tell(koquality.prepare(plan.corpora, out, exact=exact, config=plan.preparation))


@app.command()
def perplexity(
    ctx: typer.Context,
    folder: Done,
    perplexity_model: PerplexityModel = None,
    dtype: DType = None,
    device: Device = None,
    engine: Engine = None,
    workers: Workers = None,
    method: Method = None,
) -> None:
    """The perplexity of each instruction under a causal language model."""
    from lingo_hitl.curation import run as koquality

    plan = _plan(ctx.params, folder)
    tell(koquality.perplexity(folder, plan.perplexity_model, plan.crew))


@app.command()
def embedding(
    ctx: typer.Context,
    folder: Done,
    encoder: EncoderModel = None,
    pooling: Pooling = None,
    dtype: DType = None,
    device: Device = None,
    engine: Engine = None,
    workers: Workers = None,
) -> None:
    """The vector of each instruction."""
    from lingo_hitl.curation import run as koquality

    plan = _plan(ctx.params, folder)
    tell(koquality.embedding(folder, plan.encoder, plan.crew))


@app.command()
def clusters(
    ctx: typer.Context,
    folder: Done,
    method: Method = None,
    length_groups: LengthGroups = None,
    clusters: Clusters = None,
    near_duplicates: NearDuplicates = None,
    seed: Seed = None,
) -> None:
    """Length groups, and k-means clusters in each."""
    from lingo_hitl.curation import run as koquality

    tell(koquality.clusters(folder, _plan(ctx.params, folder).koquality))


@app.command()
def sampling(
    ctx: typer.Context,
    folder: Done,
    method: Method = None,
    length_groups: LengthGroups = None,
    clusters: Clusters = None,
    ratio: Ratio = None,
    sampling: Sampling = None,
    near_duplicates: NearDuplicates = None,
    keep_perplexity: KeepPerplexity = None,
    seed: Seed = None,
    as_json: AsJson = False,
) -> None:
    """Pick from the clusters, write the sample and its report."""
    from lingo_hitl.curation import run as koquality

    manifest = koquality.sampling(folder, _plan(ctx.params, folder).koquality)
    if not as_json:
        tell(manifest)
    _conclude(manifest, folder, as_json=as_json)


@app.command()
def sweep(
    ctx: typer.Context,
    folder: Done,
    length_groups: Annotated[str, typer.Option(help="Separated by commas.")] = "1,5,10",
    clusters: Annotated[str, typer.Option(help="Separated by commas.")] = "10,50,100",
    ratio: Annotated[str, typer.Option(help="Separated by commas.")] = "0.01,0.05,0.1",
    sampling: Annotated[str, typer.Option(help="Separated by commas.")] = "ppl",
    method: Method = None,
    seed: Seed = None,
) -> None:
    """What many settings would pick, as a table and a picture."""
    from lingo_hitl.curation import run as koquality

    found = koquality.sweep(
        folder,
        _plan({"method": method, "seed": seed}, folder).koquality,
        length_groups=_each("length_groups", length_groups),
        cluster_counts=_each("clusters", clusters),
        ratios=_each("ratio", ratio),
        samplings=_each("sampling", sampling),
    )
    print(f"{found.num_rows} combinations: {folder / 'sweep.html'} and {folder / 'sweep.parquet'}")


def _plan(params: dict[str, Any], folder: Path | None = None) -> _Plan:
    """Options over what the stages in `folder` were made with, over the project's file, over the defaults."""
    corpora: list[Corpus] = []
    models = {"perplexity": PERPLEXITY_MODEL, "encoder": ENCODER}
    settings: dict[str, Any] = dict(PUBLISHED)
    preparation: dict[str, Any] = {}
    if params.get("config"):
        project = load_project(params["config"])
        corpora, models = list(project.corpus), project.map.model_dump()
        settings |= project.curate.koquality.model_dump(exclude_unset=True) if project.curate.koquality else {}
        preparation = project.curate.prepare.model_dump(exclude_unset=True)
    settings |= _settled(folder) if folder else {}
    corpora += _sources(params)
    if "out" in params and not corpora:
        raise UserError("no corpus to read. Give files with --input, or a project's YAML with --config.")
    given = {name: value for name, value in params.items() if value not in (None, [], ())}
    if "perplexity_model" in given:
        models["perplexity"] = given["perplexity_model"]
    models |= {
        name: given[name] for name in ("encoder", "pooling", "dtype", "device", "engine", "workers") if name in given
    }
    for name in KoQualityConfig.model_fields:
        if name in given:
            settings[name] = given[name]
    if settings.get("near_duplicates") == 0:
        settings["near_duplicates"] = None
    preparation |= {name: given[name] for name in ("deduplicate", "similarity") if name in given}
    if "language" in given:
        preparation["languages"] = given["language"]
    return _Plan(
        corpora,
        checked(MapConfig, models),
        checked(KoQualityConfig, settings),
        checked(PrepareConfig, preparation),
    )


def _settled(folder: Path) -> dict[str, Any]:
    """The settings with which the stages before were made, so that nobody has to repeat them."""
    from lingo_hitl.curation.run import GROUPING

    prepared, grouped = read_manifest(folder, "prepare"), read_manifest(folder, "clusters")
    found = {name: grouped.config[name] for name in GROUPING if name in grouped.config} if grouped else {}
    return {**found, "method": "exact" if prepared.config.get("exact") else "balanced"} if prepared else found


def _sources(params: dict[str, Any]) -> list[Corpus]:
    columns = {
        name: params[f"{name}_column"]
        for name in ("id", "instruction", "output", "quality")
        if params.get(f"{name}_column")
    }
    paths = [*(params.get("inputs") or []), *(params.get("more") or [])]
    if not paths and (columns or params.get("preset")):
        raise UserError("columns and --preset are of --input, and there is none. In a project's YAML: corpus.columns.")
    return [
        checked(Corpus, {"path": str(expanded(path)), "preset": params.get("preset"), "columns": columns})
        for path in paths
    ]


def _each(name: str, values: str) -> list[Any]:
    """The values of one option, each checked as that of a single run."""
    return [getattr(checked(KoQualityConfig, {name: value.strip()}), name) for value in values.split(",")]


def _conclude(manifest: Manifest, out: Path, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"out": str(out), **asdict(manifest)}, ensure_ascii=False))
        return
    print(f"{manifest.report['selected']:,} of {manifest.rows_out:,} rows are in {out / 'selected.parquet'}")
    print(f"Pictures: {out / 'report.html'}. Every row with its reason: {out / 'rows.parquet'}")
