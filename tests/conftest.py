"""What every test runs under."""

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Networks this small only wait for further threads, and on a busy machine they wait long."""
    torch.set_num_threads(1)
