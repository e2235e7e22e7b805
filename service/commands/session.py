"""What a verb works in: its settings, the object graph over its home, and refusals as sentences."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from service.errors import ServiceError
from service.settings import Settings
from service.store.ports import Note

if TYPE_CHECKING:
    from service.container import Container


class Refusal(ServiceError):
    """Something that the model, the data or the schema refuses, in its own words."""


def settings_of(context: typer.Context) -> Settings:
    """The settings of the environment that the command line was given. Raises SettingsRefused."""
    return Settings.from_env(context.obj)


@contextmanager
def opened(context: typer.Context) -> Iterator["Container"]:
    """The parts over the home, bundles that were sealed but not entered among them. Raises ServiceError only."""
    from service.container import build  # here, since torch takes seconds to import and `--help` needs none of it
    from service.lifecycle import enter_orphans

    with refusals():
        container = build(settings_of(context).patient())
        enter_orphans(container)
        yield container


@contextmanager
def refusals() -> Iterator[None]:
    """Turn what the model's side refuses into a Refusal; anything else is a bug and keeps its traceback."""
    from model.data.dataset import DatasetError
    from model.data.report import ImportRefused
    from model.manifest import BundleError
    from model.schema import SchemaError
    from model.training import TrainingFailed
    from model.zoo import UnknownArchitecture

    try:
        yield
    except (BundleError, DatasetError, ImportRefused, SchemaError, TrainingFailed, UnknownArchitecture) as error:
        raise Refusal(str(error)) from error


def note_of(context: typer.Context, *, why: str, force: bool = False) -> Note:
    """Who acts, as the history keeps it. Raises UnreasonedForce."""
    who = f"command line, {context.obj.get('USER', 'unknown user')}"
    return Note(_text(who), _text(why), force)


def _text(given: str) -> str:
    """What was given without the bytes that were no text, which no store takes."""
    return given.encode(errors="replace").decode()
