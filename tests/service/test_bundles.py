"""Bundles in a folder and on shared storage: one contract, and what only storage beyond this machine can do to them."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import pytest

from model.bundle import BundleError, save, verify
from service.bundles import BundleStore, LocalBundles, SharedBundles
from service.errors import BundlesUnavailable, BundlesUrlRefused
from service.remote import RemoteFolder
from tests.model.test_bundle import FILES, LATER, VERSION, small_bundle
from tests.service.s3_server import SECRET, s3_server

ROOT = Path(__file__).parents[2]
NOWHERE = "http://127.0.0.1:9"  # the port of the discard service, on which nobody listens


@dataclass(frozen=True)
class Machine:
    """A machine's folder of bundles and its view of the storage."""

    folder: Path
    bundles: BundleStore

    def seal(self, version: str = VERSION) -> None:
        save(small_bundle(version), self.folder)

    def publish(self, version: str = VERSION) -> None:
        self.seal(version)
        self.bundles.publish(version)


@dataclass(frozen=True)
class Storage:
    """Storage that machines share; url: None where it is the folder of the one machine."""

    home: Path
    url: str | None

    def machine(self, name: str) -> Machine:
        folder = self.home / (name if self.url else "the only one")
        return Machine(folder, SharedBundles(self.url, folder) if self.url else LocalBundles(folder))

    @property
    def files(self) -> RemoteFolder:
        """The stored files themselves, to damage them."""
        assert self.url is not None
        return RemoteFolder(self.url)


@pytest.fixture(scope="module")
def s3() -> Iterator[Mapping[str, str]]:
    with s3_server() as environ:
        yield environ


def url_on(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> str | None:
    """An address with nothing at it."""
    if kind == "s3":
        monkeypatch = request.getfixturevalue("monkeypatch")
        for name, value in request.getfixturevalue("s3").items():
            monkeypatch.setenv(name, value)
        bucket = sha256(request.node.name.encode()).hexdigest()[:20]
        make_bucket(bucket)
        return f"s3://{bucket}/some/prefix/"
    return {"local": None, "file": f"file://{tmp_path}/shared", "memory": f"memory://{tmp_path}"}[kind]


def make_bucket(name: str) -> None:
    files = RemoteFolder(f"s3://{name}")._files()
    files.mkdir(name)


@pytest.fixture(params=["local", "file", "memory", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return Storage(tmp_path / "machines", url_on(request.param, request, tmp_path))


@pytest.fixture(params=["file", "s3"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return Storage(tmp_path / "machines", url_on(request.param, request, tmp_path))


@pytest.fixture
def on_s3(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return Storage(tmp_path / "machines", url_on("s3", request, tmp_path))


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Cuts the network to S3 for every view made from then on."""
    return lambda: monkeypatch.setenv("AWS_ENDPOINT_URL", NOWHERE)


def test_a_published_bundle_is_fetched_whole_by_another_machine(storage: Storage) -> None:
    trainer, server = storage.machine("trainer"), storage.machine("server")
    trainer.publish()

    folder = server.bundles.fetch(VERSION)

    server.bundles.check(VERSION)
    assert verify(folder).version == VERSION
    assert sorted(place.name for place in folder.iterdir()) == sorted(FILES)
    for name in FILES:
        assert (folder / name).read_bytes() == (trainer.folder / VERSION / name).read_bytes()


def test_bundles_are_listed_oldest_first(storage: Storage) -> None:
    trainer, server = storage.machine("trainer"), storage.machine("server")
    assert (server.bundles.names(), server.bundles.manifests()) == ([], [])
    for version in (LATER, VERSION):
        trainer.publish(version)

    assert server.bundles.names() == [VERSION, LATER]
    assert [manifest.version for manifest in server.bundles.manifests()] == [VERSION, LATER]
    assert [manifest.version for manifest in server.bundles.manifests(but={VERSION})] == [LATER]
    assert server.bundles.holds(LATER)


def test_what_was_never_there_does_not_exist(storage: Storage) -> None:
    machine = storage.machine("server")
    assert not machine.bundles.holds(VERSION)
    with pytest.raises(BundleError, match=f"bundle {VERSION} does not exist in"):
        machine.bundles.check(VERSION)
    machine.bundles.discard(VERSION)


def test_publishing_again_changes_nothing(storage: Storage) -> None:
    trainer = storage.machine("trainer")
    trainer.publish()
    trainer.bundles.publish(VERSION)
    storage.machine("server").bundles.publish(VERSION)

    assert trainer.bundles.unpublished() == []
    storage.machine("server").bundles.check(VERSION)


def test_a_discarded_bundle_is_gone_everywhere(storage: Storage) -> None:
    trainer, server = storage.machine("trainer"), storage.machine("server")
    trainer.publish()
    trainer.publish(LATER)
    for _ in range(2):
        trainer.bundles.discard(VERSION)

    assert not server.bundles.holds(VERSION)
    assert server.bundles.names() == [LATER]
    assert not (trainer.folder / VERSION).exists()
    trainer.bundles.check(LATER)


def test_a_bundle_that_was_sealed_and_not_published_is_known_to_its_machine_only(shared: Storage) -> None:
    trainer, server = shared.machine("trainer"), shared.machine("server")
    trainer.seal()

    assert trainer.bundles.unpublished() == [VERSION]
    assert server.bundles.unpublished() == server.bundles.names() == []
    with pytest.raises(BundleError, match=f"{VERSION} does not exist in {shared.files.url}; list those that do"):
        server.bundles.fetch(VERSION)
    assert not (server.folder / VERSION).exists()


KILLED_AT_AN_UPLOAD = """
import os, signal, sys
from pathlib import Path
from service.bundles import SharedBundles
from service.remote import RemoteFolder

upload, left = RemoteFolder.upload, [int(sys.argv[4])]

def upload_or_die(self, *arguments):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    upload(self, *arguments)

RemoteFolder.upload = upload_or_die
RemoteFolder.write = upload_or_die
SharedBundles(sys.argv[1], Path(sys.argv[2])).publish(sys.argv[3])
"""


@pytest.mark.parametrize("uploads", [1, len(FILES) - 1])
def test_an_upload_killed_in_the_middle_is_no_bundle_and_can_be_repeated(shared: Storage, uploads: int) -> None:
    trainer, server = shared.machine("trainer"), shared.machine("server")
    trainer.seal()
    command = [sys.executable, "-c", KILLED_AT_AN_UPLOAD, str(shared.url), str(trainer.folder), VERSION, str(uploads)]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGKILL

    assert not server.bundles.holds(VERSION)
    assert server.bundles.manifests() == []
    assert server.bundles.names() == [VERSION]
    with pytest.raises(BundleError, match="does not exist"):
        server.bundles.fetch(VERSION)
    assert trainer.bundles.unpublished() == [VERSION]
    trainer.bundles.publish(VERSION)
    verify(server.bundles.fetch(VERSION))


def test_a_manifest_of_which_half_arrived_is_none(shared: Storage) -> None:
    trainer, server = shared.machine("trainer"), shared.machine("server")
    trainer.publish()
    manifest = shared.files.read(f"{VERSION}/manifest.json")
    assert manifest is not None
    shared.files.write(f"{VERSION}/manifest.json", manifest[:100])

    assert not server.bundles.holds(VERSION)
    assert server.bundles.manifests() == []
    trainer.bundles.publish(VERSION)
    verify(server.bundles.fetch(VERSION))


@pytest.mark.parametrize("name", ["schema.yaml", "weights.safetensors", "optimizer.safetensors"])
def test_one_flipped_bit_is_refused_naming_the_file_and_leaves_nothing(shared: Storage, name: str) -> None:
    shared.machine("trainer").publish()
    content = bytearray(shared.files.read(f"{VERSION}/{name}") or b"")
    content[len(content) // 2] ^= 1
    shared.files.write(f"{VERSION}/{name}", bytes(content))

    server = shared.machine("server")
    with pytest.raises(BundleError, match=f"{shared.files.url}/{VERSION}/{name} has sha256") as refused:
        server.bundles.fetch(VERSION)
    assert str(server.folder) not in str(refused.value)
    assert server.bundles.unpublished() == []
    assert LocalBundles(server.folder).names() == []
    assert not list(server.folder.glob(".*.partial"))


def test_a_missing_file_is_refused_naming_it(shared: Storage) -> None:
    shared.machine("trainer").publish()
    shared.files.remove(f"{VERSION}/weights.safetensors")
    with pytest.raises(BundleError, match=f"{shared.files.url}/{VERSION}/weights.safetensors cannot be read"):
        shared.machine("server").bundles.check(VERSION)


def test_a_download_garbled_on_its_way_is_made_once_more(shared: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    shared.machine("trainer").publish()
    download, garbled = RemoteFolder.download, ["weights.safetensors"]

    def garble_once(self: RemoteFolder, path: str, target: Path) -> bool:
        there = download(self, path, target)
        if target.name in garbled:
            garbled.remove(target.name)
            target.write_bytes(target.read_bytes()[:-1])
        return there

    monkeypatch.setattr(RemoteFolder, "download", garble_once)
    verify(shared.machine("server").bundles.fetch(VERSION))
    assert garbled == []


def test_a_copy_that_was_damaged_is_replaced(shared: Storage) -> None:
    shared.machine("trainer").publish()
    server = shared.machine("server")
    with open(server.bundles.fetch(VERSION) / "weights.safetensors", "r+b") as weights:
        weights.truncate(10)

    verify(server.bundles.fetch(VERSION))


def test_another_bundle_of_the_same_name_is_not_written_over(shared: Storage) -> None:
    one, two = shared.machine("one"), shared.machine("two")
    one.publish()
    save(replace(small_bundle(), statistics={}), two.folder)

    with pytest.raises(BundleError, match="never overwritten"):
        two.bundles.publish(VERSION)
    assert two.bundles.unpublished() == [VERSION]
    one.bundles.check(VERSION)


def test_a_bundle_that_is_damaged_here_is_not_published(shared: Storage) -> None:
    trainer = shared.machine("trainer")
    trainer.seal()
    (trainer.folder / VERSION / "golden.jsonl").write_text("{}")
    with pytest.raises(BundleError, match=r"golden\.jsonl"):
        trainer.bundles.publish(VERSION)
    assert shared.machine("server").bundles.names() == []


def test_copies_of_what_was_discarded_elsewhere_go_with_the_next_download(shared: Storage) -> None:
    trainer, server = shared.machine("trainer"), shared.machine("server")
    trainer.publish()
    server.bundles.fetch(VERSION)
    server.seal("20261120T000000Z-00000a")
    trainer.bundles.discard(VERSION)
    trainer.publish(LATER)

    server.bundles.fetch(LATER)

    assert LocalBundles(server.folder).names() == ["20261120T000000Z-00000a", LATER]
    assert server.bundles.unpublished() == ["20261120T000000Z-00000a"]


FETCHES = """
import sys
from pathlib import Path
from model.bundle import verify
from service.bundles import SharedBundles
from service.remote import RemoteFolder

download = RemoteFolder.download
counted = []

def count(self, *arguments):
    counted.append(arguments)
    return download(self, *arguments)

RemoteFolder.download = count
print("ready", flush=True)
sys.stdin.readline()
verify(SharedBundles(sys.argv[1], Path(sys.argv[2])).fetch(sys.argv[3]))
print(len(counted))
"""


def test_of_processes_that_fetch_at_once_one_downloads(shared: Storage) -> None:
    shared.machine("trainer").publish()
    command = [sys.executable, "-c", FETCHES, str(shared.url), str(shared.machine("server").folder), VERSION]
    fetching = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(2)
    ]
    for process in fetching:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in fetching:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()

    assert sorted(int(process.communicate()[0]) for process in fetching) == [0, len(FILES)]


def test_with_the_storage_away_a_copy_serves_and_stands_in_for_it(on_s3: Storage, cut: Callable[[], None]) -> None:
    trainer, server = on_s3.machine("trainer"), on_s3.machine("server")
    trainer.publish()
    server.bundles.fetch(VERSION)
    cut()
    restarted = on_s3.machine("server").bundles

    verify(restarted.fetch(VERSION))
    assert restarted.holds(VERSION)
    restarted.check(VERSION)


def test_with_the_storage_away_what_is_not_here_is_refused_with_the_address(
    on_s3: Storage, cut: Callable[[], None]
) -> None:
    on_s3.machine("trainer").publish()
    cut()
    server = on_s3.machine("server")
    server.seal(LATER)
    asked: list[Callable[[], object]] = [
        lambda: server.bundles.fetch(VERSION),
        lambda: server.bundles.holds(VERSION),
        lambda: server.bundles.check(VERSION),
        lambda: server.bundles.publish(LATER),
        lambda: server.bundles.discard(LATER),
        server.bundles.names,
        server.bundles.manifests,
    ]
    for ask in asked:
        with pytest.raises(BundlesUnavailable, match=rf"{on_s3.files.url} are not available \(.*{NOWHERE}.*network"):
            ask()
    assert server.bundles.unpublished() == [LATER]
    assert not list(server.folder.glob(".*.partial"))


def test_a_server_that_dies_is_an_outage_and_not_an_absence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_server() as environ:
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        make_bucket("bucket")
        machine = Storage(tmp_path, "s3://bucket").machine("one")
        machine.publish()
    with pytest.raises(BundlesUnavailable):
        machine.bundles.names()
    machine.bundles.check(VERSION)


def test_a_bucket_that_does_not_exist_is_named_with_what_to_do(s3: Mapping[str, str], on_s3: Storage) -> None:
    machine = Storage(on_s3.home, "s3://no-such-bucket/prefix").machine("one")
    machine.seal()
    for ask in (machine.bundles.names, machine.bundles.manifests, lambda: machine.bundles.publish(VERSION)):
        with pytest.raises(BundlesUnavailable, match=r"s3://no-such-bucket/prefix .* make the bucket"):
            ask()


def test_a_key_that_is_refused_or_missing_asks_for_credentials_and_shows_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Storage(tmp_path, "s3://bucket").machine("one")
    machine.seal()
    with s3_server(forbidding=True) as environ:
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(BundlesUnavailable, match="give the process credentials") as forbidden:
            machine.bundles.publish(VERSION)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("HOME", str(tmp_path))
        with pytest.raises(BundlesUnavailable, match="give the process credentials"):
            Storage(tmp_path, "s3://bucket").machine("one").bundles.names()
    assert SECRET not in str(forbidden.value)
    assert environ["AWS_ACCESS_KEY_ID"] not in str(forbidden.value)


def test_a_folder_that_takes_no_copy_is_named(shared: Storage) -> None:
    shared.machine("trainer").publish()
    server = shared.machine("server")
    server.folder.touch()
    with pytest.raises(BundleError, match=f"cannot be kept in {server.folder}"):
        server.bundles.fetch(VERSION)


@pytest.mark.parametrize("version", ["../secrets", "..", "", VERSION + "\n"])
def test_what_is_no_version_reaches_no_file(shared: Storage, version: str) -> None:
    machine = shared.machine("one")
    for ask in (machine.bundles.fetch, machine.bundles.publish, machine.bundles.discard, machine.bundles.check):
        with pytest.raises(BundleError, match="is not a version"):
            ask(version)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nope://bucket", "nope is no protocol known here"),
        ("some/folder", "names no protocol"),
        ("", "names no protocol"),
        ("s3://", "names no bucket"),
        ("s3://key:hidden@bucket/x", r"'s3://\*\*\*@bucket/x': an address is no place for credentials"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_at_once(tmp_path: Path, url: str, words: str) -> None:
    with pytest.raises(BundlesUrlRefused, match=words) as refused:
        SharedBundles(url, tmp_path)
    assert "hidden" not in str(refused.value)


def test_without_the_library_for_s3_the_refusal_names_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(protocol: str) -> type:
        raise ImportError(f"no library for {protocol}")

    monkeypatch.setattr("fsspec.get_filesystem_class", absent)
    with pytest.raises(BundlesUrlRefused, match=r"pip install 'appshelf\[s3\]'"):
        SharedBundles("s3://bucket/prefix", tmp_path)


FORKS_AND_ENDS = """
import os, sys
from pathlib import Path
from service.bundles import SharedBundles

bundles = SharedBundles(sys.argv[1], Path(sys.argv[2]))
here = bundles.names()
child = os.fork()
if not child:
    os._exit(0 if bundles.names() == here else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), here, bundles.names() == here)
"""


def test_a_forked_process_has_its_own_connection_and_ends_without_a_warning(shared: Storage) -> None:
    shared.machine("trainer").publish()
    command = [sys.executable, "-W", "error", "-c", FORKS_AND_ENDS, str(shared.url), str(shared.machine("a").folder)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr) == (f"0 {[VERSION]} True\n", "")
