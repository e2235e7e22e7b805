"""A request's headers as the server gives them, without a dictionary made of them for each look."""

from starlette.types import Scope


def header(scope: Scope, name: bytes) -> bytes:
    """The first header of this name, which is in lower case; empty where none was sent."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return b""
