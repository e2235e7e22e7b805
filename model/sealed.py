"""Sealed folders on disk: written aside, flushed and renamed as one; read back only where every byte is right."""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from msgspec import MsgspecError
from safetensors import SafetensorError

from model.manifest import BundleError, FileEntry, Manifest, check_version
from model.pauses import Pause, unpaused

MANIFEST = "manifest.json"
ADVICE = "restore it from a copy or train again"
CHECKED_BYTES = 1 << 20
Part = TypeVar("Part")


@dataclass(frozen=True)
class SealedFolder:
    """A bundle's folder whose manifest was read and holds."""

    folder: Path
    manifest: Manifest

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read the manifest and nothing else. Raises BundleError."""
        version, place = check_version(folder.name), folder / MANIFEST
        try:
            text = place.read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise BundleError(f"bundle {version} does not exist in {folder.parent}; list those that do") from error
        except (OSError, UnicodeDecodeError) as error:
            raise BundleError(f"{place} cannot be read ({error}); restore it from a copy or train again") from error
        manifest = Manifest.parse(text, origin=str(place))
        if manifest.version != version:
            raise BundleError(f"{place} is of version {manifest.version}; give its folder that name again")
        return cls(folder, manifest)

    def read(self, name: str) -> bytes:
        """One file's bytes. Raises BundleError where it is missing, of another size, or changed."""
        entry, place = self._entry(name), self.folder / name
        try:
            content = place.read_bytes()
        except OSError as error:
            raise BundleError(f"{place} cannot be read ({error.strerror}); {ADVICE}") from error
        _agree(place, entry, size=len(content), sha256=hashlib.sha256(content).hexdigest())
        return content

    def check(self, name: str, *, pause: Pause = unpaused) -> None:
        """Raise what `read` would, and hold no more than CHECKED_BYTES of the file; `pause` is called after each."""
        entry, place = self._entry(name), self.folder / name
        size, digest, held = 0, hashlib.sha256(), memoryview(bytearray(CHECKED_BYTES))
        try:
            with place.open("rb", buffering=0) as file:
                while count := file.readinto(held):
                    size += count
                    digest.update(held[:count])
                    pause()
        except OSError as error:
            raise BundleError(f"{place} cannot be read ({error.strerror}); {ADVICE}") from error
        _agree(place, entry, size=size, sha256=digest.hexdigest())

    def _entry(self, name: str) -> FileEntry:
        entry = self.manifest.files.get(name)
        if entry is None:
            raise BundleError(f"{self.folder / MANIFEST} lists no {name}, which every bundle has; train again")
        return entry

    def part(self, name: str, decode: Callable[[bytes], Part]) -> Part:
        """One file's decoded content. Raises BundleError, also where the bytes are right but do not decode."""
        content = self.read(name)
        try:
            return decode(content)
        except (ValueError, KeyError, TypeError, IndexError, MsgspecError, SafetensorError) as error:
            raise BundleError(f"{self.folder / name} does not decode ({error}); train again") from error


def _agree(place: Path, entry: FileEntry, *, size: int, sha256: str) -> None:
    """Raise BundleError where a file is not what was sealed."""
    if size != entry.size:
        raise BundleError(f"{place} has {size} bytes where {entry.size} were sealed; {ADVICE}")
    if sha256 != entry.sha256:
        raise BundleError(f"{place} has sha256 {sha256[:12]} where {entry.sha256[:12]} was sealed; {ADVICE}")


def write_sealed(manifest: Manifest, bundles: Path, *, files: Iterable[tuple[str, bytes]]) -> Path:
    """Write `bundles/<version>` with these files and the manifest over them; the folder's path.

    Raises BundleError where it stands already or cannot be written (a full disk); then nothing of it is left.
    """
    version = check_version(manifest.version)
    folder, partial = bundles / version, bundles / f".{version}.partial"
    if folder.exists():
        raise BundleError(f"bundle {version} stands in {bundles} already; a bundle is never overwritten")
    try:
        bundles.mkdir(parents=True, exist_ok=True)
        with locked(bundles, fcntl.LOCK_SH):
            _fill(partial, manifest, files)
            os.replace(partial, folder)
            sync(bundles)
    except OSError as error:
        advice = f"({error.strerror}); make room there and save again"
        raise BundleError(f"bundle {version} cannot be saved in {bundles} {advice}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


@contextmanager
def brought_in(bundles: Path, version: str) -> Iterator[Path]:
    """A folder of that name to fill from elsewhere, which replaces `bundles/<version>` once the block ends well.

    The block is to check what it filled in: nothing is flushed, so that a folder may be damaged after a power cut.
    """
    bundles.mkdir(parents=True, exist_ok=True)
    with locked(bundles, fcntl.LOCK_SH):
        aside = Path(tempfile.mkdtemp(prefix=f".{check_version(version)}.", suffix=".partial", dir=bundles))
        try:
            (aside / version).mkdir()
            yield aside / version
            discard(bundles / version)
            os.replace(aside / version, bundles / version)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Wait for the lock of that file, which is made and stays; the kernel frees it on death."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def discard(folder: Path) -> None:
    """Remove a sealed folder: first its name, in one step, then its files; killed between, a sweep removes the rest.

    Nothing where there is none, as when another process was first.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    with suppress(FileNotFoundError), locked(folder.parent, fcntl.LOCK_SH):
        shutil.rmtree(partial, ignore_errors=True)
        os.replace(folder, partial)
        shutil.rmtree(partial, ignore_errors=True)


def sweep(bundles: Path) -> list[str]:
    """Remove what killed processes left half saved, and name it; nothing while any process saves or discards."""
    if not bundles.exists():
        return []
    try:
        with locked(bundles, fcntl.LOCK_EX | fcntl.LOCK_NB):
            partials = sorted(bundles.glob(".*.partial"))
            for partial in partials:
                with suppress(FileNotFoundError):  # a release before this one removes without the lock
                    shutil.rmtree(partial)
            return [partial.name for partial in partials]
    except BlockingIOError:
        return []


def _fill(partial: Path, manifest: Manifest, files: Iterable[tuple[str, bytes]]) -> None:
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    entries = {name: _write(partial / name, content) for name, content in files}
    _write(partial / MANIFEST, manifest.model_copy(update={"files": entries}).sealed().to_json().encode())
    sync(partial)


def _write(place: Path, content: bytes) -> FileEntry:
    with place.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return FileEntry(sha256=hashlib.sha256(content).hexdigest(), size=len(content))


def seal(body: Mapping[str, Any]) -> str:
    """What the JSON values of a header are told from any others by."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def sync(place: Path) -> None:
    """Have the disk hold what was written to a file, or what stands in a folder."""
    descriptor = os.open(place, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(folder: Path, operation: int) -> Iterator[None]:
    """Hold the folder's lock: shared by those who save or discard, alone for the one who sweeps.

    The kernel frees it on death.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, operation)
        yield
    finally:
        os.close(descriptor)
