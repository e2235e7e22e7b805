"""Which release of this software runs."""

from importlib.metadata import PackageNotFoundError, version


def software_version() -> str:
    """The installed release of this software."""
    try:
        return version("appshelf")
    except PackageNotFoundError:
        return "not installed"
