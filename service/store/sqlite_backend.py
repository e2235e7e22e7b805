"""Every port of the embedded store, opened together."""

from collections.abc import Callable

from service.home import Home
from service.store.backend import Backend
from service.store.sqlite import Database
from service.store.sqlite_features import SqliteFeatureStore
from service.store.sqlite_jobs import SqliteJobStore
from service.store.sqlite_log import SqliteEventLog
from service.store.sqlite_log_layout import LOG_LAYOUT
from service.store.sqlite_registry import SqliteRegistryIndex
from service.store.sqlite_rollout import SqliteRolloutStore


def open_sqlite(home: Home, clock: Callable[[], float]) -> Backend:
    """The ports over a home's two files, which are made where they are not there; clock: epoch seconds.

    The log has a file of its own, so that logging never waits for the store's writers nor they for it. Raises
    StoreUnavailable, StoreTooNew.
    """
    store = Database(home.store)
    return Backend(
        features=SqliteFeatureStore(store),
        index=SqliteRegistryIndex(store, clock),
        rollouts=SqliteRolloutStore(store, clock),
        log=SqliteEventLog(Database(home.log, layout=LOG_LAYOUT), clock),
        jobs=SqliteJobStore(store),
    )
