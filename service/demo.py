"""The demo: a synthetic app store, and a network of its size trained on it. `appshelf demo` makes it, and a worker."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from model.data.dataset import DatasetError, read
from model.data.synthetic import SyntheticConfig, dataset
from model.training import Progress, TrainConfig
from service.container import Container
from service.errors import DemoData, ForeignData
from service.home import Home
from service.importing import keep
from service.lifecycle import train_version

MADE = "synthetic"
"""The source that a demo's data names."""

NETWORK: dict[str, Any] = {
    "params": {"dim": 8, "hidden": [128, 64, 32]},
    "recipe_options": {"alpha": 0.1, "l1": 30.0, "rate": 0.05},
    "batch_size": 256,
}
"""A network of the size of the demo's store; the paper's is for a log hundreds of times as long."""


def make_store(container: Container) -> int:
    """Write the synthetic store into the home and the feature store; the rows to train on.

    Raises ForeignData where the home holds someone's own data, which this would write over, and HomeUnusable.
    """
    refuse_foreign(container.home)
    made, _ = dataset(SyntheticConfig.demo())
    keep(made, container.home, container.features)
    return int(made.facts.counts["train"])


def refuse_foreign(home: Home) -> None:
    """Raise ForeignData where the home holds data that no demo has made."""
    if home.data.exists() and (source := read(home.data).facts.source) != MADE:
        raise ForeignData(home.root, source=source)


def refuse_demo(home: Home) -> None:
    """Raise DemoData where the home holds what a demo has made; data that cannot be read is nobody's."""
    with suppress(DatasetError):
        if read(home.data).facts.source == MADE:
            raise DemoData(home.root)


def train_demo(container: Container, *, token: str, progress: Callable[[Progress], None]) -> str:
    """Train on the store that was made; the version, a challenger."""
    return train_version(container, TrainConfig.model_validate(NETWORK), token=token, progress=progress)
