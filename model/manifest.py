"""A bundle's manifest: what was trained, how, on what, and the seal over every file of the folder."""

import hashlib
import json
import re
from datetime import UTC, datetime
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from model.causes import first_line

FORMAT = 1
VERSION = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6}")
FileName = Annotated[str, Field(pattern=r"^[a-z]+\.[a-z]+$")]


class BundleError(RuntimeError):
    """A bundle cannot be read or written; one sentence that names the file, what was seen and the next step."""


def new_version(now: float, token: str) -> str:
    """The version of a bundle made at `now` (epoch seconds): `20261120T194846Z-1a2b3c`; sorts by time.

    token: six or more hexadecimal digits, to tell apart what is made in one second.
    """
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    return check_version(f"{stamp}-{token[:6]}")


def check_version(text: str) -> str:
    """The text, if it has a version's form; this also keeps `../` out of paths. Raises BundleError."""
    if not VERSION.fullmatch(text):
        raise BundleError(f"{text[:80]!r} is not a version; one looks like 20261120T194846Z-1a2b3c, see `versions`")
    return text


class FileEntry(BaseModel):
    """What one file of a bundle must be, to the byte. size: bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    size: int


class Manifest(BaseModel):
    """What a bundle is. `save` fills in `files` and `seal`; sampling_rate: see Facts; created_at: ISO 8601, UTC."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: int = FORMAT
    version: str
    created_at: str
    architecture: str
    params: dict[str, Any]
    config: dict[str, Any]
    recipe: str
    schema_fingerprint: str
    parent: str | None
    facts: dict[str, Any]
    metrics: dict[str, float]
    sampling_rate: float
    files: dict[FileName, FileEntry] = {}
    seal: str = ""

    def sealed(self) -> Self:
        """The same manifest with the sha256 over all else that it says."""
        return self.model_copy(update={"seal": self._digest()})

    def to_json(self) -> str:
        """The manifest as the text of `manifest.json`."""
        return self.model_dump_json(indent=2) + "\n"

    @classmethod
    def parse(cls, text: str, *, origin: str) -> Self:
        """Undo `to_json`. Raises BundleError for an unknown format, and for any byte changed since it was sealed."""
        try:
            raw = json.loads(text)
            known = raw["format"]
            if known != FORMAT:
                raise BundleError(f"{origin} has format {known!r} where {FORMAT} is known; upgrade appshelf to read it")
            manifest = cls.model_validate_json(text)
        except (ValueError, TypeError, KeyError, ValidationError) as error:
            raise BundleError(
                f"{origin} is not a manifest ({type(error).__name__}: {first_line(error)}); train again"
            ) from error
        if manifest.to_json() != text or manifest.seal != manifest._digest():
            raise BundleError(f"{origin} was changed after it was sealed; restore it from a copy or train again")
        return manifest

    def _digest(self) -> str:
        text = self.model_copy(update={"seal": ""}).model_dump_json()
        return hashlib.sha256(text.encode()).hexdigest()
