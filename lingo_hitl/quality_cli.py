"""`lingo-hitl quality`: parse, call, print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from lingo_hitl.config import QualityConfig
from lingo_hitl.errors import UserError
from lingo_hitl.project_file import checked, expanded, load_project

LIMITS = "Limits, 0 to 1; a dialogue with more is dropped"
Limit = Annotated[float | None, typer.Option(help="The config's where absent.", rich_help_panel=LIMITS)]
NoLimits = Annotated[bool, typer.Option("--no-limits", help="Measure only.", rich_help_panel=LIMITS)]


def quality(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT",
            help="JSONL or Parquet with a column `messages`, or a project's YAML.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="The folder to write; INPUT's name with -quality where absent.")
    ] = None,
    personas: Annotated[str | None, typer.Option(help="A personas.yaml; the project's or the shipped one.")] = None,
    persona: Annotated[str | None, typer.Option(help="Of rows that name none.")] = None,
    language: Annotated[str | None, typer.Option(help="ko or en, of rows that name none; else found out.")] = None,
    catchphrase_overuse: Limit = None,
    shrinking: Limit = None,
    copying: Limit = None,
    speech_level_shift: Limit = None,
    no_limits: NoLimits = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure dialogues, drop those that fail, and compare before and after."""
    from lingo_hitl.curation.quality import DROPPED, KEPT, REPORT, project_dialogues, sift
    from lingo_hitl.curation.quality_report import write_quality_report
    from lingo_hitl.generation.personas import choose, load_personas
    from lingo_hitl.quality_table import print_quality

    limits: dict[str, Any] = QualityConfig().model_dump()
    source, file, folder = expanded(source), personas, Path(f"{source.stem}-quality")
    if source.suffix in (".yaml", ".yml"):
        project = load_project(source)
        limits, folder = project.judge.quality.model_dump(), project.workdir / "quality"
        file = file or (project.generate.dialogue.personas if project.generate.dialogue else None)
        source = project_dialogues(project)
    given = {
        "catchphrase_overuse": catchphrase_overuse,
        "shrinking": shrinking,
        "copying": copying,
        "speech_level_shift": speech_level_shift,
    }
    limits |= {name: limit for name, limit in given.items() if limit is not None}
    if language not in (None, "ko", "en"):
        raise UserError(f"--language: '{language}' is not known; expected ko or en.")
    known = load_personas(file or "sample", **({"key": "--personas"} if personas else {}))
    if persona is not None:
        choose(known, [persona], path=file or "sample", key="--persona")
    folder = expanded(out) if out else folder
    sifted = sift(
        source,
        folder,
        checked(QualityConfig, dict.fromkeys(limits) if no_limits else limits),
        personas=known,
        persona=persona,
        language=language,  # type: ignore[arg-type]
    )
    write_quality_report(folder / REPORT, sifted, title=f"Dialogue quality · {source.name}")
    total, kept = len(sifted.kept) + sifted.unread, int(sifted.kept.sum())
    if as_json:
        beyond = {name: sifted.beyond(name) for name in limits}
        print(json.dumps({"out": str(folder), "dialogues": total, "kept": kept, "beyond": beyond}, ensure_ascii=False))
        return
    print_quality(sifted)
    print(
        f"{kept:,} of {total:,} dialogues are in {folder / KEPT}, the others with their reasons in {folder / DROPPED}"
    )
    if sifted.unread:
        print(f"{sifted.unread:,} of those have no messages of a user and an assistant, and no figures")
    print(f"Pictures: {folder / REPORT}")
