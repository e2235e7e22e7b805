"""Bad challengers at a running server: each is refused by the check that names its fault, and no client notices."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model.bundle import Bundle, read_manifest, save
from model.schema import FeatureSchema
from service.container import Container, build
from service.importing import keep
from service.lifecycle import promote_version
from service.states import State
from service.store.ports import Note
from tests.e2e.load import load_on
from tests.e2e.server import Server, running
from tests.model.stores import APP_COUNT, SCHEMA, VERSION, bundle_of, prove, store
from tests.service.store_front import settings
from tests.service.wire import problem

pytestmark = pytest.mark.e2e

DATA = store()
RANK = {"user": {"id": "u1"}, "context": {"country": "PT"}, "candidates": [f"com.app{n}" for n in range(APP_COUNT)]}
MADE = Note("test", "made for the tests")


def of_weights(change: Callable[[torch.Tensor], torch.Tensor]) -> Bundle:
    bundle = bundle_of(DATA)
    return replace(bundle, weights={name: change(weight) for name, weight in bundle.weights.items()})


def not_a_number() -> Bundle:
    return of_weights(lambda weight: torch.full_like(weight, float("nan")))


def constant() -> Bundle:
    return prove(of_weights(torch.zeros_like))


def worse() -> Bundle:
    return bundle_of(DATA, noise=0.6)


def slow() -> Bundle:
    return bundle_of(DATA, params={"dim": 32, "hidden": (2048, 2048, 2048)})


def demanding() -> Bundle:
    raw = SCHEMA.model_dump(mode="json")
    fields = [{**one, "required": one["name"] == "country"} for one in raw["fields"]]
    return bundle_of(store(schema=FeatureSchema.model_validate({**raw, "fields": fields})))


def sound() -> Bundle:
    return bundle_of(DATA)


def truncate(folder: Path) -> None:
    weights = folder / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])


def enter(container: Container, bundle: Bundle, *, version: str) -> Path:
    folder = save(
        replace(bundle, manifest=bundle.manifest.model_copy(update={"version": version})), container.home.bundles
    )
    container.registry.register(read_manifest(folder), note=MADE)
    return folder


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Container:
    container = build(settings(tmp_path_factory.mktemp("gated") / "home"))
    keep(DATA, container.home, container.features)
    enter(container, sound(), version=VERSION)
    promote_version(container, VERSION, note=Note("test", "the first"))
    return container


@pytest.fixture(scope="module")
def server(container: Container) -> Iterator[Server]:
    with running(container.home.root, workers=2) as server:
        yield server


@pytest.mark.parametrize(
    ("number", "bad", "damage", "check"),
    [
        (1, not_a_number, None, "finite_weights"),
        (2, sound, truncate, "integrity"),
        (3, worse, None, "auc"),
        (4, slow, None, "latency"),
        (5, constant, None, "golden_spread"),
        (6, demanding, None, "request_contract"),
    ],
)
def test_a_bad_challenger_is_refused_by_name_while_clients_see_only_live(
    container: Container,
    server: Server,
    number: int,
    bad: Callable[[], Bundle],
    damage: Callable[[Path], None] | None,
    check: str,
) -> None:
    version = f"20261122T00000{number}Z-bad{number:03}"
    folder = enter(container, bad(), version=version)
    if damage:
        damage(folder)
    with load_on(server, RANK) as load, server.client() as admin:
        refused = admin.post("/admin/reload", json={"version": version})
        report = admin.get(f"/admin/versions/{version}").json()["report"]
    assert check in problem(refused, 409)["detail"]
    assert check in {one["name"] for one in report["checks"] if one["outcome"] == "failed"}
    assert container.registry.get(version).state is State.REJECTED
    assert load.failures() == []
    assert load.versions() == {VERSION}


def test_a_forced_promote_stands_in_the_history_with_its_reason(container: Container, server: Server) -> None:
    version = "20261123T000000Z-f0f0f0"
    enter(container, worse(), version=version)
    body = {"version": version, "force": True, "reason": "the old one shows a withdrawn app"}
    with load_on(server, RANK) as load, server.client() as admin:
        answer = admin.post("/admin/reload", json=body)
    assert answer.status_code == 200
    assert load.failures() == []
    (entry,) = [one for one in container.registry.history() if one.version == version and one.to is State.LIVE]
    assert entry.forced
    assert entry.why == "the old one shows a withdrawn app"
