"""Where bundles are kept: a folder of this machine, or object storage that many machines share through a local copy."""

from collections.abc import Collection
from pathlib import Path
from typing import Protocol

from model.bundle import list_bundles, read_manifest, verify
from model.manifest import VERSION, BundleError, Manifest
from model.sealed import discard


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
        """The manifests of all bundles except those versions', oldest first.

        What was sealed on this machine and is still to be published is among them.
        """

    def publish(self, version: str) -> None:
        """Let every machine have a bundle that was sealed here; again where that was done before is nothing."""

    def discard(self, version: str) -> None:
        """Remove the bundle everywhere, its manifest first; nothing where there is none."""


class LocalBundles:
    """A BundleStore in one folder, where bundles are sealed too, so that there is nothing to fetch or publish."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def fetch(self, version: str) -> Path:
        """The folder of that name, whatever is in it."""
        return self._folder / version

    def check(self, version: str) -> None:
        """Raise BundleError unless every byte is as it was sealed."""
        verify(self._folder / version)

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

    def publish(self, version: str) -> None:
        """Nothing: who reads this folder reads what was sealed in it."""

    def discard(self, version: str) -> None:
        """Remove the folder."""
        discard(self._folder / version)
