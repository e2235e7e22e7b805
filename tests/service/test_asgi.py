"""The entry of a serving process."""

import logging
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.asgi import create
from service.errors import SettingsRefused
from tests.service.store_front import ADMIN_KEY
from tests.service.wire import ADMIN, Client, problem

ENDINGS = (signal.SIGTERM, signal.SIGINT)


@pytest.fixture(autouse=True)
def process_as_before() -> Iterator[None]:
    root, hooked = logging.getLogger(), {number: signal.getsignal(number) for number in ENDINGS}
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for number, handler in hooked.items():
        signal.signal(number, handler)


def environment(home: Path) -> dict[str, str]:
    return {"APPSHELF_HOME": str(home), "APPSHELF_ADMIN_KEY": ADMIN_KEY, "PATH": "/bin"}


def test_the_application_is_made_from_the_environment_given(home: Path) -> None:
    with Client(create(environment(home))) as client:
        assert client.get("/readyz").status_code == 200
        assert client.get("/admin/versions", headers=ADMIN).status_code == 200


def test_an_unknown_setting_stops_it_at_once(home: Path) -> None:
    with pytest.raises(SettingsRefused, match="APPSHELF_HOEM"):
        create({**environment(home), "APPSHELF_HOEM": "x"})


def test_a_made_admin_key_is_never_logged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    create({"APPSHELF_HOME": str(tmp_path)})
    key = (tmp_path / "admin.key").read_text().strip()
    logged = capsys.readouterr().out
    assert str(tmp_path / "admin.key") in logged
    assert key not in logged


@pytest.mark.parametrize("ending", ENDINGS)
def test_told_to_end_it_is_not_ready_and_the_servers_own_end_follows(home: Path, ending: signal.Signals) -> None:
    ended: list[int] = []
    signal.signal(ending, lambda number, _: ended.append(number))
    with Client(create(environment(home))) as client:
        assert client.get("/readyz").status_code == 200
        signal.raise_signal(ending)
        problem(client.get("/readyz"), 503)
    assert ended == [ending]
