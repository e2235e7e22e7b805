"""A process beside this one: started again when it dies, ended with it, and ending itself where this one was killed."""

import logging
import subprocess
import sys
from collections.abc import Mapping, Sequence
from threading import Event, Thread

from service.lifeline import with_this_code

LOOK_S = 0.5
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
END_S = 15.0

log = logging.getLogger(__name__)


class Companion:
    """`python` with these arguments for as long as this process lives; its standard input is a pipe from here.

    A Ctrl-C is not its, since this process passes on what comes of it. One that dies is started again after a pause,
    each time a longer one.
    """

    def __init__(self, arguments: Sequence[str], environ: Mapping[str, str]) -> None:
        self._command = [sys.executable, *arguments]
        self._environ = with_this_code(environ)
        self._stop = Event()
        self._thread = Thread(target=self._keep, name="companion", daemon=True)

    def start(self) -> None:
        """Start it, in a moment."""
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end, and wait until it has; past END_S it is killed."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _keep(self) -> None:
        pause = FIRST_PAUSE_S
        while not self._stop.is_set():
            with subprocess.Popen(
                self._command, env=self._environ, stdin=subprocess.PIPE, start_new_session=True
            ) as process:
                code = self._watched(process)
            if code is None or self._stop.wait(pause):
                return
            log.warning("the process %s ended with %d and is started again", " ".join(self._command[1:]), code)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def _watched(self, process: "subprocess.Popen[bytes]") -> int | None:
        """Its exit code where it ended by itself, None where it was told to."""
        while not self._stop.wait(LOOK_S):
            if (code := process.poll()) is not None:
                return code
        process.terminate()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
        return None
