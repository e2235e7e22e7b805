"""What joins a process to the one that started it: this code on its path, its priority, and an end with its parent."""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Thread

ROOT = Path(__file__).parent.parent
NICENESS = 10
"""Of a process that works beside servers, so that those keep their cores."""


def with_this_code(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment in which a started Python finds this code, wherever it runs."""
    path = os.pathsep.join(filter(None, [str(ROOT), environ.get("PYTHONPATH")]))
    return {**environ, "PYTHONPATH": path}


def end_with_parent(end: Callable[[], None]) -> None:
    """Call `end` when standard input ends, which a parent that started this process with a pipe takes with it.

    However the parent ended: the kernel closes a killed process's pipes.
    """

    def watch() -> None:
        with suppress(OSError):
            while os.read(0, 1024):  # never sent; a buffered reader here would hold up this process's own end
                pass
        end()

    Thread(target=watch, name="end-with-parent", daemon=True).start()
