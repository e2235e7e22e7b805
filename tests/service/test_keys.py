import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import SecretStr

from service.errors import BindRefused, HomeUnusable, SettingsRefused
from service.home import Home
from service.keys import Keys, Scope, check_bind
from service.settings import Settings


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def silent(key: str) -> None:
    """Announces nothing."""


def test_rank_and_events_are_open_until_a_key_is_set(home: Home) -> None:
    keys = Keys.load(Settings(), home, announce=silent)

    assert keys.allows(Scope.RANK, None)
    assert keys.allows(Scope.EVENTS, "anything")


def test_a_scope_with_a_key_opens_to_that_key_only(home: Home) -> None:
    keys = Keys.load(Settings(rank_key=SecretStr("r"), admin_key=SecretStr("a")), home, announce=silent)

    assert keys.allows(Scope.RANK, "r")
    assert not any(keys.allows(Scope.RANK, bearer) for bearer in (None, "", "a", "R", "r\udcff"))
    assert keys.allows(Scope.EVENTS, None)


def test_admin_is_never_open(home: Home) -> None:
    keys = Keys.load(Settings(admin_key=SecretStr("a")), home, announce=silent)

    assert keys.allows(Scope.ADMIN, "a")
    assert not keys.allows(Scope.ADMIN, None)
    assert not keys.allows(Scope.ADMIN, "")
    assert not Keys({}).allows(Scope.ADMIN, "")


def test_an_admin_key_is_made_at_the_first_start_and_announced_once(home: Home) -> None:
    announced: list[str] = []

    Keys.load(Settings(), home, announce=announced.append)
    again = Keys.load(Settings(), home, announce=announced.append)

    (key,) = announced
    assert len(key) >= 32
    assert again.allows(Scope.ADMIN, key)


def test_the_admin_key_file_is_for_its_owner_alone(home: Home) -> None:
    Keys.load(Settings(), home, announce=silent)

    assert stat.S_IMODE(home.admin_key_file.stat().st_mode) == 0o600
    assert [file.name for file in home.root.iterdir()] == ["admin.key"]


def test_a_key_of_the_settings_leaves_no_file(home: Home) -> None:
    Keys.load(Settings(admin_key=SecretStr("a")), home, announce=silent)

    assert not home.admin_key_file.exists()


def test_an_empty_admin_key_file_opens_nothing(home: Home) -> None:
    home.admin_key_file.write_text("\n")

    with pytest.raises(SettingsRefused, match=r"admin\.key is empty; delete it"):
        Keys.load(Settings(), home, announce=silent)


def test_an_admin_key_file_that_cannot_be_read_is_refused_by_name(home: Home) -> None:
    home.admin_key_file.mkdir()

    with pytest.raises(HomeUnusable, match=r"admin\.key: Is a directory"):
        Keys.load(Settings(), home, announce=silent)


def test_starts_at_the_same_time_end_up_with_one_admin_key(home: Home) -> None:
    announced: list[str] = []
    with ThreadPoolExecutor(8) as threads:
        loads = [threads.submit(Keys.load, Settings(), home, announce=announced.append) for _ in range(8)]

    (key,) = announced
    assert all(load.result().allows(Scope.ADMIN, key) for load in loads)


def test_no_key_is_kept_in_memory(home: Home) -> None:
    keys = Keys.load(Settings(rank_key=SecretStr("open sesame"), admin_key=SecretStr("a")), home, announce=silent)

    assert "sesame" not in str(vars(keys))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_open_calls_may_be_served_to_this_machine(host: str) -> None:
    check_bind(Settings(host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "10.0.0.1", "shelf.example"])
def test_open_calls_are_not_served_beyond_this_machine(host: str) -> None:
    with pytest.raises(BindRefused, match="set APPSHELF_RANK_KEY and APPSHELF_EVENTS_KEY"):
        check_bind(Settings(host=host))


def test_what_has_no_key_is_named() -> None:
    with pytest.raises(BindRefused, match="set APPSHELF_EVENTS_KEY, bind"):
        check_bind(Settings(host="0.0.0.0", rank_key=SecretStr("r")))


def test_calls_with_keys_or_with_leave_are_served_to_anyone() -> None:
    check_bind(Settings(host="0.0.0.0", rank_key=SecretStr("r"), events_key=SecretStr("e")))
    check_bind(Settings(host="0.0.0.0", allow_public=True))
