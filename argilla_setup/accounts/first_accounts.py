"""The accounts that every start makes sure of.

credentials.json is written before the users are, and read again at each start: a start that is cut short between the
two finds the same passwords next time, and a database that was lost gets the same accounts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from argilla_server.contexts.accounts import hash_password
from argilla_server.enums import UserRole
from argilla_server.models import User, WorkspaceUser
from sqlalchemy import select

from argilla_setup.accounts.credentials_file import OWNER, WORKSPACE, CredentialsFile
from argilla_setup.accounts.new_users import new_key, new_password, new_user, workspace_named
from argilla_setup.accounts.owner_sign_in import OwnerSignIn
from argilla_setup.security.sign_in import is_deactivated

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from sqlalchemy.orm import Session


def ensure_accounts(
    session: Session, path: Path, *, annotators: Iterable[str], url: str, given: OwnerSignIn | None = None
) -> None:
    """Make `owner`, the `annotators` and the workspace exist, and write their sign-ins to the file `path` (0600).

    Accounts made earlier stay, listed or not, and annotators whose sign-ins are known to be elsewhere are left alone.
    A user who is in the database but whose password is not in `path` (the file was deleted) gets a new password, and
    keeps the API key; a deactivated one stays so. Where file and database have two API keys, the file's is set.
    An empty password in `path` (a restore leaves one) is one that is not known: nobody is ever given it.
    `given` is the owner's sign-in where `path` holds none yet: what was changed later is not changed back.
    `owner` is an owner who may sign in, whatever the database says: the toolkit works as `owner`.
    """
    kept = CredentialsFile.read(path)
    users = {user.username: user for user in session.scalars(select(User))}
    gone = {name for name, user in users.items() if is_deactivated(user) and name != OWNER}
    kept.elsewhere |= gone
    wanted = {OWNER: UserRole.owner, **dict.fromkeys(set(annotators) - kept.elsewhere, UserRole.annotator)}
    for name in list(kept.accounts):
        if name in gone:
            del kept.accounts[name]
        else:
            wanted.setdefault(name, UserRole(kept.accounts[name]["role"]))
    lost = [name for name in wanted if name not in kept.accounts and name in users]
    if OWNER in users and is_deactivated(users[OWNER]) and OWNER not in lost:
        lost.append(OWNER)
    differing: list[str] = []
    missing = [name for name in wanted if name not in users]
    for name, role in wanted.items():
        given_here = given if given and name == OWNER else OwnerSignIn()
        account = kept.accounts.setdefault(
            name,
            {
                "role": role.value,
                "password": "",
                "api_key": given_here.api_key or (users[name].api_key if name in users else new_key()),
                "workspaces": [WORKSPACE],
            },
        )
        if name in users and users[name].api_key != account["api_key"]:
            differing.append(name)
        # Where the database has a password, an empty one here means that it goes on working.
        if name in {*missing, *lost, *differing} and not account.get("password"):
            account["password"] = given_here.password or new_password()
    kept.url = url
    kept.write()
    demoted = OWNER in users and users[OWNER].role != UserRole.owner
    if not missing and not lost and not differing and not demoted:
        return

    workspace = workspace_named(session, WORKSPACE)
    for name in missing:
        account = kept.accounts[name]
        user = new_user(name, name, UserRole(account["role"]), hash_password(account["password"]), account["api_key"])
        session.add(user)
        session.flush()
        session.add(WorkspaceUser(workspace_id=workspace.id, user_id=user.id))
    for name in {*lost, *differing}:
        users[name].password_hash = hash_password(kept.accounts[name]["password"])
        users[name].api_key = kept.accounts[name]["api_key"]
    if demoted:
        users[OWNER].role = UserRole.owner
    session.commit()
