"""A server as the kernel sees it: processor time, memory and connections of all its processes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import psutil

Seen = TypeVar("Seen")


@dataclass(frozen=True)
class Family:
    """A server's first process and all below it."""

    root: psutil.Process

    def cpu_s(self) -> float:
        """User and system seconds so far, those of children that ended and were waited for included."""
        return sum(sum(times[:4]) for times in self._each(psutil.Process.cpu_times))

    def pss_mib(self) -> float:
        """Proportional memory: what processes share is counted once."""
        return sum(memory.pss for memory in self._each(psutil.Process.memory_full_info)) / 2**20

    def own_mib(self) -> float:
        """Memory that each process shares with no other."""
        return sum(memory.uss for memory in self._each(psutil.Process.memory_full_info)) / 2**20

    def resident_mib(self) -> float:
        """Resident memory, what is shared counted for each process that has it."""
        return sum(memory.rss for memory in self._each(psutil.Process.memory_info)) / 2**20

    def connections(self, port: int) -> tuple[int, ...]:
        """How many clients each process holds a connection of, most first; processes without are left out."""
        held = [
            sum(one.status == psutil.CONN_ESTABLISHED and one.laddr[1] == port for one in inet)
            for inet in self._each(lambda process: process.net_connections(kind="tcp"))
        ]
        return tuple(sorted((count for count in held if count), reverse=True))

    def _each(self, look: Callable[[psutil.Process], Seen]) -> Iterator[Seen]:
        for process in (self.root, *self.root.children(recursive=True)):
            try:
                yield look(process)
            except psutil.NoSuchProcess:
                continue  # it ended meanwhile, and its parent's times have its own
