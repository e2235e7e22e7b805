from pathlib import Path

import pytest

from tests.service.jobs.workshop import Workshop


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)
