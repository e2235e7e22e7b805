"""The narrow ports of the store. Every method is atomic and raises StoreUnavailable where its backend is away."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from model.query import Value
from service.errors import UnreasonedForce
from service.states import State


@dataclass(frozen=True)
class UserRecord:
    """A user's stored features and the apps they used: app id to count, most used first; its keys are `installed`."""

    id: str
    features: Mapping[str, Value] = field(default_factory=dict)
    history: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class AppRecord:
    """An app's stored features and where it may be shown; no countries means everywhere."""

    id: str
    features: Mapping[str, Value] = field(default_factory=dict)
    available: bool = True
    countries: tuple[str, ...] = ()


@dataclass(frozen=True)
class AppChanges:
    """What changed after a sequence number, in order of change, and the number to ask with next.

    That number is the store's newest, lower than the one asked with where the store has lost changes. origin: names
    the numbering, where a store may come back as another at the same address; numbers of two origins do not compare.
    """

    sequence: int
    put: tuple[AppRecord, ...]
    deleted: tuple[str, ...]
    origin: str = ""


@dataclass(frozen=True)
class AppPages:
    """The whole catalogue, some apps at a time, however many there are.

    sequence, origin: as of AppChanges when the reading began; what changes meanwhile comes again after that sequence.
    count: about how many apps there are.
    """

    sequence: int
    count: int
    pages: Iterator[Sequence[AppRecord]]
    origin: str = ""


@dataclass(frozen=True)
class HistoryChange:
    """An app that a user has taken up (installed) or given up (uninstalled)."""

    user_id: str
    app_id: str
    installed: bool


class FeatureStore(Protocol):
    """Users and apps as they were put last."""

    def put_users(self, records: Iterable[UserRecord]) -> None:
        """Insert or replace users: all of them or none."""

    def get_user(self, user_id: str) -> UserRecord | None:
        """The user, None where there is none."""

    def get_users(self, user_ids: Sequence[str]) -> tuple[UserRecord | None, ...]:
        """Each user, in the order asked, None where there is none. On the path of every ranking: look-ups by key,
        in one round trip (on a cluster one to each server).
        """

    def delete_user(self, user_id: str) -> bool:
        """Forget the user; False where there was none."""

    def change_history(self, changes: Iterable[HistoryChange]) -> None:
        """Put apps into users' histories, once if they were not there, or take them out, in order; all or none.

        Making the same changes again changes nothing. A user that is not stored is stored, without features.
        """

    def users(self) -> Iterator[UserRecord]:
        """Every user, in no order, a page at a time; one that is put meanwhile may or may not be among them."""

    def put_apps(self, records: Iterable[AppRecord]) -> int:
        """Insert or replace apps, all or none; the sequence after it. An app put as it was already is no change."""

    def get_app(self, app_id: str) -> AppRecord | None:
        """The app, None where there is none or it was deleted."""

    def delete_app(self, app_id: str) -> bool:
        """Forget the app and tell `apps_since` of it; False where there was none."""

    def apps_since(self, sequence: int) -> AppChanges:
        """What was put or deleted after `sequence`, each app once as it is now; 0 gives the whole catalogue."""

    def app_pages(self) -> AppPages:
        """The whole catalogue, each app once; its pages raise StoreUnavailable too."""

    def ping(self) -> None:
        """Touch the store; raises where it is away."""


@dataclass(frozen=True)
class Note:
    """Who moves a version and why, as the history keeps it. Raises UnreasonedForce for force without a reason."""

    who: str
    why: str
    force: bool = False

    def __post_init__(self) -> None:
        if self.force and not self.why.strip():
            raise UnreasonedForce


@dataclass(frozen=True)
class VersionEntry:
    """A version as the registry knows it. `report` is the newest gate report as JSON, None before the first."""

    version: str
    state: State
    created_at: str
    architecture: str
    recipe: str
    parent: str | None
    metrics: Mapping[str, float]
    report: str | None = None


@dataclass(frozen=True)
class HistoryEntry:
    """One move of one version; `at` is in epoch seconds, `was` None where the version was new."""

    at: float
    version: str
    was: State | None
    to: State
    who: str
    why: str
    forced: bool


class RegistryIndex(Protocol):
    """Versions, their states, which one is live, and how it came to that. At most one version is live at any moment."""

    def add(self, entry: VersionEntry, *, note: Note) -> None:
        """Enter a new version. Raises VersionExists where it is known."""

    def get(self, version: str) -> VersionEntry | None:
        """The entry, None where there is none."""

    def all(self) -> tuple[VersionEntry, ...]:
        """Every entry, oldest version first."""

    def move(self, version: str, to: State, *, note: Note, report: str | None = None) -> None:
        """Move a version as TRANSITIONS allows, keeping `report` if given; entering live retires the former live.

        State, live pointer and history change together or not at all. Raises UnknownVersion, IllegalTransition.
        """

    def live(self) -> str | None:
        """The live pointer: the version that every process is to serve, None before the first."""

    def history(self) -> tuple[HistoryEntry, ...]:
        """Every move, oldest first."""


class Outcome(StrEnum):
    """How a rollout ended."""

    COMMITTED = "committed"
    ABORTED = "aborted"
    EXPIRED = "expired"


@dataclass(frozen=True)
class Lease:
    """A serving process, the version it serves (None before its first) and its last heartbeat in epoch seconds."""

    process: str
    version: str | None
    beat_at: float


@dataclass(frozen=True)
class Rollout:
    """A rollout under way; `deadline` is in epoch seconds."""

    id: int
    version: str
    deadline: float


@dataclass(frozen=True)
class Vote:
    """A process's answer to a rollout: could it prepare the version?"""

    process: str
    ok: bool
    detail: str


class RolloutStore(Protocol):
    """Where serving processes and the coordinator of a rollout meet."""

    def heartbeat(self, process: str, version: str | None) -> None:
        """Take or renew the process's lease, saying what it serves."""

    def leave(self, process: str) -> None:
        """Give the lease back; nothing where there is none."""

    def leases(self, *, alive_since: float) -> tuple[Lease, ...]:
        """The leases whose last heartbeat is not before `alive_since`, by process."""

    def begin(self, version: str, *, deadline: float) -> Rollout:
        """Ask every process to prepare `version`. Raises RolloutUnderWay until another ends or is past its deadline."""

    def current(self) -> Rollout | None:
        """The rollout under way, None where there is none or it is past its deadline."""

    def vote(self, rollout: int, vote: Vote) -> None:
        """Answer for one process; its later answer replaces its earlier one."""

    def votes(self, rollout: int) -> tuple[Vote, ...]:
        """The answers so far, by process."""

    def finish(self, rollout: int, outcome: Outcome) -> None:
        """End the rollout."""

    def wait(self, timeout_s: float) -> None:
        """Return when a rollout has begun or ended, where the backend can tell, and at the latest after this long.

        Raises nothing: where the backend is away it only waits.
        """
