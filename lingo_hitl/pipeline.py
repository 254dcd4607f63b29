"""The stages of a project in their order, as Python functions: what the command line calls.

    corpus -> generate -> judge -> map -> push -> [Argilla] -> sync -> curate -> release

Each takes a `Project` and leaves a folder in its `workdir`; `push` and `sync` also need the Argilla
of `home`. A stage whose inputs and config are as before is skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

from lingo_hitl.config import Project
from lingo_hitl.errors import UserError
from lingo_hitl.ledger import Ledger
from lingo_hitl.records import GENERATED, JUDGED
from lingo_hitl.sample import PERSONAS
from lingo_hitl.stages import (
    Manifest,
    Outcome,
    RowFile,
    file_sha256,
    locked,
    read_dropped,
    read_manifest,
    read_rows,
    run_stage,
)

BEFORE = ("corpus", "generate", "judge", "map", "sync", "curate")
"""The stages that others build on."""
CRON_PATIENCE_S = 600
"""How long `push` and `sync` wait for each other: cron starts both at the full hour."""

if TYPE_CHECKING:
    from lingo_hitl.models.estimate import Estimate
    from lingo_hitl.models.session import Session
    from lingo_hitl.release.release import ReleaseReport


def read_corpora(project: Project) -> Manifest:
    """Read the corpora into one table of seeds."""
    from lingo_hitl.corpus.seeds import corpus_hashes, read_corpus

    return run_stage(
        "corpus",
        lambda: read_corpus(project.corpus),
        workdir=project.workdir,
        config={"project": project.project, "corpus": list(project.corpus)},
        inputs=corpus_hashes(project.corpus),
    )


def generate(project: Project, *, offline: bool = False, again: bool = False, whole: bool = True) -> Manifest:
    """Read the corpora, then write dialogues, completions and instructions from them.

    Args:
        offline: use no network: all completions must be in the journal.
        again: do the stage though it was done before; what the journal has is replayed.
        whole: `project` has all tasks of its config; see `open_session`.
    """
    from lingo_hitl.generation.generate import generate as stage
    from lingo_hitl.generation.prompts import prompt_hashes
    from lingo_hitl.judging.families import same_family_warnings

    same_family_warnings(project.generate, project.judge)  # refused before anything is paid for
    read_corpora(project)
    inputs = {**_input(project, stage.needs), **_personas(project)}
    if dialogue := project.generate.dialogue:
        inputs |= prompt_hashes(dialogue.prompts)
    if (preference := project.generate.preference) and preference.evolve:
        inputs |= prompt_hashes(preference.evolve.prompts)

    def work(rows: pa.Table) -> Outcome:
        file = on_the_way(project, "generate")
        with (
            open_session(project, "generate", offline=offline, whole=whole) as session,
            RowFile(file, GENERATED) as out,
        ):
            return stage(rows, project.generate, session=session, out=out)

    return _run(project, "generate", stage.needs, work, project.generate, inputs, always=again)


def judge(project: Project, *, offline: bool = False, again: bool = False) -> Manifest:
    """Rate the texts with the project's judges.

    Args:
        offline: use no network: all completions must be in the journal.
        again: do the stage though it was done before; what the journal has is replayed.

    Raises:
        UserError: a judge of a writer's family that the config does not own up to.
    """
    from lingo_hitl.generation.personas import load_personas
    from lingo_hitl.generation.prompts import prompt_hashes
    from lingo_hitl.judging.families import same_family_warnings
    from lingo_hitl.judging.judge import judge as stage

    warnings = same_family_warnings(project.generate, project.judge)
    dialogue = project.generate.dialogue
    personas = load_personas(dialogue.personas) if dialogue else {}

    def work(rows: pa.Table) -> Outcome:
        file = RowFile(on_the_way(project, "judge"), pa.schema([*rows.schema, *JUDGED]))
        with open_session(project, "judge", offline=offline) as session, file as out:
            outcome = stage(rows, project.judge, session=session, out=out, personas=personas)
        return replace(outcome, report={**outcome.report, **({"warnings": warnings} if warnings else {})})

    inputs = {**_input(project, stage.needs), **_personas(project), **prompt_hashes(project.judge.prompts)}
    return _run(project, "judge", stage.needs, work, project.judge, inputs, always=again)


def binarise(project: Project) -> Manifest:
    """Pairs of chosen and rejected by the judges' ratings alone; also writes `binarise/pairs.jsonl` for trainers."""
    from lingo_hitl.judging.binarise import as_lines
    from lingo_hitl.judging.binarise import binarise as stage

    manifest = _run(project, "binarise", stage.needs, lambda rows: stage(rows, project.binarise), project.binarise)
    lines = project.workdir / "binarise" / "pairs.jsonl"
    if not lines.exists():
        fresh = lines.with_suffix(".new")
        fresh.write_text(as_lines(read_rows(project.workdir, "binarise")), encoding="utf-8", newline="\n")
        fresh.rename(lines)
    return manifest


def map_rows(project: Project) -> Manifest:
    """Give each row a vector, a perplexity, a place on the map and a named cluster; draws `map/atlas.html`."""
    from lingo_hitl.mapping.atlas import write_atlas
    from lingo_hitl.mapping.map import map_rows as stage

    manifest = _run(project, "map", stage.needs, lambda rows: stage(rows, project.map), project.map)
    atlas = project.workdir / "map" / "atlas.html"
    if not atlas.exists():
        write_atlas(read_rows(project.workdir, "map"), atlas, title=project.project)
    return manifest


def push(project: Project, home: Path) -> Manifest:
    """Make the project's datasets in Argilla hold its rows; sends only what changed."""
    from lingo_hitl.annotation.argilla_api import connect
    from lingo_hitl.annotation.push import push as send

    def work(rows: pa.Table) -> Outcome:
        connection = connect(project.argilla, home)
        with Ledger(ledger_path(project)) as ledger:
            return send(rows, project, connection=connection, ledger=ledger)

    return _run(project, "push", "map", work, {"argilla": project.argilla, "push": project.push}, always=True)


def sync(project: Project, home: Path) -> Manifest:
    """Bring labelers' answers into the ledger, and lay their consensus beside the rows."""
    from lingo_hitl.annotation.argilla_api import connect
    from lingo_hitl.annotation.consensus import consensus
    from lingo_hitl.annotation.pull import pull

    def work(rows: pa.Table) -> Outcome:
        connection = connect(project.argilla, home)
        with Ledger(ledger_path(project)) as ledger:
            report = pull(project, connection=connection, ledger=ledger)
            outcome = consensus(rows, ledger.answers())
            ledger_state = {"ledger_position": ledger.position(), "ledger_head": ledger.head()}
        return Outcome(
            outcome.rows,
            [],
            {"appended": report.appended, "datasets": report.as_dict(), **outcome.report, **ledger_state},
        )

    return _run(project, "sync", "map", work, {"argilla": project.argilla}, always=True)


def curate(project: Project) -> Manifest:
    """Keep the rows that people answered and approved, and sample them by KoQuality."""
    from lingo_hitl.curation.curate import curate as stage

    return _run(project, "curate", stage.needs, lambda rows: stage(rows, project.curate), project.curate)


def release(project: Project) -> ReleaseReport:
    """Write the dataset: preference pairs, an SFT set, a card, a manifest. Released versions never change.

    Raises:
        UserError: nothing can be released, or the version exists with other content.
    """
    from lingo_hitl.release.release import release as write

    _input(project, "curate")
    return write(
        read_rows(project.workdir, "curate"),
        read_dropped(project.workdir, "curate"),
        project.release,
        project=project.project,
        corpora=project.corpus,
        out=release_folder(project),
        inputs=_origins(project),
    )


def run(project: Project, home: Path, tell: Callable[[Manifest], None]) -> None:
    """Every stage up to `push`; `tell` gets each manifest as soon as it is there.

    Raises:
        UserError: also at once where Argilla is away, before minutes of work that would end there.
    """
    from lingo_hitl.annotation.argilla_api import connect
    from lingo_hitl.judging.families import same_family_warnings

    connect(project.argilla, home)
    same_family_warnings(project.generate, project.judge)
    for stage in (generate, judge, map_rows):
        tell(stage(project))
    tell(push(project, home))


def estimate(project: Project, stage: Literal["generate", "judge"], *, sample: int = 0) -> Estimate:
    """What a stage will still ask of models over a network: calls, tokens, cost and time.

    Args:
        sample: rows, evenly spread, that are asked for and paid for first; the stage itself replays them then.

    Raises:
        UserError: the stage before has not run; a model or persona that is not known; with a sample, that
            another run works there.
    """
    from lingo_hitl.generation.personas import load_personas
    from lingo_hitl.generation.plans import generating
    from lingo_hitl.judging.plans import rating
    from lingo_hitl.models.estimate import estimate as scaled
    from lingo_hitl.models.flow import run_flow
    from lingo_hitl.models.journal import Journal

    if stage == "generate":
        read_corpora(project)
        plans = generating(read_rows(project.workdir, "corpus"), project.generate)
    else:
        _input(project, "generate")
        dialogue = project.generate.dialogue
        personas = load_personas(dialogue.personas) if dialogue else {}
        plans = rating(read_rows(project.workdir, "generate"), project.judge, personas)
    if sample:
        with locked(project.workdir), open_session(project, stage, whole=False) as session:
            for plan in plans:
                places = plan.spread(sample)
                for _ in run_flow(plan.flow, plan.taken(places), session, what=plan.what, total=len(places)):
                    pass
    with Journal(journal_path(project)) as journal:
        return scaled(plans, journal, quotas=project.quotas, budget=project.budget, asked=sample)


@contextmanager
def open_session(project: Project, stage: str, *, offline: bool = False, whole: bool = True) -> Iterator[Session]:
    """What the models of a stage share; the journal remembers what the stage used.

    Args:
        whole: all that the stage needs is asked for, so that what only runs before this one used may be pruned.
    """
    from lingo_hitl.models.journal import Journal
    from lingo_hitl.models.session import Session

    with Journal(journal_path(project)) as journal:
        journal.begin(stage)
        session = Session(journal, quotas=project.quotas, budget=project.budget, offline=offline)
        # Whatever ends the stage, a full disk or Ctrl-C at any place, paid calls are still on their way.
        with closing(session):
            yield session
        if whole:
            journal.finish()


def journal_path(project: Project) -> Path:
    """Where a project keeps what models said."""
    return project.workdir / "journal.sqlite"


def ledger_path(project: Project) -> Path:
    """Where a project keeps what people said."""
    return project.workdir / "ledger.sqlite"


def release_folder(project: Project) -> Path:
    """Where a project's release of the config's version lies."""
    name = project.release.name or project.project
    return project.workdir / "release" / f"{name}-{project.release.version}"


def _origins(project: Project) -> dict[str, str]:
    """Hashes of the corpora and of the ledger as it was at the last sync."""
    corpus, sync = (read_manifest(project.workdir, name) for name in ("corpus", "sync"))
    hashes = enumerate(corpus.inputs.items(), 1) if corpus else ()
    # Numbered, for two corpora may have files of the same name; whole paths would tell of this machine.
    files = {f"corpus {n}: {Path(path).name}": sha256 for n, (path, sha256) in hashes}
    return {**files, "ledger": sync.report["ledger_head"]} if sync else files


def _personas(project: Project) -> dict[str, str]:
    """The hash of the personas' file, where there are dialogues."""
    if not (dialogue := project.generate.dialogue):
        return {}
    personas = PERSONAS if dialogue.personas == "sample" else Path(dialogue.personas)
    return {"personas": file_sha256(personas) if personas.is_file() else "absent"}


def _input(project: Project, needs: str) -> dict[str, str]:
    """The hash of the rows of stage `needs`, after a look whether they are this project's and up to date.

    Raises:
        UserError: the stage has not run, ran for another project, or before a stage that it builds on.
    """
    rows = project.workdir / needs / "rows.parquet"
    manifest = read_manifest(project.workdir, needs)
    if not rows.is_file() or manifest is None:
        command = "generate" if needs == "corpus" else needs
        raise UserError(f"{rows} is not there: stage '{needs}' has not run. Run `lingo-hitl {command} CONFIG` first.")
    owner = manifest.config.get("project")
    if owner != project.project:
        raise UserError(
            f"{rows.parent} holds rows of project '{owner}', not of '{project.project}'. "
            "Give each project a workdir of its own."
        )
    for earlier, sha256 in manifest.inputs.items():
        if earlier in BEFORE and _input(project, earlier)[earlier] != sha256:
            raise UserError(
                f"{rows.parent} was made before the last run of '{earlier}'. Run `lingo-hitl {needs} CONFIG` first."
            )
    return {needs: file_sha256(rows)}


def _run(
    project: Project,
    name: str,
    needs: str,
    work: Callable[[pa.Table], Outcome],
    config: object,
    inputs: dict[str, str] | None = None,
    *,
    always: bool = False,
) -> Manifest:
    manifest = run_stage(
        name,
        lambda: work(read_rows(project.workdir, needs)),
        workdir=project.workdir,
        config={"project": project.project, name: config},
        inputs=inputs or _input(project, needs),
        always=always,
        patience_s=CRON_PATIENCE_S if name in ("push", "sync") else 0,
    )
    on_the_way(project, name).unlink(missing_ok=True)  # its rows are in the stage's folder now
    return manifest


def on_the_way(project: Project, name: str) -> Path:
    """Where a stage writes its rows until it is done."""
    return project.workdir / f".{name}.rows"
