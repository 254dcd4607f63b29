"""New users and workspaces, with generated passwords and API keys."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from argilla_server.enums import UserRole
from argilla_server.models import User, Workspace
from sqlalchemy import select

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def workspace_named(session: Session, name: str) -> Workspace:
    """The workspace of this name, made where there is none."""
    workspace = session.scalar(select(Workspace).filter_by(name=name))
    if workspace is None:
        workspace = Workspace(name=name)
        session.add(workspace)
        session.flush()
    return workspace


def new_user(name: str, display: str, role: UserRole, hashed: str, api_key: str) -> User:
    """A user who is in no workspace yet; `hashed` is the password's hash."""
    return User(first_name=display, last_name="", username=name, role=role, password_hash=hashed, api_key=api_key)


def new_password() -> str:
    """96 bits of chance."""
    return secrets.token_urlsafe(12)


def new_key() -> str:
    """256 bits of chance."""
    return secrets.token_urlsafe(32)
