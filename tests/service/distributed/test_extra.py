import re
import tomllib

from service.distributed.ranks import EXTRA
from tests.service.distributed.torchrun import ROOT


def test_what_the_extra_needs_is_pinned_and_what_a_person_is_told_to_install_is_the_same() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = re.findall(r"^([\w.-]+==\S+)$", (ROOT / "requirements-distributed.lock").read_text(encoding="utf-8"), re.M)
    names = {pin.partition("==")[0] for pin in pins}

    wanted = project["optional-dependencies"]["distributed"]
    assert {name.partition("==")[0] for name in wanted} <= names
    assert {name for name in wanted if "==" in name} <= set(pins)
    assert set(re.findall(r"\S+==\S+", EXTRA)) <= set(pins)
