"""Bundles: saved whole or not at all, read back exactly, and refused where a single byte is wrong."""

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, ItemsView, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import pytest
import torch

from model import bundle as bundles_of
from model.bundle import Bundle, BundleError, Golden, Manifest, list_bundles, load, save, sweep, verify
from model.crosses import Crosses
from model.query import App, Query
from model.schema import FeatureSchema, parse_schema
from model.sealed import CHECKED_BYTES, discard
from model.tensors import TensorsUnreadable, pack, unpack
from model.transforms import Transform
from model.vocabulary import Quantiles, Vocabulary

VERSION = "20261120T194846Z-1a2b3c"
LATER = "20261121T070000Z-00ff00"
FILES = [
    "manifest.json",
    "schema.yaml",
    "transform.json",
    "transform.safetensors",
    "weights.safetensors",
    "optimizer.safetensors",
    "statistics.json",
    "golden.jsonl",
]
SCHEMA = """
fields:
- {name: country, source: context, kind: categorical}
- {name: app_id, source: app, kind: categorical}
- {name: price, source: app, kind: continuous}
"""


def small_transform(schema: FeatureSchema) -> Transform:
    vocabularies = {
        "country": Vocabulary.fit("country", {"PT": 5, "GR": 3}, min_count=1),
        "app_id": Vocabulary.fit("app_id", {"com.a": 4, "com.b": 4}, min_count=1),
    }
    return Transform(schema, vocabularies, {"price": Quantiles((0.1, 1 / 3))}, Crosses(schema, vocabularies, {}), {})


def small_bundle(version: str = VERSION) -> Bundle:
    schema = parse_schema(SCHEMA)
    manifest = Manifest(
        version=version,
        created_at="2026-11-20T19:48:46Z",
        architecture="wide_deep",
        params={"hidden": [8, 4]},
        config={"rate": 0.1},
        recipe="paper",
        schema_fingerprint=schema.fingerprint(),
        parent=None,
        facts={"source": "synthetic", "timed": True},
        metrics={"auc": 0.1 + 0.2},
        sampling_rate=1 / 3,
    )
    golden = Golden(
        Query("u1", {"age": 3, "tags": ["x", "y"], "plus": True}, {"country": None}, {"com.b": 2, "com.a": 1}),
        (App("com.a", {"price": 0.1}), App("com.b", {"price": 1e-17})),
        (0.1 + 0.2, 1 / 3),
    )
    weights = {"deep.weight": torch.linspace(0, 1, 600).reshape(20, 30), "bias": torch.tensor(0.5)}
    optimizer = {"deep.weight/sum": torch.ones(20, 30)}
    return Bundle(
        manifest, schema, small_transform(schema), weights, {"popularity": {"com.a": 4}}, (golden,), optimizer
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save(small_bundle(), tmp_path)


def reseal(folder: Path, change: Callable[[Manifest], Manifest]) -> None:
    """What a newer or a broken release might have written: another manifest, sealed all the same."""
    place = folder / "manifest.json"
    manifest = Manifest.model_validate_json(place.read_text())
    place.write_text(change(manifest).sealed().to_json())


def test_a_bundle_reads_back_as_it_was_saved(folder: Path) -> None:
    saved, read = small_bundle(), load(folder, optimizer=True)
    assert (read.schema, read.statistics, read.golden) == (saved.schema, saved.statistics, saved.golden)
    assert read.manifest.model_copy(update={"files": {}, "seal": ""}) == saved.manifest
    assert json.dumps(read.transform.to_state()[0]) == json.dumps(saved.transform.to_state()[0])
    assert all(torch.equal(read.weights[name], tensor) for name, tensor in saved.weights.items())
    assert read.optimizer is not None
    assert torch.equal(read.optimizer["deep.weight/sum"], torch.ones(20, 30))


def test_history_keeps_its_order_through_a_save(folder: Path) -> None:
    assert list(load(folder).golden[0].query.history) == ["com.b", "com.a"]


def test_the_optimizer_is_read_only_when_asked_for(folder: Path) -> None:
    (folder / "optimizer.safetensors").unlink()
    assert load(folder).optimizer is None
    with pytest.raises(BundleError, match=r"optimizer\.safetensors cannot be read"):
        load(folder, optimizer=True)


def test_a_bundle_without_an_optimizer_is_whole(tmp_path: Path) -> None:
    folder = save(replace(small_bundle(), optimizer=None), tmp_path)
    assert "optimizer.safetensors" not in verify(folder).files
    assert load(folder, optimizer=True).optimizer is None


def test_a_bundle_holds_exactly_its_files_and_no_pickle(folder: Path) -> None:
    assert sorted(place.name for place in folder.iterdir()) == sorted(FILES)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("bit", [0, 5])
def test_one_flipped_bit_is_refused_naming_the_file(folder: Path, name: str, share: float, bit: int) -> None:
    content = bytearray((folder / name).read_bytes())
    content[int(share * (len(content) - 1))] ^= 1 << bit
    (folder / name).write_bytes(content)
    with pytest.raises(BundleError, match=name):
        verify(folder)
    with pytest.raises(BundleError, match=name):
        load(folder, optimizer=True)


def test_a_bundle_is_checked_a_bit_at_a_time(tmp_path: Path) -> None:
    large = replace(small_bundle(), optimizer={"deep.weight/sum": torch.rand(3 * CHECKED_BYTES // 4 - 100)})
    folder, pauses = save(large, tmp_path), list[None]()

    verify(folder, pause=lambda: pauses.append(None))

    assert len(pauses) == len(FILES) - 1 + 2


def test_any_bit_of_the_manifest_counts(folder: Path) -> None:
    place = folder / "manifest.json"
    content = place.read_bytes()
    for position in range(0, len(content) * 8, 7):
        flipped = bytearray(content)
        flipped[position // 8] ^= 1 << (position % 8)
        place.write_bytes(flipped)
        with pytest.raises(BundleError, match=r"manifest\.json"):
            verify(folder)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("size", [0, 1, -1])
def test_a_truncated_file_is_refused_naming_it(folder: Path, name: str, size: int) -> None:
    (folder / name).write_bytes((folder / name).read_bytes()[:size])
    with pytest.raises(BundleError, match=name):
        verify(folder)
    with pytest.raises(BundleError, match=name):
        load(folder, optimizer=True)


@pytest.mark.parametrize("name", FILES[1:])
def test_a_missing_file_is_refused_naming_it(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BundleError, match=f"{name} cannot be read"):
        verify(folder)


def test_a_folder_without_a_manifest_does_not_exist(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    with pytest.raises(BundleError, match=f"bundle {VERSION} does not exist"):
        load(folder)
    assert list_bundles(folder.parent) == []


def test_an_unknown_format_is_refused_with_both_numbers(folder: Path) -> None:
    reseal(folder, lambda manifest: manifest.model_copy(update={"format": 7}))
    with pytest.raises(BundleError, match="format 7 where 1 is known"):
        load(folder)


def test_a_schema_that_is_not_the_manifests_is_refused(folder: Path) -> None:
    reseal(folder, lambda manifest: manifest.model_copy(update={"schema_fingerprint": "f" * 64}))
    with pytest.raises(BundleError, match=r"schema\.yaml is schema .* where the manifest says ffff"):
        load(folder)


def test_a_manifest_that_lists_no_weights_is_refused(folder: Path) -> None:
    def without_weights(manifest: Manifest) -> Manifest:
        kept = {name: entry for name, entry in manifest.files.items() if name != "weights.safetensors"}
        return manifest.model_copy(update={"files": kept})

    reseal(folder, without_weights)
    for read in (load, verify):
        with pytest.raises(BundleError, match=r"lists no weights\.safetensors"):
            read(folder)


def test_a_manifest_that_reaches_out_of_its_folder_is_refused(folder: Path) -> None:
    def reaching(manifest: Manifest) -> Manifest:
        return manifest.model_copy(update={"files": {**manifest.files, "../x": manifest.files["golden.jsonl"]}})

    reseal(folder, reaching)
    with pytest.raises(BundleError, match=r"manifest\.json is not a manifest"):
        verify(folder)


def test_a_bundle_under_another_version_is_refused(folder: Path) -> None:
    other = folder.rename(folder.parent / LATER)
    with pytest.raises(BundleError, match=f"is of version {VERSION}"):
        load(other)


@pytest.mark.parametrize(
    "text", ["../" + VERSION, "..", "", VERSION + "\n", VERSION.lower(), "a/" + VERSION, "x" * 9999]
)
def test_what_is_not_a_version_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is not a version"):
        bundles_of.check_version(text)
    with pytest.raises(BundleError, match="is not a version"):
        save(small_bundle(text), tmp_path)


def test_versions_sort_by_time() -> None:
    assert bundles_of.new_version(1795204126.9, "1a2b3c4d") == VERSION
    assert bundles_of.new_version(1795204126.9, "ffffff") < bundles_of.new_version(1795204127.0, "000000")


def test_a_bundle_is_never_overwritten(folder: Path) -> None:
    with pytest.raises(BundleError, match=r"stands in .* already"):
        save(small_bundle(), folder.parent)
    verify(folder)


def test_bundles_are_listed_oldest_first_without_what_is_not_one(folder: Path) -> None:
    save(small_bundle(LATER), folder.parent)
    (folder.parent / f".{VERSION}.partial").mkdir()
    (folder.parent / "20261122T070000Z-00ff00").mkdir()
    assert [manifest.version for manifest in list_bundles(folder.parent)] == [VERSION, LATER]
    assert list_bundles(folder / "absent") == []


def test_a_bundle_that_disagrees_with_itself_is_not_saved(tmp_path: Path) -> None:
    whole = small_bundle()
    other_schema = replace(whole, schema=parse_schema(SCHEMA.replace("price", "cost")))
    no_number = replace(whole, golden=(replace(whole.golden[0], scores=(0.5, float("nan"))),))
    for broken, words in ((other_schema, "is not of the schema"), (no_number, "not finite")):
        with pytest.raises(BundleError, match=words):
            save(broken, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_statistic_that_is_no_number_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        save(replace(small_bundle(), statistics={"mean": float("nan")}), tmp_path)
    assert list(tmp_path.iterdir()) == []


@contextmanager
def disk_with_room_for(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes: a write beyond fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [0, 300, 2000])
def test_a_disk_that_fills_up_leaves_nothing_behind(tmp_path: Path, size: int) -> None:
    with disk_with_room_for(size), pytest.raises(BundleError, match="make room there and save again"):
        save(small_bundle(), tmp_path)
    assert list(tmp_path.iterdir()) == []
    verify(save(small_bundle(), tmp_path))


KILLED_AT_A_FLUSH = """
import os, signal, sys
from pathlib import Path
from model.bundle import save
from tests.model.test_bundle import small_bundle

flush, left = os.fsync, [int(sys.argv[2])]

def flush_or_die(descriptor):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    flush(descriptor)

os.fsync = flush_or_die
save(small_bundle(), Path(sys.argv[1]))
"""


@pytest.mark.parametrize("flushes", [0, 4, 7, 8])
def test_a_save_killed_in_the_middle_leaves_no_bundle_and_can_be_repeated(tmp_path: Path, flushes: int) -> None:
    command = [sys.executable, "-c", KILLED_AT_A_FLUSH, str(tmp_path), str(flushes)]
    ended = subprocess.run(command, cwd=Path(__file__).parents[2], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert list_bundles(tmp_path) == []
    assert sweep(tmp_path) == [f".{VERSION}.partial"]
    verify(save(small_bundle(), tmp_path))


def test_a_save_repeated_over_what_a_killed_one_left_works_without_a_sweep(tmp_path: Path) -> None:
    (tmp_path / f".{VERSION}.partial").mkdir()
    (tmp_path / f".{VERSION}.partial" / "schema.yaml").write_text("half")
    verify(save(small_bundle(), tmp_path))
    assert sweep(tmp_path) == []


def test_a_sweep_touches_nothing_while_another_saves(tmp_path: Path) -> None:
    seen: list[list[str]] = []

    class Sweeping(dict[str, torch.Tensor]):
        def items(self) -> ItemsView[str, torch.Tensor]:  # type: ignore[override]  # a save reads it once under way
            seen.append(sweep(tmp_path))
            return super().items()

    verify(save(replace(small_bundle(), weights=Sweeping(small_bundle().weights)), tmp_path))
    assert seen == [[]]


def test_a_discarded_bundle_is_gone_and_discarding_it_again_is_nothing(folder: Path) -> None:
    for _ in range(2):
        discard(folder)
    assert list(folder.parent.iterdir()) == []
    discard(folder.parent / "absent" / VERSION)


def test_what_a_killed_discard_left_does_not_stop_the_next(folder: Path) -> None:
    (folder.parent / f".{VERSION}.partial").mkdir()
    (folder.parent / f".{VERSION}.partial" / "schema.yaml").write_text("half")
    discard(folder)
    assert list(folder.parent.iterdir()) == []


def test_many_that_discard_and_sweep_at_once_do_not_stumble_over_each_other(tmp_path: Path) -> None:
    versions = [f"20261120T194846Z-{number:06x}" for number in range(12)]
    for version in versions:
        save(small_bundle(version), tmp_path)
    barrier = Barrier(4)

    def discard_all(number: int) -> None:
        barrier.wait()
        for version in versions:
            discard(tmp_path / version) if number % 2 else sweep(tmp_path)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(discard_all, range(4)))
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_leaves_what_vanishes_under_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    partial = folder.parent / f".{LATER}.partial"
    partial.mkdir()

    def vanished(place: Path) -> None:
        raise FileNotFoundError(place)

    monkeypatch.setattr("model.sealed.shutil.rmtree", vanished)
    assert sweep(folder.parent) == [partial.name]


def test_a_sweep_of_no_folder_finds_nothing(tmp_path: Path) -> None:
    assert sweep(tmp_path / "absent") == []


def test_an_unreadable_manifest_is_a_bundle_error(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    os.mkdir(folder / "manifest.json")
    with pytest.raises(BundleError, match=r"manifest\.json cannot be read"):
        load(folder)


def test_a_tensor_that_is_mostly_zero_takes_little_room_and_reads_back_equal() -> None:
    table = torch.zeros(5000, 4, dtype=torch.float32)
    table[17, 2], table[4999, 3] = 0.25, float("inf")
    content = pack({"wide": table, "deep": torch.ones(3)})
    read = unpack(content)
    assert len(content) < 2000
    assert torch.equal(read["wide"], table)
    assert torch.equal(read["deep"], torch.ones(3))


def test_bytes_that_are_no_tensors_are_refused() -> None:
    with pytest.raises(TensorsUnreadable):
        unpack(b"\x80\x04pickled")
