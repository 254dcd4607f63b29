"""credentials.json: the sign-ins that this installation keeps, for the toolkit and for whoever starts the server.

    {"url": "http://127.0.0.1:6900", "accounts": {"owner": {"role", "password", "api_key", "workspaces"}},
     "elsewhere": ["minji"]}

`elsewhere` are users whose sign-ins were shown once and are not kept: those of an accounts.yaml.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from argilla_setup.home import read_json, write_private

OWNER = "owner"
"""The user as whom the toolkit works."""
WORKSPACE = "lingo"
"""The workspace that a start makes."""
MADE_BY_UP = ("annotator1", "annotator2")
"""The annotators that a start makes where nothing is said about them."""


@dataclass
class CredentialsFile:
    """What the file holds; `write` replaces it in one step (0600)."""

    path: Path
    url: str = ""
    accounts: dict[str, dict[str, Any]] = field(default_factory=dict)
    elsewhere: set[str] = field(default_factory=set)

    @classmethod
    def read(cls, path: Path) -> CredentialsFile:
        """The file; empty where it is absent or damaged."""
        data = read_json(path)
        accounts, elsewhere = data.get("accounts"), data.get("elsewhere")
        return cls(
            path=path,
            url=str(data.get("url", "")),
            accounts=accounts if isinstance(accounts, dict) else {},
            elsewhere=set(elsewhere) if isinstance(elsewhere, list) else set(),
        )

    def write(self) -> None:
        data = {"url": self.url, "accounts": self.accounts}
        if self.elsewhere:
            data["elsewhere"] = sorted(self.elsewhere)
        write_private(self.path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")

    def names(self) -> set[str]:
        """All users that need not be made: those whose sign-ins are here, and those known to be elsewhere."""
        return set(self.accounts) | self.elsewhere
