"""Who may sign in to argilla-server 2.8.0, and how often they may try: patches of that exact version.

Beside Argilla's own checks: attempts are limited (attempts.py); a deactivated user is refused whatever they show; and
a session ends when the password is changed, for each token carries a fingerprint of the password it was given for.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from typing import TYPE_CHECKING, Annotated, Any

from argilla_server.api.routes import api_v1
from argilla_server.contexts import accounts
from argilla_server.security import auth
from argilla_server.security.authentication.db import APIKeyAuthenticationBackend, BearerTokenAuthenticationBackend
from argilla_server.security.authentication.jwt import JWT
from argilla_server.security.authentication.provider import AuthenticationProvider
from argilla_server.security.authentication.userinfo import UserInfo
from fastapi import Depends, Form, HTTPException, Request, Security
from fastapi.routing import APIRoute
from starlette.authentication import AuthCredentials

from argilla_setup.attempts import Attempts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

VERSION = "2.8.0"
DEACTIVATED = "$2b$12$lingo.hitl.deactivate.This/account/is/deactivated/000"
"""The password hash of a user who may not sign in: a valid bcrypt hash that no known password has."""

_attempts = Attempts()


class SignInMismatchError(Exception):
    """This Argilla is not the one that the patches were written for."""


def apply(version: str) -> None:
    """Patch the running application; SignInMismatchError where Argilla is another one."""
    if version != VERSION:
        raise SignInMismatchError(f"argilla-server is {version}; the limits on signing in are for {VERSION}")
    AuthenticationProvider.backends = [_ApiKeys(), _Sessions()]
    accounts.generate_user_token = _token
    _guard("/token", "POST", Depends(_limited))
    _guard("/status", "GET", Security(auth.get_current_user))


def is_deactivated(user: Any) -> bool:
    return str(user.password_hash) == DEACTIVATED


def _guard(path: str, method: str, dependency: Any) -> None:
    """Serve `path` only after `dependency`: the same route, made anew."""
    routes = [route for route in api_v1.routes if isinstance(route, APIRoute) and route.path == path]
    if len(routes) != 1 or routes[0].methods != {method}:
        raise SignInMismatchError(f"argilla-server {VERSION} has no {method} {path} as it was released")
    [route] = routes
    api_v1.router.routes.remove(route)
    api_v1.add_api_route(
        path,
        route.endpoint,
        methods=[method],
        status_code=route.status_code,
        response_model=route.response_model,
        tags=route.tags,
        dependencies=[dependency],
    )


async def _limited(request: Request, username: Annotated[str, Form()]) -> AsyncIterator[None]:
    address = _address(request)
    _refuse(_attempts.start(username, address))
    yield
    # Not reached where the password was wrong: Argilla's error comes out of the yield.
    _attempts.succeed(username, address)


class _ApiKeys(APIKeyAuthenticationBackend):
    async def authenticate(self, request: Request) -> Any:
        key = await self.scheme(request)
        if not key:
            return None
        address = _address(request)
        _refuse(_attempts.start_key(key, address))
        user = await accounts.get_user_by_api_key(request.state.db, api_key=key)
        if user is None or is_deactivated(user):
            return None
        _attempts.succeed_key(key, address)
        return AuthCredentials(), UserInfo(_who(user))


class _Sessions(BearerTokenAuthenticationBackend):
    async def authenticate(self, request: Request) -> Any:
        credentials = await self.scheme(request)
        if not credentials:
            return None
        token = JWT.decode(credentials.credentials)
        user = await accounts.get_user_by_username(request.state.db, token.get("username"))
        if user is None or is_deactivated(user):
            return None
        if not hmac.compare_digest(str(token.get("session", "")), _fingerprint(user)):
            return None
        return AuthCredentials(), UserInfo(_who(user))


def _token(user: Any) -> str:
    return JWT.create(UserInfo(**_who(user), session=_fingerprint(user)))


def _who(user: Any) -> dict[str, Any]:
    return {"identity": str(user.id), "name": user.first_name, "username": user.username, "role": user.role}


def _fingerprint(user: Any) -> str:
    return hmac.new(JWT.secret.encode(), str(user.password_hash).encode(), hashlib.sha256).hexdigest()[:32]


def _address(request: Request) -> str:
    return request.client.host if request.client else "local"


def _refuse(wait: float) -> None:
    if not wait:
        return
    minutes = math.ceil(wait / 60)
    raise HTTPException(
        status_code=429,
        detail=f"Too many failed attempts. Try again in {minutes} min."
        f" / 실패한 시도가 너무 많습니다. {minutes}분 뒤에 다시 시도하세요.",
        headers={"Retry-After": str(math.ceil(wait))},
    )
