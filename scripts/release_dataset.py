#!/usr/bin/env python
"""For cron and CI: sync, curate and release in one go; stops at the first fault with exit code 2.

python scripts/release_dataset.py project.yaml --version 1.2.0
"""

import sys

from lingo_hitl.cli import app, guarded


def release_dataset(config: str, *options: str) -> None:
    """Run the last three stages of the project in `config`; `options` go to `release`."""
    for command in (["sync", config], ["curate", config], ["release", config, *options]):
        app(command, standalone_mode=False)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: release_dataset.py CONFIG [--version 1.2.0]")
    with guarded():
        release_dataset(*sys.argv[1:])
