"""What a rank of a distributed training is: one process of those that torchrun starts and, when one dies, restarts."""

import importlib.util
import logging
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from model.causes import first_line
from service.errors import ServiceError

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

EXTRA = 'pip install "appshelf[distributed]" && pip install --no-deps torchrec==1.8.0'
PATIENCE = timedelta(minutes=30)
"""How long a rank waits for another, which may be sealing a bundle."""

PORT = "appshelf.port"
TRIES, BETWEEN_S = 600, 0.5


class DistributedRefused(ServiceError):
    """A distributed training cannot start or go on; the message says what to do."""


@dataclass(frozen=True)
class Ranks:
    """This process among `count`. master: where torchrun's store listens, on the machine of the first rank."""

    rank: int
    count: int
    master: tuple[str, int] = ("127.0.0.1", 0)

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> "Ranks":
        """As torchrun tells it. Raises DistributedRefused without torchrun, and without the extra."""
        missing = [name for name in ("torchrec", "fbgemm_gpu") if importlib.util.find_spec(name) is None]
        if missing:
            raise DistributedRefused(f"{' and '.join(missing)} not installed; {EXTRA}")
        try:
            master = environ["MASTER_ADDR"], int(environ["MASTER_PORT"])
            return cls(int(environ["RANK"]), int(environ["WORLD_SIZE"]), master)
        except (KeyError, ValueError) as error:
            raise DistributedRefused(
                "RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT are not all set; start it as `torchrun "
                "--nproc-per-node 2 -m service.distributed`"
            ) from error

    @property
    def first(self) -> bool:
        """Whether this is the rank that reports and makes the bundle."""
        return self.rank == 0

    def __str__(self) -> str:
        return f"rank {self.rank} of {self.count}"


@contextmanager
def joined(ranks: Ranks) -> Iterator[None]:
    """Every rank is there. Raises DistributedRefused where another is lost on the way."""
    import torch.distributed as dist

    for name in ("torchrec", "torch.fx._symbolic_trace"):  # they warn on every rank of what is only theirs to change
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        store = _store(ranks)
        dist.init_process_group("gloo", store=store, rank=ranks.rank, world_size=ranks.count, timeout=PATIENCE)
        yield
    except (RuntimeError, ConnectionError) as error:
        if not _lost(error):
            raise
        raise DistributedRefused(
            f"another rank is gone ({first_line(error)}); torchrun starts all ranks again, which go on from the last "
            "checkpoint, as often as --max-restarts allows"
        ) from error
    else:
        dist.destroy_process_group()


def _store(ranks: Ranks) -> "Store":
    """Where the ranks find each other: a store of the first one's own, which ends with it.

    torchrun's store outlives a restart, and a rank that is quick would read there where the ranks were that are dead.
    """
    from torch._C._distributed_c10d import TCPStore

    address, port = ranks.master
    shared = TCPStore(address, port, is_master=False, timeout=PATIENCE)
    if ranks.first:
        own = TCPStore(address, 0, ranks.count, is_master=True, timeout=PATIENCE, wait_for_workers=False)
        shared.set(PORT, str(own.port))
        return own
    for _ in range(TRIES):  # what is written there may be of a rank that is dead, until the one that is not has written
        written = int(shared.get(PORT))
        if _listens(address, written):
            return TCPStore(address, written, ranks.count, timeout=PATIENCE, wait_for_workers=False)
        time.sleep(BETWEEN_S)
    raise DistributedRefused(f"rank 0 does not answer on {address}; see why on its machine")


def _listens(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=BETWEEN_S):
            return True
    except OSError:
        return False


def _lost(error: BaseException) -> bool:
    """Whether an error is that of a connection to a process that is no more, which gloo tells by text alone.

    Refusals of our own are errors of their own kinds, and may name a folder that is called like that.
    """
    from torch.distributed import DistError

    torchs = type(error) is RuntimeError or isinstance(error, DistError | ConnectionError)
    return torchs and any(sign in str(error) for sign in ("gloo", "Connection", "connection", "Socket", "Broken pipe"))
