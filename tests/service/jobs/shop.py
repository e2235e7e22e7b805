"""The store front after some days of use: what was shown and installed, put straight into its log."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from service.container import Container
from service.settings import DAY_S, Settings
from service.store.job_ports import Job, JobState
from service.store.log_ports import Feedback, Impression, Shown
from tests.service.store_front import ADMIN_KEY, APPS, DAYTIMES, LIVE, USERS

SHOWN = 6


@dataclass(frozen=True)
class Use:
    """days: how long ago the first was shown, the last being out of its window; requests: of that time.

    sells: whether an app sells, asked with its number, whether it was evening, and how far the time has gone, from 0 to
    1; chance: of an install where it sells, and where not.
    """

    days: float = 5.0
    requests: int = 800
    sells: Callable[[int, bool, float], bool] = lambda app, evening, _: app % 2 == evening
    seed: int = 0
    chance: tuple[float, float] = (0.26, 0.02)


def inverted_at_first(app: int, evening: bool, gone: float) -> bool:
    """The opposite of what the store front's data says, until the part that the gate judges on."""
    return (app % 2 == evening) == (gone > 0.86)


def quick(home: object, **given: object) -> Settings:
    """Settings under which a worker's lease is over soon."""
    base = {"home": home, "poll_s": 0.02, "lease_timeout_s": 5.0, "admin_key": ADMIN_KEY}
    return Settings.model_validate({**base, "job_lease_s": 2.0, **given})


def use(container: Container, how: Use) -> None:
    """Show apps to users, and have them installed as often as the store front's data, of which one negative in four
    was kept, would have it."""
    rng = np.random.default_rng(how.seed)
    began, ended = time.time() - how.days * DAY_S, time.time() - 1.1 * DAY_S
    apps = {app: found for app in APPS if (found := container.features.get_app(app))}
    users = {user: known for user in USERS if (known := container.features.get_user(user))}
    impressions, events = list[Impression](), list[Feedback]()
    for number in range(how.requests):
        gone = number / how.requests
        user, evening = USERS[rng.integers(0, len(USERS))], bool(rng.integers(0, 2))
        chosen = rng.choice(len(APPS), size=SHOWN, replace=False)
        impression = Impression(
            request_id=f"s{how.seed}r{number}",
            at=began + gone * (ended - began),
            version=LIVE,
            user_id=user,
            user=users[user].features,
            context={"daytime": DAYTIMES[evening], "battery": float(rng.random())},
            history=users[user].history,
            items=tuple(
                Shown(APPS[app], place, 0.5, apps[APPS[app]].features, 3) for place, app in enumerate(chosen, start=1)
            ),
        )
        impressions.append(impression)
        for app in chosen:
            if rng.random() < how.chance[not how.sells(int(app), evening, gone)]:
                at, name = impression.at + 5.0, f"s{how.seed}e{len(events)}"
                events.append(Feedback(name, "install", at, at, APPS[app], user, impression.request_id, dated=True))
    container.log.show(impressions)
    for start in range(0, len(events), 500):
        container.log.take(events[start : start + 500])


def ended(container: Container, job_id: str) -> Job:
    """The job, which has ended."""
    job = container.queue.get(job_id)
    assert job.state.ended, job
    return job


def succeeded(job: Job) -> dict[str, object]:
    """The result of a job that succeeded."""
    assert job.state is JobState.SUCCEEDED, (job.result, job.lines)
    assert job.result is not None
    return dict(job.result)
