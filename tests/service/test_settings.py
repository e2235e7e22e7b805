import stat
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from service.errors import HomeUnusable, SettingsRefused
from service.settings import Settings
from service.settings_file import write_settings
from tests.model.test_bundle import disk_with_room_for


def test_the_defaults_serve_this_machine_alone() -> None:
    settings = Settings.from_env({})

    assert (settings.home, settings.host, settings.port) == (Path("var"), "127.0.0.1", 8000)
    assert not settings.allow_public


def test_variables_set_fields() -> None:
    settings = Settings.from_env(
        {"APPSHELF_PORT": "8011", "APPSHELF_HOME": "/srv/shelf", "APPSHELF_ALLOW_PUBLIC": "yes"}
    )

    assert (settings.port, settings.home, settings.allow_public) == (8011, Path("/srv/shelf"), True)


def test_variables_of_others_are_left_alone() -> None:
    assert Settings.from_env({"PATH": "/bin", "PORT": "99999"}) == Settings()


def test_only_the_environment_given_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APPSHELF_PORT", "8011")

    assert Settings.from_env({}).port == Settings().port == 8000


@pytest.mark.parametrize("name", ["APPSHELF_PROT", "APPSHELF_PROT__X"])
def test_an_unknown_variable_is_refused_with_the_nearest_known_one(name: str) -> None:
    with pytest.raises(SettingsRefused, match=f"{name} is not a setting; the nearest is APPSHELF_PORT"):
        Settings.from_env({name: "8011"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("APPSHELF_PORT", "99999"),
        ("APPSHELF_PORT", "http"),
        ("APPSHELF_WORKERS", "0"),
        ("APPSHELF_POLL_S", "0"),
        ("APPSHELF_POLL_S", "nan"),
        ("APPSHELF_ROLLOUT_DEADLINE_S", "inf"),
        ("APPSHELF_LOG_LEVEL", "loud"),
    ],
)
def test_a_value_out_of_bounds_is_refused_by_name_and_value(name: str, value: str) -> None:
    with pytest.raises(SettingsRefused, match=f"{name} does not allow '{value}': "):
        Settings.from_env({name: value})


def test_a_part_of_a_setting_that_has_none_is_refused() -> None:
    with pytest.raises(SettingsRefused, match="APPSHELF_PORT__X is not a setting"):
        Settings.from_env({"APPSHELF_PORT__X": "1"})


def test_an_empty_key_is_refused_instead_of_opening_the_call() -> None:
    with pytest.raises(SettingsRefused, match="APPSHELF_RANK_KEY does not allow the value given"):
        Settings.from_env({"APPSHELF_RANK_KEY": ""})


def test_a_lease_shorter_than_a_few_polls_is_refused() -> None:
    with pytest.raises(SettingsRefused, match=r"lease_timeout_s 1\.0 is under four times poll_s 0\.5"):
        Settings.from_env({"APPSHELF_LEASE_TIMEOUT_S": "1", "APPSHELF_POLL_S": "0.5"})


def test_a_wait_for_redis_longer_than_a_ranking_may_wait_is_refused_where_there_is_one() -> None:
    slow = {"APPSHELF_REDIS_TIMEOUT_S": "0.5"}
    assert Settings.from_env(slow).redis_timeout_s == 0.5
    with pytest.raises(SettingsRefused, match=r"redis_timeout_s 0\.5 is over shed_after_s 0\.1"):
        Settings.from_env({**slow, "APPSHELF_REDIS_URL": "redis://r"})
    assert Settings.from_env({"APPSHELF_REDIS_URL": "redis://r"}).patient().redis_timeout_s == 10.0


def test_settings_do_not_change_while_they_are_used() -> None:
    with pytest.raises(ValidationError):
        Settings().port = 1  # type: ignore[misc]  # what the test is about


def test_secrets_are_masked_wherever_they_are_shown() -> None:
    settings = Settings.from_env({"APPSHELF_ADMIN_KEY": "open sesame"})

    assert settings.admin_key == SecretStr("open sesame")
    assert "sesame" not in repr(settings) + str(settings) + str(settings.describe())


def test_every_setting_is_described_with_where_it_comes_from() -> None:
    rows = {row.name: row for row in Settings.from_env({"APPSHELF_PORT": "8011"}).describe()}

    assert len(rows) == len(Settings.model_fields)
    assert all(row.description.endswith(".") for row in rows.values())
    assert (rows["APPSHELF_PORT"].value, rows["APPSHELF_PORT"].default) == ("8011", "8000")
    assert (rows["APPSHELF_PORT"].source, rows["APPSHELF_HOST"].source) == ("environment", "default")
    assert rows["APPSHELF_ALLOW_PUBLIC"].value == "false"


def home_with(folder: Path, text: str) -> dict[str, str]:
    """The environment of a home whose file holds `text`."""
    (folder / "settings.json").write_text(text)
    return {"APPSHELF_HOME": str(folder)}


def test_the_homes_file_sets_what_the_environment_does_not(tmp_path: Path) -> None:
    env = home_with(tmp_path, '{"workers": 2, "torch_threads": 3}')

    settings = Settings.from_env({**env, "APPSHELF_WORKERS": "4"})

    assert (settings.workers, settings.torch_threads) == (4, 3)
    sources = {row.name: row.source for row in settings.describe()}
    assert sources["APPSHELF_WORKERS"] == sources["APPSHELF_HOME"] == "environment"
    assert sources["APPSHELF_TORCH_THREADS"] == "file"
    assert sources["APPSHELF_PORT"] == "default"
    assert {row.name: row.source for row in settings.patient().describe()} | {"APPSHELF_REDIS_TIMEOUT_S": ""} == {
        **sources,
        "APPSHELF_REDIS_TIMEOUT_S": "",
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"worker": 2}', "settings.json: worker is not a setting; the nearest is workers"),
        ('{"home": "/elsewhere"}', "settings.json: home is not a setting; the nearest is"),
        ('{"workers": 0}', "settings.json: workers does not allow 0: "),
        ('{"redis_url": 7}', "settings.json: redis_url does not allow the value given: "),
        ("[1]", "settings.json is no JSON object of settings"),
        ("{", "settings.json is no JSON: "),
        ("\xff", "settings.json is no JSON: "),
    ],
)
def test_a_file_that_is_not_allowed_is_refused_by_its_name(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(SettingsRefused, match=told):
        Settings.from_env(home_with(tmp_path, text))


def test_a_file_that_cannot_be_read_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "settings.json").mkdir()
    with pytest.raises(SettingsRefused, match=r"settings.json cannot be read: Is a directory"):
        Settings.from_env({"APPSHELF_HOME": str(tmp_path)})


def test_what_is_written_is_read_and_what_was_set_before_stays(tmp_path: Path) -> None:
    home = tmp_path / "new"
    write_settings(home, {"workers": 2, "port": 8011})
    written = write_settings(home, {"workers": 3})

    assert written == home / "settings.json"
    assert list(home.iterdir()) == [written]
    settings = Settings.from_env({"APPSHELF_HOME": str(home)})
    assert (settings.workers, settings.port) == (3, 8011)


def test_a_file_that_is_written_is_this_users_alone_and_one_that_was_there_stays_readable_to_whom_it_was(
    tmp_path: Path,
) -> None:
    file = write_settings(tmp_path, {"workers": 2})
    assert stat.S_IMODE(file.stat().st_mode) == 0o600

    for mode in (0o600, 0o644):
        file.chmod(mode)
        write_settings(tmp_path, {"workers": 3})
        assert stat.S_IMODE(file.stat().st_mode) == mode


def test_a_full_disk_leaves_the_file_that_was_there_and_no_other(tmp_path: Path) -> None:
    file = write_settings(tmp_path, {"workers": 2})
    before = file.read_bytes()
    with disk_with_room_for(len(before)), pytest.raises(HomeUnusable):
        write_settings(tmp_path, {"workers": 3, "port": 8011})
    assert list(tmp_path.iterdir()) == [file]
    assert file.read_bytes() == before


def test_a_home_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("no folder")
    with pytest.raises(HomeUnusable):
        write_settings(tmp_path / "home", {"workers": 2})


@pytest.mark.parametrize("name", ["APPSHELF_ADMIN_KEY", "APPSHELF_RANK_KEY", "APPSHELF_EVENTS_KEY"])
@pytest.mark.parametrize("key", ["sesame\n", " sesame", "ses\name", "schlüssel", " "])
def test_a_key_that_no_client_can_send_is_refused_and_not_shown(name: str, key: str) -> None:
    with pytest.raises(SettingsRefused, match=f"{name} does not allow the value given") as refused:
        Settings.from_env({name: key})
    assert "no client can send it" in str(refused.value)
    assert "ses" not in str(refused.value)
    assert "schl" not in str(refused.value)
