"""What the service refuses or cannot do, in one sentence each: the thing, what was seen, what is allowed, what next."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from model.report import GateReport


class ServiceError(Exception):
    """Base of the errors meant for a person; the HTTP and command line edges print its text as it is."""


class UnknownVersion(ServiceError):
    """No version of that name is in the registry."""

    def __init__(self, version: str) -> None:
        super().__init__(f"version {version[:80]!r} is not in the registry; `appshelf versions` lists those that are")
        self.version = version


class VersionExists(ServiceError):
    """A version of that name is registered already."""

    def __init__(self, version: str) -> None:
        super().__init__(f"version {version!r} is already in the registry; a version is registered once, train another")
        self.version = version


class IllegalTransition(ServiceError):
    """A version cannot go from the state it is in to the state asked for."""

    def __init__(self, version: str, *, was: str, to: str, allowed: Iterable[str]) -> None:
        onward = ", ".join(sorted(allowed)) or "nothing further"
        super().__init__(f"version {version!r} is {was} and cannot become {to}; from {was} it can become {onward}")
        self.version = version


class NothingToResume(ServiceError):
    """No training was broken off in this home."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"{folder} holds no training that was broken off; leave out --resume to begin one")


class TrainingUnderWay(ServiceError):
    """Another process trains in this home."""

    def __init__(self, folder: Path, *, holder: str) -> None:
        super().__init__(f"process {holder} is training in {folder}; wait for its end, or use another APPSHELF_HOME")


class UnreasonedForce(ServiceError):
    """A forced transition was asked for without saying why."""

    def __init__(self) -> None:
        super().__init__("a forced promote was given no reason, and one is kept in the history; say it with --reason")


class NoLiveVersion(ServiceError):
    """This process serves no version yet."""

    def __init__(self) -> None:
        super().__init__(
            "no version is loaded here; where none is live train one and `appshelf promote VERSION`, "
            "where one is the log says why it cannot be loaded"
        )


class Overloaded(ServiceError):
    """More rankings are asked of this process than it can begin in time."""

    def __init__(self, observed: str) -> None:
        super().__init__(f"{observed}; ask again in a second, or of more workers")


class ClientLeft(ServiceError):
    """Whoever asked for a ranking has closed the connection before it was done."""

    def __init__(self) -> None:
        super().__init__("the connection was closed before its ranking was done; ask again, and wait for longer")


class NothingToPromote(ServiceError):
    """No version has passed the gate since the live one."""

    def __init__(self, live: str | None) -> None:
        super().__init__(
            f"no version newer than live ({live or 'none'}) has passed the gate; train one or name a version"
        )


class NothingToRollBack(ServiceError):
    """No version was live before."""

    def __init__(self, live: str | None) -> None:
        super().__init__(
            f"no version was live before {live or 'now'}; `appshelf promote VERSION` takes another one live"
        )


class RollbackRefused(ServiceError):
    """The version before live is in a state that a rollback does not take."""

    def __init__(self, version: str, *, state: str) -> None:
        super().__init__(
            f"version {version!r} was live before and is {state} now, which a rollback does not take; "
            f"`appshelf promote {version} --force --reason WHY` does"
        )
        self.version = version


class LiveMoved(ServiceError):
    """Another version went live while this one was judged or about to go live."""

    def __init__(self, version: str, *, judged_against: str | None, live: str | None) -> None:
        super().__init__(
            f"version {version!r} was to take the place of {judged_against or 'none'}, "
            f"and {live or 'none'} is live by now; look at `appshelf versions` and try again"
        )
        self.version = version


class JudgingBrokeOff(ServiceError):
    """The process that judged a version was ended from outside, which says nothing about the version."""

    def __init__(self, check: str, *, cause: str) -> None:
        super().__init__(
            f"judging broke off: the process of the check {check} was ended by {cause}; "
            "nothing is recorded, judge again"
        )


class GateRefused(ServiceError):
    """The gate judged a version and refused it; `report` has every check."""

    def __init__(self, report: "GateReport") -> None:
        failures = "; ".join(check.told for check in report.failures)
        super().__init__(
            f"version {report.version!r} was refused by the gate ({failures}), judged against {report.against}; "
            "train another, or force it with a reason"
        )
        self.report = report


class RolloutUnderWay(ServiceError):
    """Another rollout has not ended yet."""

    def __init__(self, version: str | None, *, remaining_s: float, lease_s: float | None = None) -> None:
        """lease_s: how long one whose coordinator was killed stands, None for until its deadline."""
        killed = "" if lease_s is None else f", or in {lease_s:.0f} s where the process that began it was killed"
        super().__init__(
            f"{f'version {version!r}' if version else 'another version'} is being rolled out and one rollout runs "
            f"at a time; try again when it ends, at the latest in {remaining_s:.0f} s{killed}"
        )
        self.version = version


class RolloutFailed(ServiceError):
    """A serving process could not prepare a version; the former one serves on."""

    def __init__(self, version: str, *, process: str, detail: str) -> None:
        super().__init__(
            f"version {version!r} was not promoted: process {process} {detail}; "
            "every process serves what it served before, mend the cause and promote again"
        )
        self.version, self.process, self.detail = version, process, detail


class UnknownJob(ServiceError):
    """No job of that id is kept."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"job {job_id[:80]!r} is not kept; `appshelf jobs` lists those that are")


class JobUnderWay(ServiceError):
    """Another job waits or runs; `job_id` names it."""

    def __init__(self, job_id: str, *, state: str) -> None:
        super().__init__(
            f"job {job_id!r} is {state} and one job trains at a time; wait for its end, see `appshelf jobs {job_id}`, "
            "or cancel it"
        )
        self.job_id = job_id


class JobEnded(ServiceError):
    """A job that has ended cannot be cancelled."""

    def __init__(self, job_id: str, *, state: str) -> None:
        super().__init__(f"job {job_id!r} is over ({state}) and cannot be cancelled; `appshelf jobs` lists what runs")


class RetrainRefused(ServiceError):
    """What a retrain was asked to do cannot be done, with these options or on this log."""


class StoreUnavailable(ServiceError):
    """The store cannot be read or written now."""

    def __init__(self, store: str, reason: str) -> None:
        super().__init__(
            f"the store {store} is not available ({reason}); see that it runs, is reachable and has room, then retry"
        )


class TableUnbuilt(ServiceError):
    """The app table of a version could not be built into files; ending: because this process is to end."""

    def __init__(self, version: str, reason: str, *, ending: bool = False) -> None:
        super().__init__(
            f"the app table of version {version!r} could not be built ({reason}); "
            "see that the disk of APPSHELF_HOME has room for it and that the store answers"
        )
        self.ending = ending


class BundlesUnavailable(ServiceError):
    """The shared storage of bundles cannot be read or written now, and no copy on this machine will do."""

    def __init__(self, url: str, reason: str, *, advice: str) -> None:
        super().__init__(f"the bundles at {url} are not available ({reason}); {advice}")


class BundlesUrlRefused(ServiceError):
    """The address of the shared bundles cannot be used, whatever answers there."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"APPSHELF_BUNDLES_URL does not allow {url!r}: {reason}")


class StoreTooNew(ServiceError):
    """The store was written by a later release."""

    def __init__(self, store: str, *, found: int, known: int) -> None:
        super().__init__(f"the store {store} has layout {found} where this release knows {known}; upgrade appshelf")


class HomeInUse(ServiceError):
    """Another server holds this home."""

    def __init__(self, home: Path, *, holder: str) -> None:
        super().__init__(
            f"the home {home} is served by process {holder} and by one server at a time; "
            "stop that one, or set APPSHELF_HOME to another folder"
        )


class HomeUnusable(ServiceError):
    """The home folder cannot be made or written."""

    def __init__(self, home: Path, reason: str) -> None:
        super().__init__(f"the home {home} cannot be used ({reason}); set APPSHELF_HOME to a folder you can write")


class HomeGone(ServiceError):
    """The home that a server or a job was started on has been moved, removed or unmounted since."""

    def __init__(self, home: Path, *, missing: str) -> None:
        super().__init__(
            f"the home {home} is not the one that was there at the start: its {missing} is gone; "
            "mount it or move it back, or start anew"
        )


class DemoData(ServiceError):
    """A log would be imported beside the demo's apps and users."""

    def __init__(self, home: Path) -> None:
        super().__init__(
            f"the home {home} holds the demo, whose apps, users and events would stay among yours; "
            "set APPSHELF_HOME to another folder, with a Redis of its own where APPSHELF_REDIS_URL is set"
        )


class ForeignData(ServiceError):
    """A demo would write over someone's own data."""

    def __init__(self, home: Path, *, source: str) -> None:
        super().__init__(f"the home {home} holds data of {source}; `appshelf train` uses it, a demo needs another home")


class SettingsRefused(ServiceError):
    """A setting is unknown or has a value that is not allowed."""


class BindRefused(ServiceError):
    """Binding beyond loopback would open calls that need no key."""

    def __init__(self, host: str, scopes: Iterable[str]) -> None:
        unkeyed = [scope.upper() for scope in scopes]
        keys = " and ".join(f"APPSHELF_{scope}_KEY" for scope in unkeyed)
        super().__init__(
            f"binding to {host!r} would let anyone on the network call what needs no key; set {keys}, "
            "bind to 127.0.0.1, or set APPSHELF_ALLOW_PUBLIC=true"
        )
