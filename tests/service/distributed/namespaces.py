"""Two network namespaces with a cable between them: as near to two machines as one machine comes."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.service.distributed.torchrun import missed


@dataclass(frozen=True)
class Namespace:
    """A network of its own. link: the end of the cable in it; address: its own on the cable."""

    name: str
    link: str
    address: str

    def command(self, *words: str) -> list[str]:
        """`words`, run within it."""
        return ["ip", "netns", "exec", self.name, *words]


@contextmanager
def two_namespaces() -> Iterator[tuple[Namespace, Namespace]]:
    """Skips the test, saying why, where they cannot be made; fails it there under CI=true."""
    if shutil.which("ip") is None:
        missed("ip is not installed; Debian's package iproute2 has it")
    if os.geteuid() != 0:
        missed("only root may make network namespaces")
    ends = tuple(
        Namespace(f"appshelf{os.getpid()}{side}", f"as{os.getpid() % 100000}{side}", f"10.213.77.{place}")
        for place, side in enumerate("ab", start=1)
    )
    try:
        for end in ends:
            _made("netns", "add", end.name)
        _made("link", "add", ends[0].link, "type", "veth", "peer", "name", ends[1].link)
        for end in ends:
            _made("link", "set", end.link, "netns", end.name)
            _made("-n", end.name, "address", "add", f"{end.address}/24", "dev", end.link)
            _made("-n", end.name, "link", "set", end.link, "up")
            _made("-n", end.name, "link", "set", "lo", "up")
        yield ends[0], ends[1]
    finally:
        for end in ends:  # the cable goes with them
            subprocess.run(["ip", "netns", "delete", end.name], capture_output=True, check=False)


def _made(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        missed(f"`ip {' '.join(words)}` is refused here: {done.stderr.strip()}")
