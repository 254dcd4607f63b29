"""Who may sign in to argilla-server 2.8.0, and how often they may try: patches of that exact version.

Beside Argilla's own checks: attempts are limited (attempts.py); a deactivated user is refused whatever they show; and
a session ends when the password is changed, for each token carries a fingerprint of the password it was given for.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
from typing import Annotated, Any

from argilla_server.api.routes import api_v1
from argilla_server.api.schemas.v1.oauth2 import Token
from argilla_server.contexts import accounts
from argilla_server.database import get_async_db
from argilla_server.errors import UnauthorizedError
from argilla_server.security import auth
from argilla_server.security.authentication.db import APIKeyAuthenticationBackend, BearerTokenAuthenticationBackend
from argilla_server.security.authentication.jwt import JWT
from argilla_server.security.authentication.provider import AuthenticationProvider
from argilla_server.security.authentication.userinfo import UserInfo
from fastapi import Depends, Form, HTTPException, Request, Response, Security
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.authentication import AuthCredentials
from starlette.routing import Route

from argilla_setup.security.attempts import Attempts

VERSION = "2.8.0"
DEACTIVATED = "$2b$12$lingo.hitl.deactivate.This/account/is/deactivated/000"
"""The password hash of a user who may not sign in: a valid bcrypt hash that no known password has."""
KNOWN_BROWSER = "lingo-hitl-browser"
"""The cookie by which a browser proves who has signed in there before. It lets nobody in: it counts guesses apart."""
KNOWN_FOR_S = 365 * 24 * 60 * 60

_attempts = Attempts()


class SignInMismatchError(Exception):
    """This Argilla is not the one that the patches were written for."""


def apply(version: str) -> None:
    """Patch the running application; SignInMismatchError where Argilla is another one."""
    if version != VERSION:
        raise SignInMismatchError(f"argilla-server is {version}; the limits on signing in are for {VERSION}")
    AuthenticationProvider.backends = [_ApiKeys(), _Sessions()]
    accounts.generate_user_token = _token
    token, status = _remove("/token", "POST"), _remove("/status", "GET")
    api_v1.add_api_route(
        "/token", _create_token, methods=["POST"], status_code=token.status_code, response_model=token.response_model
    )
    api_v1.add_api_route(
        "/status", status.endpoint, response_model=status.response_model, dependencies=[Security(auth.get_current_user)]
    )
    # Their pages come from elsewhere, which the policy forbids; what they show is for those who have signed in.
    for path in ("/docs", "/redoc", "/docs/oauth2-redirect", "/openapi.json"):
        _remove(path, "GET")
    api_v1.add_api_route(
        "/openapi.json", api_v1.openapi, include_in_schema=False, dependencies=[Security(auth.get_current_user)]
    )


def is_deactivated(user: Any) -> bool:
    """Whether nothing that this user shows lets them in."""
    return str(user.password_hash) == DEACTIVATED


def _remove(path: str, method: str) -> Any:
    routes = [route for route in api_v1.router.routes if isinstance(route, Route) and route.path == path]
    if len(routes) != 1 or (routes[0].methods or set()) - {"HEAD"} != {method}:
        raise SignInMismatchError(f"argilla-server {VERSION} has no {method} {path} as it was released")
    api_v1.router.routes.remove(routes[0])
    return routes[0]


async def _create_token(
    request: Request,
    response: Response,
    db: Annotated[AsyncSession, Depends(get_async_db)],
    username: Annotated[str, Form()],
    password: Annotated[str, Form()],
) -> Token:
    """Argilla's own, limited; the password is checked on a thread, for it takes a quarter of a second."""
    address, browser = _address(request), _known_browser(request, username)
    _refuse(_attempts.start(username, address, browser=browser))
    # No name has a NUL, and PostgreSQL would not even look for one.
    user = None if "\0" in username else await accounts.get_user_by_username(db, username)
    # A name that does not exist takes as long as a wrong password.
    hashed = str(user.password_hash) if user else DEACTIVATED
    right = await run_in_threadpool(accounts.verify_password, password, hashed)
    if user is None or not password or not right or is_deactivated(user):
        raise UnauthorizedError
    _attempts.succeed(username, address, browser=browser)
    response.set_cookie(
        KNOWN_BROWSER,
        _proof(username, browser or secrets.token_urlsafe(16)),
        max_age=KNOWN_FOR_S,
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return Token(access_token=_token(user))


def _known_browser(request: Request, username: str) -> str | None:
    """The number of a browser in which `username` has signed in before; None for any other."""
    cookie = request.cookies.get(KNOWN_BROWSER, "")
    number, _, _proved = cookie.partition(".")
    return number if hmac.compare_digest(cookie.encode(), _proof(username, number).encode()) else None


def _proof(username: str, number: str) -> str:
    # Neither a number nor a signature has a dot in it.
    signed = hmac.new(JWT.secret.encode(), f"browser\0{number}\0{username}".encode(), hashlib.sha256)
    return f"{number}.{signed.hexdigest()}"


class _ApiKeys(APIKeyAuthenticationBackend):
    async def authenticate(self, request: Request) -> Any:
        key = await self.scheme(request)
        if not key:
            return None
        address = _address(request)
        _refuse(_attempts.wait_for_key(key, address))
        user = await accounts.get_user_by_api_key(request.state.db, api_key=key)
        if user is None or is_deactivated(user):
            _attempts.fail_key(key, address)
            return None
        _attempts.succeed_key(key)
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
