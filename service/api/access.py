"""Who may call what: `Authorization: Bearer KEY`, held against the key of the call's scope."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from service.keys import Keys, Scope


class KeyMissing(PermissionError):
    """A call that needs a key came without one."""

    def __init__(self, scope: Scope) -> None:
        super().__init__(f"this call needs the {scope} key; send it as `Authorization: Bearer KEY`")


class KeyRefused(PermissionError):
    """A call came with a key that does not open it."""

    def __init__(self, scope: Scope) -> None:
        super().__init__(f"the key sent does not open calls of scope {scope}; send the {scope} key")


def key_for(scope: Scope, keys: Keys) -> Callable[..., Awaitable[None]]:
    """A dependency that lets a request through only with the key of this scope, where the scope has one."""
    bearer = HTTPBearer(auto_error=False, scheme_name=f"{scope} key")

    async def check(sent: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> None:
        key = sent.credentials if sent else None
        if not keys.allows(scope, key):
            raise KeyRefused(scope) if key else KeyMissing(scope)

    return check
