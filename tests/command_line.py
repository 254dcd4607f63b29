"""The command line in this process: what `lingo-hitl` does, without a second interpreter that imports it all again."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

from lingo_hitl.cli import main


def lingo_here(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the entry point of `lingo-hitl` in a folder, with nothing in the environment but what is given."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    bare = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "LINGO_HITL_HOME": str(folder / "home"), "LANG": "C.UTF-8"}
    with (
        chdir(folder),
        patch.dict(os.environ, {**bare, **environment}, clear=True),
        patch.object(sys, "argv", ["lingo-hitl", *arguments]),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as exit_:
            code = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())
