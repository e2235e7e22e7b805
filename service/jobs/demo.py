"""The first start of a fleet: where nothing is live, the demo's store is made, learned, judged and taken live, once."""

from collections.abc import Mapping
from typing import Any

from service.demo import make_store, train_demo
from service.jobs.desk import Desk
from service.jobs.queue import token_of


def bootstrap(desk: Desk) -> Mapping[str, Any]:
    """`appshelf demo` but for the serving; the job's result. Raises ForeignData, and as `retrain` does."""
    container, diary = desk.container, desk.diary
    with diary.step("store"):
        version = desk.made_before()
        if version is None:
            if live := container.registry.live():
                diary.say(f"{live} is live already, so no demo is made")
                return {"version": live, "promoted": False}
            diary.say(f"{make_store(container)} impressions to train on")
    with diary.step("train"):
        version = version or train_demo(container, token=token_of(desk.job.id), progress=desk.told)
    with diary.step("gate"):
        report = desk.judged(version, container.home.data)
    with diary.step("promote"):
        promoted = report.passed and desk.promote(version, container.home.data)
    return desk.result(version, promoted=promoted)
