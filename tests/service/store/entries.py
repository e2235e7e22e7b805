"""Versions to put into a registry."""

from service.states import State
from service.store.ports import Note, VersionEntry

NOTE = Note("ana", "a test")
OLD, NEW = "20261101T000000Z-00000a", "20261102T000000Z-00000b"


def entry(version: str, state: State = State.CHALLENGER) -> VersionEntry:
    return VersionEntry(
        version=version,
        state=state,
        created_at="2026-11-01T00:00:00Z",
        architecture="wide_deep",
        recipe="paper",
        parent=None,
        metrics={"auc": 0.75},
    )
