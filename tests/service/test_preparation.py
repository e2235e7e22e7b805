"""A version is ready only when it scores as it did when it was saved."""

from dataclasses import replace
from weakref import ref

import pytest
import torch

from model.app_table import AppTable
from model.bundle import REQUIRED, Bundle, load, save
from model.manifest import BundleError
from model.query import Query
from model.scorer import Scorer
from service.container import Container
from service.errors import UnknownVersion
from service.preparation import DryRunFailed, dry_run
from service.ranker import RankQuery
from service.store.ports import AppRecord
from tests.service.preparing import preparation_of
from tests.service.store_front import APPS, LIVE, MISSING_ITS_GOLDEN

SPOILED = "20260202T000000Z-cccccc"


@pytest.fixture
def bundle(container: Container) -> Bundle:
    return load(container.registry.folder(LIVE), optimizer=True)


def prepared(container: Container, bundle: Bundle) -> None:
    spoiled = replace(bundle, manifest=bundle.manifest.model_copy(update={"version": SPOILED, "files": {}}))
    preparation_of(container)(save(spoiled, container.home.bundles))


def test_a_prepared_version_has_the_catalogue_of_the_store_on_its_shelf(container: Container) -> None:
    container.features.put_apps([AppRecord("com.new")])
    live = container.prepare(LIVE)
    assert live.version == LIVE
    assert len(live.shelf) == len(APPS) + 1
    assert live.shelf.sequence == container.features.apps_since(0).sequence


def test_the_files_of_a_table_are_read_before_the_first_request_waits_for_them(
    container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    touched: list[AppTable] = []
    monkeypatch.setattr(AppTable, "touch", lambda table, pause, *, exact: touched.append(table))
    live = container.prepare(LIVE)
    assert touched == [live.shelf.base.edition.table]


def test_a_version_that_misses_its_golden_scores_is_refused(container: Container) -> None:
    with pytest.raises(DryRunFailed, match="golden_scores"):
        container.prepare(MISSING_ITS_GOLDEN)


def test_a_weight_that_is_not_finite_is_refused_and_named(container: Container, bundle: Bundle) -> None:
    name, tensor = next((name, tensor) for name, tensor in bundle.weights.items() if tensor.is_floating_point())
    with pytest.raises(DryRunFailed, match=f"finite_weights.*{name}"):
        prepared(container, replace(bundle, weights=bundle.weights | {name: torch.full_like(tensor, torch.nan)}))


def test_scores_that_tell_no_app_from_another_are_the_gates_to_judge(container: Container, bundle: Bundle) -> None:
    constant = {name: torch.zeros_like(tensor) for name, tensor in bundle.weights.items()}
    rate = bundle.manifest.sampling_rate
    golden = tuple(replace(one, scores=(rate / (1 + rate),) * len(one.apps)) for one in bundle.golden)
    prepared(container, replace(bundle, weights=constant, golden=golden))


def test_a_bundle_that_is_damaged_is_refused(container: Container) -> None:
    (container.registry.folder(LIVE) / "transform.json").write_text("{}")
    with pytest.raises(BundleError, match=r"transform\.json"):
        container.prepare(LIVE)


def test_a_version_that_is_not_registered_is_refused_whatever_its_name(container: Container) -> None:
    with pytest.raises(UnknownVersion):
        container.prepare("../../etc")


def test_every_file_vocabulary_and_golden_request_is_a_step_with_a_pause_after_it(
    container: Container, bundle: Bundle
) -> None:
    pauses = list[None]()
    load(container.registry.folder(LIVE), pause=lambda: pauses.append(None))
    assert len(pauses) == len(REQUIRED) + len(bundle.transform.vocabularies)
    dry_run(Scorer.of(bundle), bundle, pause=lambda: pauses.append(None))
    assert len(pauses) > len(REQUIRED) + 3 * len(bundle.golden)


def test_who_asked_lately_is_no_stranger_to_the_next_version(container: Container) -> None:
    container.engine.swap(container.prepare(LIVE))
    for user in ("u1", "u2", "u1"):
        container.ranker.rank_with(container.engine.live(), RankQuery(user))
    asked_before = container.engine.recent()
    odd = Query("u3", {name: ["of", "no", "kind"] for name in asked_before[0].user} | {"country": 3.5})

    live = replace(preparation_of(container), recent=lambda: [odd, *asked_before])(container.registry.folder(LIVE))

    known = {query.user_id for query in live.fast.recent()}
    assert {"u1", "u2"} <= known
    assert "u3" not in known


def test_loading_draws_no_random_number_and_holds_weights_of_its_own(bundle: Bundle) -> None:
    before = torch.get_rng_state()
    net = Scorer.of(bundle).net
    assert torch.equal(torch.get_rng_state(), before)
    parameters = dict(net.named_parameters())
    assert all(torch.equal(parameter, bundle.weights[name]) for name, parameter in parameters.items())
    theirs = {weight.data_ptr() for weight in bundle.weights.values() if weight.numel()}
    assert not theirs & {parameter.data_ptr() for parameter in parameters.values()}
    assert not any(tensor.is_meta for tensor in (*net.parameters(), *net.buffers()))


@pytest.mark.usefixtures("no_collection")
def test_a_version_is_let_go_of_as_soon_as_nobody_uses_it(container: Container) -> None:
    live = container.prepare(LIVE)
    assert container.ranker.rank_with(live, RankQuery("u1")).items
    base = live.shelf.base.edition.table
    parts = [ref(part) for part in (live, live.scorer, live.scorer.net, live.fast, live.shelf, base)]
    del live, base
    assert [part() for part in parts] == [None] * len(parts)
