"""The command line: parse, call, print. Every fault a user can cause is one line and exit code 2."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from argilla_setup import launcher
from argilla_setup.team import team_secrets
from lingo_hitl import __version__, backup_cli, generate_cli, quality_cli
from lingo_hitl.accounts_cli import app as accounts_app
from lingo_hitl.config import Project
from lingo_hitl.curate_cli import app as curate_app
from lingo_hitl.errors import UserError
from lingo_hitl.generate_cli import Config, Workdir
from lingo_hitl.home_option import Home, home_of
from lingo_hitl.journal_cli import app as journal_app
from lingo_hitl.project_file import expanded, load_project
from lingo_hitl.status_table import print_status
from lingo_hitl.summary import tell

app = typer.Typer(
    help="Generated Korean and English text, judged by people in Argilla, released as a dataset.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

INTERRUPTED = 130
"""The exit code after Ctrl-C."""

SERVER = "Argilla on this machine"
STAGE = "Stages, in order"
PROJECT = "A project"

Version = Annotated[str | None, typer.Option(help="Instead of the config's.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command(rich_help_panel=PROJECT)
def init(path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("project.yaml")) -> None:
    """Write a commented project file to start from."""
    from lingo_hitl.sample import write_project

    write_project(path)
    print(f"Wrote {path}. Edit it, then: lingo-hitl up && lingo-hitl run {path}")


@app.command(rich_help_panel=PROJECT)
def run(config: Config, workdir: Workdir = None, home: Home = None) -> None:
    """Generate, judge, map and push; skips what is done already."""
    from lingo_hitl import pipeline

    pipeline.run(load_project(config, workdir=workdir), home_of(home), tell)


@app.command(rich_help_panel=PROJECT)
def demo(
    workdir: Annotated[Path, typer.Option(help="Where the demo's stages go.")] = Path("work/demo"),
    home: Annotated[Path, typer.Option(help="The demo's own Argilla home.")] = Path("work/demo-home"),
    port: Annotated[int | None, typer.Option(help="Argilla's port; 6900 or a free one where absent.")] = None,
    down: Annotated[bool, typer.Option("--down", help="Stop Argilla at the end.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Undo an earlier demo instead: stop and delete it.")] = False,
) -> None:
    """The whole loop on a shipped corpus with a packaged model: no Docker, no key, no model hub."""
    from lingo_hitl import demo as demonstration

    if remove:
        return demonstration.remove(workdir.absolute(), home.absolute())
    demonstration.demo(workdir.absolute(), home.absolute(), port=port, keep=not down)
    return None


@app.command(rich_help_panel=SERVER)
def up(
    home: Home = None,
    port: Annotated[int | None, typer.Option(help="The last one used, else 6900 or a free one.")] = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
) -> None:
    """Start Argilla: builds its environment the first time, then takes seconds."""
    server = launcher.up(home_of(home), host=host, port=port, say=_say)
    known = launcher.credentials(server.home).accounts.values()
    names = [account.username for account in known if account.password]
    print(f"Argilla is at {server.url}")
    if host not in ("127.0.0.1", "localhost", "::1"):
        print(f"It listens on {host}: other machines reach it at this machine's name, in plain HTTP.")
    if names:
        print(f"Sign in as one of {', '.join(names)}; the passwords are in {server.credentials_path}")
    else:
        # After a restore or a move.
        print("Everybody's password is as it was. A new one: lingo-hitl accounts rotate owner --password")


@app.command(rich_help_panel=SERVER)
def down(home: Home = None) -> None:
    """Stop Argilla and all that runs with it."""
    stopped = launcher.down(home_of(home))
    print("Argilla is stopped." if stopped else f"Nothing was running in {home_of(home)}.")


@app.command(rich_help_panel=SERVER)
def status(
    home: Home = None,
    as_json: AsJson = False,
    check: Annotated[
        bool, typer.Option("--check", help="Print only what needs a look, and exit with 1 if anything does. For cron.")
    ] = False,
) -> None:
    """What runs, what it holds, and what somebody should look at."""
    found = launcher.status(home_of(home))
    if check:
        faults = found.problems if found.running else (f"Argilla of {found.home} does not run.", *found.problems)
        for fault in faults:
            print(fault)
        raise typer.Exit(1 if faults else 0)
    print_status(found) if not as_json else print(json.dumps(asdict(found), default=str, indent=2, ensure_ascii=False))


app.command(rich_help_panel=SERVER)(backup_cli.backup)
app.command(rich_help_panel=SERVER)(backup_cli.restore)
app.command("migrate-server", rich_help_panel=SERVER)(backup_cli.migrate_server)


app.add_typer(accounts_app, name="accounts", rich_help_panel=SERVER)


@app.command(rich_help_panel=SERVER)
def secrets(folder: Annotated[Path, typer.Argument(help="A folder of their own.", show_default=False)]) -> None:
    """Make the secrets of a team's server, one file each; see docs/deploy.md."""
    made = team_secrets.make(expanded(folder).absolute())
    print(f"Made {len(made)} secrets in {folder}." if made else f"Nothing to do: {folder} has every secret.")


app.command(rich_help_panel=STAGE)(generate_cli.generate)
app.command(rich_help_panel=STAGE)(generate_cli.judge)
app.command(rich_help_panel=PROJECT)(generate_cli.binarise)
app.command(rich_help_panel=PROJECT)(quality_cli.quality)


@app.command("map", rich_help_panel=STAGE)
def map_(config: Config, workdir: Workdir = None) -> None:
    """3. Vectors, perplexity, clusters with names, and a picture of them."""
    from lingo_hitl import pipeline

    project = load_project(config, workdir=workdir)
    tell(pipeline.map_rows(project))
    print(f"Picture: {project.workdir / 'map' / 'atlas.html'}")


@app.command(rich_help_panel=STAGE)
def push(config: Config, workdir: Workdir = None, home: Home = None) -> None:
    """4. Send to Argilla what changed."""
    from lingo_hitl import pipeline

    tell(pipeline.push(load_project(config, workdir=workdir), home_of(home)))


@app.command(rich_help_panel=STAGE)
def sync(config: Config, workdir: Workdir = None, home: Home = None, as_json: AsJson = False) -> None:
    """5. Bring labelers' answers home."""
    from lingo_hitl import pipeline

    tell(pipeline.sync(load_project(config, workdir=workdir), home_of(home)), as_json=as_json)


app.add_typer(curate_app, name="curate", rich_help_panel=STAGE)
app.add_typer(journal_app, name="journal", rich_help_panel=PROJECT)


@app.command(rich_help_panel=STAGE)
def release(
    config: Config,
    workdir: Workdir = None,
    version: Version = None,
    as_json: AsJson = False,
) -> None:
    """7. Write the dataset: pairs, SFT rows, card, manifest."""
    from lingo_hitl import pipeline

    report = pipeline.release(_with_version(load_project(config, workdir=workdir), version))
    print(json.dumps(asdict(report), default=str, ensure_ascii=False) if as_json else report)


@app.command(rich_help_panel=STAGE)
def verify(
    path: Annotated[Path, typer.Argument(help="A released dataset's folder, or a ledger.sqlite.", show_default=False)],
) -> None:
    """Check a release against its manifest, or a ledger against its chain of hashes: to the byte."""
    from lingo_hitl.ledger import Ledger
    from lingo_hitl.release.manifest import verify as problems_of

    if path.is_file():
        with Ledger(path) as ledger:
            if event := ledger.verify():
                raise UserError(f"{path}: event {event} is not as it was written. Restore the ledger from a backup.")
            print(f"{path} is as it was written: {ledger.position()} events, {len(ledger.answers())} answers stand.")
        return
    if not path.is_dir():
        raise UserError(f"{path} is not there. Give the folder of a release, or a project's ledger.sqlite.")
    if problems := problems_of(path):
        more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise UserError(f"{path} is not as it was released: {problems[0]}{more}. Get the original again.")
    print(f"{path} is as it was released.")


@app.callback(invoke_without_command=True)
def _root(
    show_version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if show_version:
        print(f"lingo-hitl {__version__}")
        raise typer.Exit


def _with_version(project: Project, version: str | None) -> Project:
    if version is None:
        return project
    from lingo_hitl.config import checked_version

    return project.model_copy(
        update={"release": project.release.model_copy(update={"version": checked_version(version)})}
    )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def guarded() -> Iterator[None]:
    """Turns what a user can cause into one line on standard error and exit code 2."""
    try:
        yield
    except (UserError, launcher.LauncherError) as error:
        _fail(str(error))
    except OSError as error:
        place = error.filename or "a file"
        _fail(f"{place}: {error.strerror or error}. Correct that, or choose another folder; then run it again.")
    except Exception:
        # distilabel installs a hook that would print every local variable, API keys and texts among them.
        print(traceback.format_exc(), file=sys.stderr, end="")
        print("lingo-hitl: a fault of lingo-hitl's own; nothing that was paid for is lost.", file=sys.stderr)
        sys.exit(1)
    except SystemExit as exit_:
        if exit_.code == INTERRUPTED:
            _say("Stopped. The same command goes on from here.")
        raise


def main() -> None:
    """Entry point of `lingo-hitl`."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with guarded():
        app()


def _fail(line: str) -> None:
    print(f"lingo-hitl: {line}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
