"""The backends that every contract test runs on: add one here and the whole suite judges it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from service.store.ports import FeatureStore, RegistryIndex, RolloutStore
from service.store.sqlite import Database
from service.store.sqlite_features import SqliteFeatureStore
from service.store.sqlite_registry import SqliteRegistryIndex
from service.store.sqlite_rollout import SqliteRolloutStore

Clock = Callable[[], float]


@dataclass(frozen=True)
class Backend:
    features: FeatureStore
    index: RegistryIndex
    rollouts: RolloutStore


@contextmanager
def sqlite(folder: Path, clock: Clock) -> Iterator[Backend]:
    database = Database(folder / "store.sqlite")
    yield Backend(
        SqliteFeatureStore(database), SqliteRegistryIndex(database, clock), SqliteRolloutStore(database, clock)
    )
    database.close()


BACKENDS = {"sqlite": sqlite}
