"""Asking for a retrain, over HTTP or on the command line."""

from collections.abc import Mapping
from typing import Any

from service.container import Container
from service.jobs.options import RetrainOptions
from service.jobs.queue import RETRAIN
from service.store.job_ports import Job


def ask_retrain(container: Container, given: Mapping[str, Any], *, who: str) -> Job:
    """Queue a retrain with these options, see RetrainOptions; None leaves one to the settings.

    Raises RetrainRefused, UnknownVersion for a version to start from that is none, and JobUnderWay.
    """
    options = RetrainOptions.of(given, container.settings)
    if options.start_from:
        container.registry.get(options.start_from)
    return container.queue.submit(RETRAIN, options.as_json(), who=who)
