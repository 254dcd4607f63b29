"""The option --home of every command that works on a server's home."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from argilla_setup import launcher
from lingo_hitl.project_file import expanded

Home = Annotated[Path | None, typer.Option(help="Argilla's home folder.", envvar="LINGO_HITL_HOME", show_default=False)]


def home_of(home: Path | None) -> Path:
    """The home that is meant, as an absolute path; the default one where none is given."""
    return expanded(home or launcher.default_home()).absolute()
