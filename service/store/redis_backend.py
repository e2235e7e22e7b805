"""Every port of a store on Redis, opened together."""

import time
from collections.abc import Callable

from service.breaker import Breaker
from service.store.backend import Backend
from service.store.redis_client import RedisLink
from service.store.redis_features import RedisFeatureStore
from service.store.redis_jobs import RedisJobStore
from service.store.redis_layout import Keys
from service.store.redis_log import RedisEventLog
from service.store.redis_news import News
from service.store.redis_registry import RedisRegistryIndex
from service.store.redis_rollout import RedisRolloutStore

PATIENT_TIMEOUT_S = 5.0
"""Seconds that anything but a ranking waits for one answer: a whole catalogue takes its time."""


def open_redis(url: str, *, clock: Callable[[], float], timeout_s: float, prefix: str = "appshelf") -> Backend:
    """The ports over the Redis at this URL, 7.0 or newer; nothing is connected before a port is used.

    clock: epoch seconds, the same for every process; timeout_s: seconds that a ranking waits for one answer; prefix:
    what every key begins with. For any number of threads. Raises SettingsRefused for a URL that is none.
    """
    quick = RedisLink(url, timeout_s=timeout_s)
    patient = RedisLink(url, timeout_s=max(timeout_s, PATIENT_TIMEOUT_S), breaker=Breaker(time.monotonic))
    keys = Keys(prefix)
    news = News(quick, keys.news, pause=time.sleep, clock=time.monotonic)
    return Backend(
        features=RedisFeatureStore(quick, patient, keys=keys),
        index=RedisRegistryIndex(patient, clock, keys=keys),
        rollouts=RedisRolloutStore(patient, clock, keys=keys, news=news),
        log=RedisEventLog(patient, clock, keys=keys),
        jobs=RedisJobStore(patient, keys=keys),
    )
