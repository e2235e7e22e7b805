"""Keys by scope: who may call what, and the admin key that is made at the first start."""

import hashlib
import hmac
import ipaddress
import os
import secrets
import tempfile
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path

from service.errors import BindRefused, HomeUnusable, SettingsRefused
from service.home import Home
from service.settings import Settings


class Scope(StrEnum):
    """What a key opens."""

    RANK = "rank"
    EVENTS = "events"
    ADMIN = "admin"


class Keys:
    """The sha256 of each scope's key; the keys themselves are not kept in memory."""

    def __init__(self, hashes: Mapping[Scope, bytes]) -> None:
        self._hashes = dict(hashes)

    @classmethod
    def load(cls, settings: Settings, home: Home, *, announce: Callable[[str], None]) -> "Keys":
        """The keys of the settings; `announce` is given the admin key once, when it is made here.

        Raises SettingsRefused where the home's admin key file is empty, HomeUnusable where it cannot be read or made.
        """
        given = {Scope.RANK: settings.rank_key, Scope.EVENTS: settings.events_key}
        hashes = {scope: _hash(key.get_secret_value()) for scope, key in given.items() if key}
        admin = settings.admin_key
        secret = admin.get_secret_value() if admin else _admin_key(home.admin_key_file, announce=announce)
        return cls({**hashes, Scope.ADMIN: _hash(secret)})

    def allows(self, scope: Scope, bearer: str | None) -> bool:
        """True where `bearer` is the scope's key or the scope is open; admin never is, the others are without a key."""
        expected = self._hashes.get(scope)
        if expected is None:
            return scope is not Scope.ADMIN
        return bearer is not None and hmac.compare_digest(expected, _hash(bearer))


def check_bind(settings: Settings) -> None:
    """Raise BindRefused where others than this machine could make calls that need no key, unless that is allowed."""
    keys = {Scope.RANK: settings.rank_key, Scope.EVENTS: settings.events_key}
    unkeyed = [scope for scope, key in keys.items() if key is None]
    if unkeyed and not settings.allow_public and not _is_loopback(settings.host):
        raise BindRefused(settings.host, unkeyed)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _admin_key(file: Path, *, announce: Callable[[str], None]) -> str:
    """The key in `file`, made if there is none; processes that start together end up with the same one."""
    try:
        if not file.exists():
            _make_admin_key(file, announce=announce)
        key = file.read_text(encoding="utf-8", errors="surrogateescape").strip()
    except OSError as error:
        raise HomeUnusable(file.parent, f"{file.name}: {error.strerror}") from error
    if not key:
        raise SettingsRefused(f"the admin key file {file} is empty; delete it to have a new key made at the next start")
    return key


def _make_admin_key(file: Path, *, announce: Callable[[str], None]) -> None:
    key = secrets.token_urlsafe(32)
    descriptor, aside = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)  # of mode 600
    with open(descriptor, "w", encoding="ascii") as target:
        target.write(key + "\n")
    try:
        os.link(aside, file)
        announce(key)
    except FileExistsError:
        pass  # another process was first, and its key counts
    finally:
        os.unlink(aside)
