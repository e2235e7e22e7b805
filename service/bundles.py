"""Where bundles are kept: a folder of this machine, or object storage that many machines share through a local copy."""

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from model.bundle import list_bundles, read_manifest, verify
from model.manifest import VERSION, BundleError, Manifest, check_version
from model.pauses import Pause, unpaused
from model.sealed import MANIFEST, alone, brought_in, discard
from service.errors import BundlesUnavailable
from service.remote import RemoteFolder


class BundleStore(Protocol):
    """Bundles by version. Every method raises BundlesUnavailable where the storage is away and no copy will do."""

    def fetch(self, version: str) -> Path:
        """The folder of the version's bundle on this machine. Raises BundleError where it is not, or not whole.

        Where the storage is this machine's own folder its bytes are not looked at: whoever loads a bundle does.
        """

    def check(self, version: str) -> None:
        """Raise BundleError unless the bundle is there to the last byte."""

    def holds(self, version: str) -> bool:
        """True where the bundle exists, which it does from its manifest on."""

    def names(self) -> list[str]:
        """The versions that anything is stored of, half published and half discarded ones too, oldest first."""

    def manifests(self, *, but: Collection[str] = ()) -> list[Manifest]:
        """The manifests of all bundles except those versions', oldest first."""

    def unpublished(self) -> list[str]:
        """The versions that were sealed on this machine and are still to be published, oldest first."""

    def publish(self, version: str) -> None:
        """Let every machine have a bundle that was sealed here; again where that was done before is nothing."""

    def discard(self, version: str) -> None:
        """Remove the bundle everywhere, its manifest first; nothing where there is none."""


class LocalBundles:
    """A BundleStore in one folder, where bundles are sealed too, so that there is nothing to fetch or publish."""

    def __init__(self, folder: Path, *, pause: Pause = unpaused) -> None:
        """`pause` is called after every few milliseconds of a check."""
        self._folder = folder
        self._pause = pause

    def fetch(self, version: str) -> Path:
        """The folder of that name, whatever is in it."""
        return self._folder / version

    def check(self, version: str) -> None:
        """Raise BundleError unless every byte is as it was sealed."""
        verify(self._folder / version, pause=self._pause)

    def holds(self, version: str) -> bool:
        """True where there is a manifest that holds."""
        try:
            read_manifest(self._folder / version)
        except BundleError:
            return False
        return True

    def names(self) -> list[str]:
        """Every folder that has a version's name."""
        found = self._folder.iterdir() if self._folder.exists() else ()
        return sorted(place.name for place in found if VERSION.fullmatch(place.name))

    def manifests(self, *, but: Collection[str] = ()) -> list[Manifest]:
        """The manifests that hold, oldest first."""
        return [manifest for manifest in list_bundles(self._folder) if manifest.version not in but]

    def unpublished(self) -> list[str]:
        """None, as a sealed bundle is where it is read."""
        return []

    def publish(self, version: str) -> None:
        """Nothing: who reads this folder reads what was sealed in it."""

    def discard(self, version: str) -> None:
        """Remove the folder."""
        discard(self._folder / version)


class SharedBundles:
    """A BundleStore at an fsspec URL, with copies in a folder of this machine, where bundles are sealed too.

    What the URL holds is what exists; a copy stands in for it while it is away. Beside a copy an empty file
    `.<version>.shared` says that it is one: a folder without it was sealed here and is still to be published.
    """

    def __init__(self, url: str, cache: Path, *, pause: Pause = unpaused) -> None:
        """`pause` is called after every few milliseconds of a check. Raises BundlesUrlRefused."""
        self._remote = RemoteFolder(url)
        self._cache = cache
        self._pause = pause

    def fetch(self, version: str) -> Path:
        """The copy's folder, whole; without the network where it is. Of several processes one downloads it."""
        folder = self._cache / check_version(version)
        if self._whole(folder):
            return folder
        try:
            with alone(self._mark(version)):
                if not self._whole(folder):
                    self._bring(version)
                    self._drop_discarded()
        except OSError as error:
            advice = f"({error.strerror or error}); make room there, or give the process its rights"
            raise BundleError(f"bundle {version} cannot be kept in {self._cache} {advice}") from error
        return folder

    def check(self, version: str) -> None:
        """Raise BundleError unless the URL has the manifest and the copy every byte."""
        if not self.holds(version):
            raise self._absent(version)
        self.fetch(version)

    def holds(self, version: str) -> bool:
        """True where the URL has a manifest that holds; where it is away, where the copy has."""
        try:
            return self._manifest(version) is not None
        except BundlesUnavailable:
            if LocalBundles(self._cache).holds(version):
                return True
            raise

    def names(self) -> list[str]:
        """Every version with a file at the URL."""
        return [name for name in self._remote.names() if VERSION.fullmatch(name)]

    def manifests(self, *, but: Collection[str] = ()) -> list[Manifest]:
        """The manifests that hold at the URL, oldest first."""
        found = [self._manifest(version) for version in self.names() if version not in but]
        return [manifest for manifest in found if manifest]

    def unpublished(self) -> list[str]:
        """The folders here that are no copies, also those of a time before there was a URL."""
        here = LocalBundles(self._cache).manifests()
        return [manifest.version for manifest in here if not self._mark(manifest.version).exists()]

    def publish(self, version: str) -> None:
        """Upload every file and the manifest last. Raises BundleError where it is not whole or another one is there."""
        folder, there = self._cache / check_version(version), self._manifest(version)
        if there is None:
            sealed = verify(folder)
            for name in sealed.files:
                self._remote.upload(folder / name, f"{version}/{name}")
            self._remote.write(f"{version}/{MANIFEST}", (folder / MANIFEST).read_bytes())
        elif folder.exists() and there != read_manifest(folder):
            where = self._remote.url
            raise BundleError(f"another bundle {version} stands in {where} already; a bundle is never overwritten")
        if folder.exists():
            self._mark(version).touch()

    def discard(self, version: str) -> None:
        """Remove it at the URL, the manifest first so that it does not exist any more, and the copy."""
        self._remote.remove(f"{check_version(version)}/{MANIFEST}")
        self._remote.remove(version)
        self._drop(version)

    def _manifest(self, version: str) -> Manifest | None:
        """The manifest at the URL, None where there is none that holds, as after an upload that was killed."""
        text = self._remote.read(f"{check_version(version)}/{MANIFEST}")
        with suppress(BundleError, UnicodeDecodeError):
            return Manifest.parse(text.decode(), origin=self._remote.url) if text is not None else None
        return None

    def _bring(self, version: str) -> None:
        """Download it and look at every byte; once more where that is not as sealed, as a line may have garbled it."""
        with suppress(BundleError):
            self._download(version)
            return
        self._download(version)

    def _download(self, version: str) -> None:
        with brought_in(self._cache, version) as folder:
            if not self._remote.download(f"{version}/{MANIFEST}", folder / MANIFEST):
                raise self._absent(version)
            try:
                for name in read_manifest(folder).files:
                    self._remote.download(f"{version}/{name}", folder / name)
                verify(folder, pause=self._pause)
            except BundleError as error:  # told of the place that it came from, and not of the one that it goes to
                raise BundleError(str(error).replace(str(folder.parent), self._remote.url)) from error

    def _drop_discarded(self) -> None:
        """Drop the copies of what some machine discarded; a download is the time for it, as the network is there."""
        with suppress(BundlesUnavailable):
            kept = set(self.names())
            for copy in LocalBundles(self._cache).names():
                if copy not in kept and self._mark(copy).exists():
                    self._drop(copy)

    def _drop(self, version: str) -> None:
        discard(self._cache / version)
        self._mark(version).unlink(missing_ok=True)

    def _whole(self, folder: Path) -> bool:
        try:
            verify(folder, pause=self._pause)
        except BundleError:
            return False
        return True

    def _mark(self, version: str) -> Path:
        return self._cache / f".{version}.shared"

    def _absent(self, version: str) -> BundleError:
        return BundleError(f"bundle {version} does not exist in {self._remote.url}; list those that do")
