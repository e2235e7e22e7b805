"""The settings that lie in a home, in `settings.json`: `appshelf bench` writes them, and the environment wins."""

import json
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from service.errors import HomeUnusable, SettingsRefused

NAME = "settings.json"
PRIVATE = 0o600


def read_settings(home: Path) -> dict[str, Any]:
    """What the home's file sets, by field name; nothing where there is no file. Raises SettingsRefused."""
    file = home / NAME
    try:
        found = json.loads(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise SettingsRefused(
            f"{file} cannot be read: {error.strerror}; let this user read it, or delete it"
        ) from error
    except ValueError as error:
        raise SettingsRefused(f"{file} is no JSON: {error}; mend it, or delete it") from error
    if not isinstance(found, dict):
        raise SettingsRefused(f"{file} is no JSON object of settings; mend it, or delete it")
    return found


def write_settings(home: Path, values: Mapping[str, Any]) -> Path:
    """Set these in the home's file, whole or not at all, and leave what else it sets; the file that was written.

    Who may read it stays as it was; a new one is this user's alone, since keys may be put there.

    Raises SettingsRefused where the file that is there cannot be read, HomeUnusable.
    """
    file, partial = home / NAME, home / f"{NAME}.{os.getpid()}.partial"
    text = json.dumps(read_settings(home) | dict(values), indent=2) + "\n"
    try:
        home.mkdir(parents=True, exist_ok=True)
        partial.touch(PRIVATE)
        partial.write_text(text, encoding="utf-8")
        partial.chmod(stat.S_IMODE(file.stat().st_mode) if file.exists() else PRIVATE)
        partial.replace(file)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise HomeUnusable(home, f"{NAME}: {error.strerror}") from error
    return file
