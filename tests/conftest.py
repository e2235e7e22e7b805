"""What every test runs under."""

import pytest
import torch
from hypothesis import settings

settings.register_profile("untimed", deadline=None)  # how long an example takes says nothing on a busy machine
settings.load_profile("untimed")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Networks this small only wait for further threads, and on a busy machine they wait long."""
    torch.set_num_threads(1)
