"""The users and workspaces that an accounts.yaml asks for.

Their passwords are told to the caller once and kept nowhere but, hashed, in the database.

Nobody is ever deleted: Argilla deletes a user's answers with the user. Who is deactivated keeps name and answers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from argilla_server.contexts.accounts import hash_password
from argilla_server.enums import UserRole
from argilla_server.models import Dataset, Response, User, Workspace, WorkspaceUser
from sqlalchemy import delete, exists, func, select

from argilla_setup.accounts.accounts_file import WantedAccounts, WantedUser
from argilla_setup.accounts.credentials_file import OWNER, WORKSPACE, CredentialsFile
from argilla_setup.accounts.new_users import new_key, new_password, new_user, workspace_named
from argilla_setup.security.sign_in import DEACTIVATED, is_deactivated

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.orm import Session


class AccountsError(Exception):
    """One line for the user."""


@dataclass(frozen=True)
class Change:
    """One thing that was done to a user or workspace. Its repr holds no secret."""

    what: str
    """`workspace created`, `workspace removed`, `created`, `reactivated`, `deactivated`, `role`, `display`, `joined`,
    `left`, `rotated`.
    """
    name: str
    detail: str = ""
    password: str | None = field(default=None, repr=False)
    api_key: str | None = field(default=None, repr=False)


def apply(session: Session, wanted: WantedAccounts, path: Path, *, dry_run: bool = False) -> list[Change]:
    """Make users, roles and workspaces as `wanted`, and deactivate everybody else; the changes, none the second time.

    `owner` stays, listed or not: the toolkit works as `owner`. A workspace that is not listed is removed where it is
    empty; one with datasets stays, and listed users leave it. credentials.json, at `path`, forgets who is deactivated.
    With `dry_run` nothing is changed, and no password is made.
    """
    kept = CredentialsFile.read(path)
    # Hashing takes a fraction of a second each: before the first write, so that no labeler waits for the database.
    fresh = {} if dry_run else {name: _Fresh.make() for name in _without_password(session, wanted)}
    changes: list[Change] = []
    for name in wanted.workspaces:
        if session.scalar(select(Workspace).filter_by(name=name)) is None:
            changes.append(Change("workspace created", name))
            workspace_named(session, name)
    users = {user.username: user for user in session.scalars(select(User))}
    for listed in wanted.users:
        user = users.get(listed.name)
        if user is None:
            changes.append(_create(session, listed, kept, fresh.get(listed.name)))
        else:
            changes += _update(session, user, listed, kept, fresh.get(listed.name))
    listed_names = {user.name for user in wanted.users} | {OWNER}
    for name in sorted(users.keys() - listed_names):
        if not is_deactivated(users[name]):
            changes.append(_deactivate(session, users[name], kept))
    changes += _remove_workspaces(session, {*wanted.workspaces, WORKSPACE})
    if dry_run:
        session.rollback()
    elif changes:
        _commit(session, kept)
    return changes


def rotate(session: Session, name: str, path: Path, *, password: bool, key: bool) -> Change:
    """Give a user a new password, a new API key or both, and end the sessions of the old password."""
    user = session.scalar(select(User).filter_by(username=name))
    if user is None:
        known = ", ".join(sorted(session.scalars(select(User.username))))
        raise AccountsError(f"there is no user {name!r}; users: {known}. Check the name.")
    if is_deactivated(user):
        raise AccountsError(f"{name} is deactivated. List {name} in accounts.yaml and apply it: that makes a password.")
    kept = CredentialsFile.read(path)
    change = Change(
        "rotated",
        name,
        " and ".join([*["password"] * password, *["API key"] * key]),
        password=new_password() if password else None,
        api_key=new_key() if key else None,
    )
    if name in kept.accounts:
        kept.accounts[name].update({k: v for k, v in _secrets(change).items() if v})
    if change.password:
        user.password_hash = hash_password(change.password)
    if change.api_key:
        user.api_key = change.api_key
    _commit(session, kept)
    return change


def listing(session: Session) -> list[dict[str, Any]]:
    """Every user: name, display, role, workspaces, active, and how many answers are theirs; no secret."""
    answers = dict(session.execute(select(Response.user_id, func.count()).group_by(Response.user_id)).tuples().all())
    return [
        {
            "name": user.username,
            "display": user.first_name,
            "role": user.role.value,
            "workspaces": sorted(_memberships(session, user)),
            "active": not is_deactivated(user),
            "answers": answers.get(user.id, 0),
        }
        for user in session.scalars(select(User).order_by(User.username))
    ]


def _commit(session: Session, kept: CredentialsFile) -> None:
    """The database and credentials.json, or neither of them."""
    before = CredentialsFile.read(kept.path)
    # The database has taken all of it, and nobody else may write, before the file is changed.
    session.flush()
    try:
        kept.write()
        session.commit()
    except BaseException:
        session.rollback()
        before.write()
        raise


@dataclass(frozen=True)
class _Fresh:
    """A new password and its hash."""

    password: str = field(repr=False)
    hashed: str = field(repr=False)

    @classmethod
    def make(cls) -> _Fresh:
        password = new_password()
        return cls(password, hash_password(password))


def _without_password(session: Session, wanted: WantedAccounts) -> list[str]:
    active = {user.username for user in session.scalars(select(User)) if not is_deactivated(user)}
    return [user.name for user in wanted.users if user.name not in active]


def _create(session: Session, listed: WantedUser, kept: CredentialsFile, fresh: _Fresh | None) -> Change:
    hashed = fresh.hashed if fresh else DEACTIVATED
    user = new_user(listed.name, listed.display, UserRole(listed.role), hashed, new_key())
    session.add(user)
    session.flush()
    for name in listed.workspaces:
        session.add(WorkspaceUser(workspace_id=workspace_named(session, name).id, user_id=user.id))
    # Of somebody of this name who was deleted through Argilla's API: the next start would set that sign-in again.
    kept.accounts.pop(listed.name, None)
    if listed.name == OWNER:
        # The toolkit works as this one.
        password = fresh.password if fresh else ""
        sign_in = {"password": password, "api_key": user.api_key}
        kept.accounts[OWNER] = {"role": listed.role, **sign_in, "workspaces": list(listed.workspaces)}
    else:
        kept.elsewhere.add(listed.name)
    return Change("created", listed.name, _described(listed), password=fresh.password if fresh else None)


def _update(
    session: Session, user: User, listed: WantedUser, kept: CredentialsFile, fresh: _Fresh | None
) -> list[Change]:
    changes = []
    if is_deactivated(user):
        user.password_hash = fresh.hashed if fresh else DEACTIVATED
        user.api_key = new_key()
        kept.elsewhere.add(listed.name)
        password = fresh.password if fresh else None
        changes.append(Change("reactivated", listed.name, _described(listed), password=password))
    if user.role.value != listed.role:
        changes.append(Change("role", listed.name, f"{user.role.value} -> {listed.role}"))
        user.role = UserRole(listed.role)
    if user.first_name != listed.display or user.last_name:
        changes.append(Change("display", listed.name, f"{user.first_name} -> {listed.display}"))
        user.first_name, user.last_name = listed.display, ""
    now = _memberships(session, user)
    for name in listed.workspaces:
        if name not in now:
            changes.append(Change("joined", listed.name, name))
            session.add(WorkspaceUser(workspace_id=workspace_named(session, name).id, user_id=user.id))
    for name in sorted(now.keys() - set(listed.workspaces)):
        changes.append(Change("left", listed.name, name))
        session.execute(delete(WorkspaceUser).filter_by(user_id=user.id, workspace_id=now[name]))
    if listed.name in kept.accounts:
        kept.accounts[listed.name].update(role=listed.role, workspaces=list(listed.workspaces))
    return changes


def _deactivate(session: Session, user: User, kept: CredentialsFile) -> Change:
    """Neither password, key nor open session works any longer; name and answers stay."""
    answers = session.scalar(select(func.count()).select_from(Response).filter_by(user_id=user.id))
    user.password_hash = DEACTIVATED
    user.api_key = new_key()
    # An owner or admin who comes back by mistake should come back with the least.
    user.role = UserRole.annotator
    session.execute(delete(WorkspaceUser).filter_by(user_id=user.id))
    kept.accounts.pop(user.username, None)
    kept.elsewhere.add(user.username)
    return Change("deactivated", user.username, "1 answer stays" if answers == 1 else f"{answers} answers stay")


def _remove_workspaces(session: Session, listed: set[str]) -> list[Change]:
    """Delete the workspaces that are neither `listed` nor hold a dataset: Argilla deletes datasets with theirs."""
    removed = []
    # Locked, where the database can, so that no dataset comes into one that is about to go.
    for workspace in session.scalars(select(Workspace).order_by(Workspace.name).with_for_update()).all():
        if workspace.name in listed or session.scalar(select(exists().where(Dataset.workspace_id == workspace.id))):
            continue
        session.execute(delete(WorkspaceUser).filter_by(workspace_id=workspace.id))
        session.execute(delete(Workspace).filter_by(id=workspace.id))
        removed.append(Change("workspace removed", workspace.name, "it was empty"))
    return removed


def _memberships(session: Session, user: User) -> dict[str, Any]:
    """The ids of the workspaces of a user, by name."""
    joined = select(Workspace.name, Workspace.id).join(WorkspaceUser).filter(WorkspaceUser.user_id == user.id)
    return dict(session.execute(joined).tuples().all())


def _secrets(change: Change) -> dict[str, str | None]:
    return {"password": change.password, "api_key": change.api_key}


def _described(listed: WantedUser) -> str:
    return f"{listed.role} in {', '.join(listed.workspaces) or 'no workspace'}"
