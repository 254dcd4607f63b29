"""The owner and the annotators of a new server, with generated passwords and API keys.

credentials.json is written before the users are, and read again at each start: a start that is cut short between the
two finds the same passwords next time, and a database that was lost gets the same accounts.
"""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any

from argilla_server.contexts.accounts import hash_password
from argilla_server.enums import UserRole
from argilla_server.models import User, Workspace, WorkspaceUser
from sqlalchemy import select

from argilla_setup.home import read_json, write_private

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from sqlalchemy.orm import Session

OWNER = "owner"
WORKSPACE = "lingo"


def ensure_accounts(session: Session, path: Path, *, annotators: Iterable[str], url: str) -> None:
    """Make `owner`, the `annotators` and the workspace exist, and write their sign-ins to `path` (0600).

    Accounts made earlier stay, listed or not. A user who is in the database but whose password is not in `path` (the
    file was deleted) gets a new password, and keeps the API key.
    """
    known: dict[str, Any] = read_json(path).get("accounts", {})
    users = {user.username: user for user in session.scalars(select(User))}
    wanted = {OWNER: UserRole.owner, **dict.fromkeys(annotators, UserRole.annotator)}
    for name, account in known.items():
        wanted.setdefault(name, UserRole(account["role"]))
    lost = [name for name in wanted if name not in known and name in users]
    for name, role in wanted.items():
        if name not in known:
            known[name] = {
                "role": role.value,
                "password": secrets.token_urlsafe(12),
                "api_key": users[name].api_key if name in users else secrets.token_urlsafe(32),
                "workspaces": [WORKSPACE],
            }
    write_private(path, json.dumps({"url": url, "accounts": known}, indent=2) + "\n")
    missing = [name for name in wanted if name not in users]
    if not missing and not lost:
        return

    workspace = session.scalar(select(Workspace).filter_by(name=WORKSPACE))
    if workspace is None:
        workspace = Workspace(name=WORKSPACE)
        session.add(workspace)
        session.flush()
    for name in missing:
        account = known[name]
        user = User(
            first_name=name,
            last_name="",
            username=name,
            role=UserRole(account["role"]),
            password_hash=hash_password(account["password"]),
            api_key=account["api_key"],
        )
        session.add(user)
        session.flush()
        session.add(WorkspaceUser(workspace_id=workspace.id, user_id=user.id))
    for name in lost:
        users[name].password_hash = hash_password(known[name]["password"])
    session.commit()
