"""Every port of one store, opened together."""

from dataclasses import dataclass

from service.store.job_ports import JobStore
from service.store.log_ports import EventLog
from service.store.ports import FeatureStore, RegistryIndex, RolloutStore


@dataclass(frozen=True)
class Backend:
    """The five ports over one place of storage."""

    features: FeatureStore
    index: RegistryIndex
    rollouts: RolloutStore
    log: EventLog
    jobs: JobStore
