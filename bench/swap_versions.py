"""A second version of the reference work to swap with: the same network under another name."""

import shutil
import time
from dataclasses import replace
from pathlib import Path

from bench.reference import Reference
from model.bundle import load, new_version, save
from model.report import Check, GateReport
from service.container import build
from service.settings import Settings
from service.store.ports import Note

NOTE = Note("bench", "the reference work's network under another name, to swap with", force=True)
TOKEN = "5a5a5a"


def another(reference: Reference) -> None:
    """Make one version that can be gone back to, where there is none yet; the one that was live is live again."""
    container = build(Settings.from_env({"APPSHELF_HOME": str(reference.root)}))
    registry, live = container.registry, container.registry.live()
    if any(entry.version.endswith(TOKEN) for entry in registry.versions()):
        return
    bundle = load(registry.folder(reference.version))
    version = new_version(time.time(), TOKEN)
    save(replace(bundle, manifest=bundle.manifest.model_copy(update={"version": version})), container.home.bundles)
    registry.register(load(container.home.bundles / version).manifest, note=NOTE)
    registry.record(_report(version, registry.verdict(reference.version)), note=NOTE)
    container.coordinator.promote(version, note=NOTE)
    if live is not None:
        container.coordinator.promote(live, note=NOTE)


def _report(version: str, of_the_first: GateReport | None) -> GateReport:
    """What the gate said of the same network, so that both serve in the same precision."""
    checks = of_the_first.checks if of_the_first else ()
    return GateReport(version, "popularity", "", checks or (Check.skipped("quality", "the same network"),))


def drop_table(home: Path, *, but: str) -> None:
    """Remove the app tables of every version but one, so that the next to serve is built as a new one is."""
    for folder in (home / "tables").glob("*"):
        if folder.is_dir() and not folder.name.startswith(but):
            shutil.rmtree(folder, ignore_errors=True)
