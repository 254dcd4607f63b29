"""`lingo-hitl generate`, `judge` and `binarise`: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lingo_hitl.config import only_task
from lingo_hitl.errors import UserError
from lingo_hitl.project_file import load_project, read_yaml
from lingo_hitl.records import Task
from lingo_hitl.summary import tell
from lingo_hitl.usage_table import print_estimate

Config = Annotated[Path, typer.Argument(help="The project's YAML file.", show_default=False)]
Workdir = Annotated[Path | None, typer.Option(help="Where stages leave their folders; instead of the config's.")]
Offline = Annotated[bool, typer.Option("--offline", help="Use no network: replay what the journal has.")]
Again = Annotated[bool, typer.Option("--again", help="Do it anew; what the journal has is replayed.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Call no model: estimate calls, tokens, cost and time.")]
Sample = Annotated[
    int,
    typer.Option(min=0, help="With --dry-run: ask, and pay, for so many rows first.", show_default=False),
]


def generate(
    config: Annotated[Path | None, typer.Argument(help="The project's YAML file.", show_default=False)] = None,
    yaml: Annotated[Path | None, typer.Option("--config", help="The same; or Lingo_Chat's own YAML.")] = None,
    task: Annotated[Task | None, typer.Option(help="Only this one of the config's tasks.")] = None,
    workdir: Workdir = None,
    offline: Offline = False,
    again: Again = False,
    dry_run: DryRun = False,
    sample: Sample = 0,
) -> None:
    """1. From corpora to rows: persona dialogues, pooled completions, instructions."""
    from lingo_hitl import pipeline
    from lingo_hitl.lingo_chat.settings import is_lingo_chat

    path = _one_config(config, yaml)
    if is_lingo_chat(content := read_yaml(path)):
        if dry_run or sample:
            raise UserError(f"{path}: --dry-run and --sample are for a project's YAML. Leave them out.")
        # It also judges; a project's own start must not wait for what that imports.
        from lingo_hitl.lingo_chat.run import run as run_lingo_chat

        return run_lingo_chat(content, path, task=task, workdir=workdir, offline=offline, tell=tell, say=print)
    project = only_task(load_project(path, workdir=workdir), task)
    if _is_dry(dry_run, sample):
        return print_estimate("generate", pipeline.estimate(project, "generate", sample=sample))
    return tell(pipeline.generate(project, offline=offline, again=again))


def judge(
    config: Config,
    workdir: Workdir = None,
    offline: Offline = False,
    again: Again = False,
    dry_run: DryRun = False,
    sample: Sample = 0,
) -> None:
    """2. Rate every text with the project's judges."""
    from lingo_hitl import pipeline

    project = load_project(config, workdir=workdir)
    if _is_dry(dry_run, sample):
        return print_estimate("judge", pipeline.estimate(project, "judge", sample=sample))
    return tell(pipeline.judge(project, offline=offline, again=again))


def binarise(config: Config, workdir: Workdir = None) -> None:
    """Pairs of chosen and rejected texts by the judges' ratings alone, without people."""
    from lingo_hitl import pipeline

    project = load_project(config, workdir=workdir)
    tell(pipeline.binarise(project))
    print(f"Pairs: {project.workdir / 'binarise' / 'pairs.jsonl'}")


def _one_config(argument: Path | None, option: Path | None) -> Path:
    if argument and option and argument != option:
        raise UserError(f"two configs are given, {argument} and --config {option}. Leave out one of them.")
    if path := argument or option:
        return path
    raise UserError("no config is given. Name a project's YAML, or Lingo_Chat's with --config basic_config.yaml.")


def _is_dry(dry_run: bool, sample: int) -> bool:
    if sample and not dry_run:
        raise UserError("--sample: says how many rows --dry-run asks for first. Give both, or leave it out.")
    return dry_run
