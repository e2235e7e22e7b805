"""Whether whoever asked has left: where a request says so, and what holds where nobody can tell."""

LEFT = "left"
"""In the state of a request: says whether whoever asked has left. A server without it knows of nobody."""


def stays() -> bool:
    """That nobody has left."""
    return False
