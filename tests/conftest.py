"""What every test runs under."""

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Small nets on several threads wait for each other longer than they compute."""
    torch.set_num_threads(1)
