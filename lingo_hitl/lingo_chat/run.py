"""Lingo_Chat's whole run: dialogues and their scores, written to the two files of the day as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from lingo_hitl import pipeline
from lingo_hitl.config import Project, only_task
from lingo_hitl.generation.dialogue import cast_personas
from lingo_hitl.judging.families import same_family_warnings
from lingo_hitl.lingo_chat.day_files import DayFile
from lingo_hitl.lingo_chat.lines import dialogue_line, post_processed
from lingo_hitl.lingo_chat.scored import scored_dialogues
from lingo_hitl.lingo_chat.settings import LingoChat, as_project, read_settings
from lingo_hitl.models.flow import run_flow
from lingo_hitl.project_file import expanded
from lingo_hitl.records import DIALOGUE_QUALITY, Row, Task, rows_of
from lingo_hitl.stages import Manifest, Outcome, RowFile, file_sha256, read_rows, run_stage

STAGE = "lingo_chat"
ROWS_A_KEY = 16
"""Dialogues under way for each API key: enough for hundreds of requests a minute, and few enough that a key of
Google's free tier, which stops after so many requests a day, has ended some by then and not merely begun many."""
SCORED = pa.schema(
    [
        ("id", pa.string()),  # of the dialogue
        ("seed", pa.string()),  # id of the corpus row
        ("url", pa.string()),
        ("num_turns", pa.int32()),
        ("score", pa.float64()),  # null: it could not be read
        ("score_feedback", pa.string()),
        *DIALOGUE_QUALITY,
    ]
)
"""What the run's own stage keeps of each dialogue: the texts are in the files of the day."""
_HEADER = """\
# Lingo_Chat's {name} as a project of lingo-hitl; written anew by each of its runs, so copy it to change it.
# lingo-hitl run {path} takes its dialogues on to the labelers: what was asked for is replayed from the journal.
"""


def run(
    content: Mapping[str, Any],
    path: Path,
    *,
    task: Task | None = None,
    workdir: Path | None = None,
    offline: bool = False,
    tell: Callable[[Manifest], None],
    say: Callable[[str], None],
) -> None:
    """Do what Lingo_Chat's YAML at `path` says.

    Each dialogue is in the files as soon as it is scored, those before it are, and nothing about it may come
    out otherwise in another run. Both files are named by the day on which the run began, also past midnight.

    Raises:
        UserError: whatever in the YAML, the keys, the seeds or the models has to be mended first; what is in
            the files by then stays, and the same command goes on.
    """
    began = date.today()
    settings = read_settings(content, path, keys=not offline)
    project = only_task(as_project(settings, path, workdir=workdir), task)
    tell(pipeline.read_corpora(project))
    _write_project(project, path)
    if unused := settings.not_used():
        say(f"Read and not used: {', '.join(unused)}.")
    for warning in same_family_warnings(project.generate, project.judge):
        say(f"Note: {warning}.")
    files = settings.files
    with DayFile(_folder(files.jsonl_save_dir), began) as raw, DayFile(_folder(files.filtered_save_dir), began) as good:
        try:
            manifest = run_stage(
                STAGE,
                lambda: _converse(project, settings, raw, good, offline=offline),
                workdir=project.workdir,
                config={"project": project.project, STAGE: settings.used()},
                inputs={"corpus": file_sha256(project.workdir / "corpus" / "rows.parquet")},
                always=True,
            )
            pipeline.on_the_way(project, STAGE).unlink(missing_ok=True)  # its rows are in the stage's folder now
            tell(manifest)
            if waiting := manifest.report["waiting"]:
                say(f"{waiting} dialogues wait for replies that failed for now, and are not in the files yet")
        finally:
            for line in _told(settings, raw, good):
                say(line)


def _converse(project: Project, settings: LingoChat, raw: DayFile, good: DayFile, *, offline: bool) -> Outcome:
    """All dialogues with their scores: the stage's rows, and the lines of both files."""
    talk = project.generate.dialogue
    assert talk is not None  # as_project made it so
    seeds = read_rows(project.workdir, "corpus")
    rows = cast_personas(rows_of(seeds), talk)
    lost: list[Row] = []
    waiting = 0
    with (
        pipeline.open_session(project, STAGE, offline=offline) as session,
        RowFile(pipeline.on_the_way(project, STAGE), SCORED) as out,
    ):
        flow = scored_dialogues(talk, project.judge)
        window = ROWS_A_KEY * len(settings.key_variables)
        for row in run_flow(flow, rows, session, what="dialogues", total=seeds.num_rows, window=window):
            if row["lost"] is not None:
                lost.append(row["lost"])
                continue
            grown, score = row["dialogue"], row["score"]
            line = dialogue_line(grown, score, row["feedback"], row["url"])
            scored = {**line, **row["quality"], "id": grown["id"], "seed": grown["seed"]}
            out.add({name: scored[name] for name in SCORED.names})
            if row["passing"]:
                # It may come out otherwise the next time: then the files would have it twice.
                waiting += 1
                continue
            raw.add(line)
            if score is not None and score >= settings.scoring.score_threshold:
                good.add(post_processed(line))
        report = {**session.report(), "waiting": waiting}
        return Outcome(out.close(), lost, report, unfinished=session.tally.failed > 0)


def _told(settings: LingoChat, raw: DayFile, good: DayFile) -> Iterator[str]:
    threshold = settings.scoring.score_threshold
    for file, which in ((raw, ""), (good, f" of {threshold:g} and better")):
        before = f"; {file.there} were there before" if file.there else ""
        yield f"{file.path}: {file.added} dialogues{which} added{before}"
    if below := good.count_below(threshold):
        yield f"{good.path}: {below} dialogues there are below {threshold:g}, from a run with a lower threshold"


def _write_project(project: Project, path: Path) -> None:
    """The same run as a project's YAML, in its workdir."""
    place = project.workdir / "project.yaml"
    content = {**project.model_dump(mode="json", exclude_defaults=True), "workdir": "."}
    text = yaml.safe_dump(content, allow_unicode=True, sort_keys=False)
    place.write_text(_HEADER.format(name=path.name, path=place) + text, encoding="utf-8")


def _folder(path: str) -> Path:
    return Path.cwd() / expanded(Path(path))
