import subprocess
import sys
from pathlib import Path

import pytest

from service.errors import HomeInUse, HomeUnusable
from service.home import Home, exclusive

HELD = """
import sys
from pathlib import Path
from service.home import exclusive

with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_home_is_made_with_its_folders_and_made_again_without_harm(tmp_path: Path) -> None:
    home = Home(tmp_path / "a" / "b")
    home.ensure()
    (home.bundles / "kept").touch()

    home.ensure()

    assert (home.bundles / "kept").exists()
    assert home.reports.is_dir()


def test_everything_lies_below_the_root(tmp_path: Path) -> None:
    home = Home(tmp_path)

    paths = [home.bundles, home.data, home.store, home.reports, home.admin_key_file, home.serve_lock]

    assert {path.parent for path in paths} == {tmp_path}
    assert len(set(paths)) == len(paths)


def test_a_home_that_cannot_be_made_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(HomeUnusable, match="file/home cannot be used"):
        Home(tmp_path / "file" / "home").ensure()


def test_a_lock_that_cannot_be_made_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(HomeUnusable, match=r"serve\.lock: No such file"), exclusive(tmp_path / "gone" / "serve.lock"):
        pytest.fail("locked in a folder that is not there")


def test_a_lock_is_free_again_after_its_block(tmp_path: Path) -> None:
    lock = Home(tmp_path).serve_lock

    for _ in range(2):
        with exclusive(lock):
            pass


def test_a_second_server_is_refused_and_told_who_holds_the_home(tmp_path: Path) -> None:
    lock = Home(tmp_path).serve_lock

    with held_by_another(lock) as holder:
        refused = pytest.raises(HomeInUse, match=f"served by process {holder.pid} ")
        with refused, exclusive(lock):
            pytest.fail("two servers hold one home")


def test_the_lock_of_a_killed_server_is_free(tmp_path: Path) -> None:
    lock = Home(tmp_path).serve_lock
    with held_by_another(lock) as holder:
        holder.kill()
        holder.wait()

        with exclusive(lock):
            pass


def held_by_another(lock: Path) -> "subprocess.Popen[str]":
    """A process that holds the lock until its standard input is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HELD, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process
