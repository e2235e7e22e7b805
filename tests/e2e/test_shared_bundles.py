"""One machine trains and another serves, with the store and the storage between them and nothing else."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from model.training import TrainConfig
from service.bundles import LocalBundles
from service.container import Container, build
from service.importing import keep
from service.lifecycle import promote_version, roll_back, train_version
from service.settings import Settings
from service.store.ports import Note
from tests.redis_server import RedisServer
from tests.service.s3_server import s3_server
from tests.service.store_front import APPS, dataset, settings
from tests.service.test_bundles import NOWHERE, make_bucket
from tests.service.wire import serving, soon

pytestmark = pytest.mark.e2e

RANK = {"user": {"id": "u1"}, "candidates": APPS}
TINY = TrainConfig(params={"hidden": [8]}, epochs=1, batch_size=256)
NOTE = Note("test", "because", force=True)


@dataclass(frozen=True)
class Site:
    """Where homes are made, and what they share."""

    folder: Path
    redis_url: str

    def container(self, name: str) -> Container:
        shared = {
            "redis_url": self.redis_url,
            "redis_timeout_s": 5.0,
            "shed_after_s": 5.0,
            "bundles_url": "s3://bucket/appshelf",
        }
        own = settings(self.folder / name).model_dump(exclude_unset=True)
        return build(Settings.model_validate(own | shared))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    redis = RedisServer(tmp_path / "redis")
    redis.start()
    try:
        with s3_server() as environ:
            for name, value in environ.items():
                monkeypatch.setenv(name, value)
            make_bucket("bucket")
            yield Site(tmp_path, redis.url)
    finally:
        redis.kill()


def train(trainer: Container, number: int) -> str:
    return train_version(
        trainer, TINY.model_copy(update={"seed": number}), token=f"aaaaa{number}", progress=lambda _: None
    )


def test_what_one_machine_trains_another_serves_and_goes_on_serving_without_the_storage(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, server = site.container("trainer"), site.container("server")
    keep(dataset(), trainer.home, trainer.features)
    first = train(trainer, 1)
    promote_version(trainer, first, note=NOTE)

    with serving(server) as client:
        assert client.get("/readyz").status_code == 200
        second = train(trainer, 2)
        assert promote_version(trainer, second, note=NOTE).complete
        assert client.post("/rank", json=RANK).json()["version"] == second

        monkeypatch.setenv("AWS_ENDPOINT_URL", NOWHERE)
        with serving(site.container("server")) as restarted:
            assert restarted.post("/rank", json=RANK).json()["version"] == second
        assert roll_back(site.container("trainer"), note=Note("test", "worse")).version == first
        assert soon(lambda: client.post("/rank", json=RANK).json()["version"] == first)
    assert LocalBundles(server.home.bundles).names() == [first, second]


def test_two_servers_of_one_host_name_and_process_number_are_waited_for_both(site: Site) -> None:
    trainer, servers = site.container("trainer"), [site.container(name) for name in ("one", "two")]
    keep(dataset(), trainer.home, trainer.features)
    promote_version(trainer, train(trainer, 1), note=NOTE)

    with serving(servers[0]), serving(servers[1]):
        result = promote_version(trainer, train(trainer, 2), note=NOTE)

    assert result.complete
    assert len(result.processes) == len(servers)


def test_a_machine_that_comes_anew_takes_what_is_live_from_the_storage(site: Site) -> None:
    trainer = site.container("trainer")
    keep(dataset(), trainer.home, trainer.features)
    version = train(trainer, 1)
    promote_version(trainer, version, note=NOTE)
    shutil.rmtree(trainer.home.root)

    with serving(site.container("new")) as client:
        assert client.post("/rank", json=RANK).json()["version"] == version
