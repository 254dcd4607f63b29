#!/usr/bin/env python
"""For cron and CI: sync, curate and release in one go; stops at the first fault with exit code 2.

python scripts/release_dataset.py project.yaml --version 1.2.0
"""

import typer

from lingo_hitl import cli


def release_dataset(
    config: cli.Config, version: cli.Version = None, workdir: cli.Workdir = None, home: cli.Home = None
) -> None:
    """Bring answers home, curate, and release."""
    cli.sync(config, workdir=workdir, home=home)
    cli.curate(config, workdir=workdir)
    cli.release(config, workdir=workdir, version=version)


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(release_dataset)
    with cli.guarded():
        app()
