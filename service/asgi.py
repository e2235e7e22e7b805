"""The entry of one serving process: reads the environment once and builds the application."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType

import torch
from fastapi import FastAPI

from service.api.app import create_app
from service.container import build
from service.keys import Keys
from service.settings import Settings
from service.telemetry import METRICS_FOLDER, log_to_stdout

SWITCH_S = 0.0001
"""After how long a thread that follows the store or prepares a version lets a request have the interpreter."""

log = logging.getLogger(__name__)


def create(environ: Mapping[str, str] | None = None) -> FastAPI:
    """The application with the settings of `environ`, by default the process's own.

    Raises SettingsRefused, HomeUnusable, StoreUnavailable, StoreTooNew.
    """
    variables = os.environ if environ is None else environ
    settings = Settings.from_env(variables)
    log_to_stdout(settings.log_level)
    torch.set_num_threads(settings.torch_threads)
    sys.setswitchinterval(SWITCH_S)
    folder = variables.get(METRICS_FOLDER)
    container = build(settings, metrics_folder=Path(folder) if folder else None)
    keys = Keys.load(settings, container.home, announce=lambda _: _say_where(container.home.admin_key_file))
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            _before_signal(number, container.readiness.drain)
    return create_app(container, keys)


def _say_where(file: Path) -> None:
    log.info("an admin key was made; it is in %s", file)


def _before_signal(number: signal.Signals, call: Callable[[], None]) -> None:
    """Make `call` when the signal comes, then what was to be done before: the server's own orderly end."""
    former = signal.getsignal(number)

    def handle(_number: int, _frame: FrameType | None) -> None:
        call()
        signal.signal(number, former)
        signal.raise_signal(number)

    signal.signal(number, handle)
