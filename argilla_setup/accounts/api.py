"""What an owner may ask of the server about accounts, under /api/v1/lingo/accounts: apply a file, rotate, list.

The launcher's side of it is client.py.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from argilla_server.api.routes import api_v1
from argilla_server.database import SyncSessionLocal
from argilla_server.models import User
from argilla_server.security import auth
from fastapi import APIRouter, Depends, HTTPException, Security
from pydantic import BaseModel
from sqlalchemy.orm import Session

from argilla_setup.accounts import accounts
from argilla_setup.accounts.accounts_file import AccountsFileError, parse

PREFIX = "/lingo/accounts"

_one_at_a_time = threading.Lock()


class FileToApply(BaseModel):
    text: str
    place: str = "accounts.yaml"
    dry_run: bool = False


class ToRotate(BaseModel):
    name: str
    password: bool = True
    key: bool = True


async def _owner(user: Annotated[User, Security(auth.get_current_user)]) -> User:
    if not user.is_owner:
        raise HTTPException(403, f"{user.username} has the role {user.role.value}; accounts are an owner's business")
    return user


def mount(credentials: Path) -> None:
    """Add the three routes to Argilla's API; `credentials` is the home's credentials.json."""
    router = APIRouter(prefix=PREFIX, dependencies=[Depends(_owner)], include_in_schema=False)

    # Plain functions: FastAPI runs them on threads, so that hashing passwords holds up nobody's requests.
    @router.get("")
    def listing() -> list[dict[str, Any]]:
        with _session() as session:
            return accounts.listing(session)

    @router.post("/apply")
    def apply(file: FileToApply) -> list[dict[str, Any]]:
        with _session() as session:
            changes = accounts.apply(session, parse(file.text, file.place), credentials, dry_run=file.dry_run)
            return [asdict(change) for change in changes]

    @router.post("/rotate")
    def rotate(what: ToRotate) -> dict[str, Any]:
        with _session() as session:
            return asdict(accounts.rotate(session, what.name, credentials, password=what.password, key=what.key))

    api_v1.include_router(router)


@contextmanager
def _session() -> Iterator[Session]:
    with _one_at_a_time:
        session = SyncSessionLocal.session_factory()
        try:
            yield session
        except (accounts.AccountsError, AccountsFileError) as error:
            raise HTTPException(422, str(error)) from None
        finally:
            session.close()
