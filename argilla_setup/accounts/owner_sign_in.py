"""The first sign-in of `owner` where whoever deploys a server gives it, instead of having one generated."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from argilla_setup.secret_files import OWNER_API_KEY, OWNER_PASSWORD, SecretError

if TYPE_CHECKING:
    from collections.abc import MutableMapping

SHORTEST_PASSWORD = 12
SHORTEST_KEY = 32


@dataclass(frozen=True)
class OwnerSignIn:
    """What is None is generated. Its repr holds no secret."""

    password: str | None = field(default=None, repr=False)
    api_key: str | None = field(default=None, repr=False)

    @classmethod
    def take(cls, environment: MutableMapping[str, str]) -> OwnerSignIn:
        """Take it out of the environment, where no other program should find it; SecretError where it is short."""
        given = cls(environment.pop(OWNER_PASSWORD, None), environment.pop(OWNER_API_KEY, None))
        for name, secret, shortest in (
            (OWNER_PASSWORD, given.password, SHORTEST_PASSWORD),
            (OWNER_API_KEY, given.api_key, SHORTEST_KEY),
        ):
            if secret is not None and len(secret) < shortest:
                raise SecretError(
                    f"{name} has {len(secret)} characters; expected at least {shortest}."
                    " Give a longer one, or none: then one is generated."
                )
        return given
