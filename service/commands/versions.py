"""`appshelf gate`, `promote`, `rollback` and `versions`: a trained version's life, a verb a step."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.commands.session import note_of, opened
from service.commands.terminal import AsJson, print_checks, print_json, print_table, working

if TYPE_CHECKING:
    from model.report import PrecisionSetting
    from service.rollout import RolloutResult
    from service.store.ports import VersionEntry

Version = Annotated[str, typer.Argument(help="A version as `appshelf versions` lists it.")]
Reason = Annotated[str, typer.Option(help="Why; kept in the history.")]


def gate(context: typer.Context, version: Version, *, as_json: AsJson = False) -> None:
    """Judge a version against the live one; exit 1 where it is rejected."""
    from service.lifecycle import gate_version

    with opened(context) as container:
        container.registry.get(version)
        with working(f"judging {version}"):
            report = gate_version(container, version)
    if as_json:
        print_json(json.loads(report.to_json()) | {"passed": report.passed})
    else:
        print_checks(report.checks)
        typer.echo(f"{version} {'passed' if report.passed else 'was rejected'}, judged against {report.against}")
    if not report.passed:
        raise typer.Exit(1)


def promote(
    context: typer.Context,
    version: Annotated[str | None, typer.Argument(help="A version; without one the newest that passed.")] = None,
    *,
    force: Annotated[
        bool, typer.Option("--force", help="Promote it though the gate rejected it; needs --reason.")
    ] = False,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Take a version live on every serving process, judged first unless it was; exit 1 where it is refused."""
    from service.lifecycle import promote_version

    with opened(context) as container:
        note = note_of(context, why=reason, force=force)
        chosen = container.registry.get(version).version if version else container.registry.newest_passed()
        with working(f"judging and promoting {chosen}"):
            result = promote_version(container, chosen, note=note)
    print_rollout(result, as_json=as_json)


def rollback(context: typer.Context, *, reason: Reason = "", as_json: AsJson = False) -> None:
    """Take the version before live again on every serving process."""
    from service.lifecycle import roll_back

    with opened(context) as container:
        note = note_of(context, why=reason)
        before = container.registry.previous_live()
        with working(f"going back to {before}"):
            result = roll_back(container, note=note)
    print_rollout(result, as_json=as_json)


def print_rollout(result: "RolloutResult", *, as_json: bool) -> None:
    """What is live now, and what each serving process serves."""
    if as_json:
        print_json({"version": result.version, "processes": dict(result.processes)})
        return
    typer.echo(f"{result.version} is live")
    for process, version in result.processes.items():
        typer.echo(f"  {process} serves {version or 'nothing yet'}")


def versions(context: typer.Context, *, as_json: AsJson = False) -> None:
    """List all versions, oldest first, and the precision that each serves in, or would."""
    from service.precision import precision_of

    with opened(context) as container:
        entries, setting = container.registry.versions(), container.settings.precision
    if as_json:
        print_json([described(entry, setting) for entry in entries])
    else:
        names = list(dict.fromkeys(name for entry in entries for name in entry.metrics))
        rows = [
            (
                *(entry.version, entry.state, precision_of(setting, entry), entry.architecture, entry.recipe),
                *(_metric(entry, name) for name in names),
            )
            for entry in entries
        ]
        print_table(("version", "state", "precision", "architecture", "recipe", *names), rows)


def described(entry: "VersionEntry", setting: "PrecisionSetting") -> dict[str, Any]:
    """A version as JSON, its newest gate report included; setting: the precision that is asked for."""
    from service.precision import precision_of

    return {
        "version": entry.version,
        "state": entry.state,
        "created_at": entry.created_at,
        "architecture": entry.architecture,
        "recipe": entry.recipe,
        "parent": entry.parent,
        "precision": precision_of(setting, entry),
        "metrics": dict(entry.metrics),
        "report": json.loads(entry.report) if entry.report else None,
    }


def _metric(entry: "VersionEntry", name: str) -> str:
    return f"{entry.metrics[name]:.4f}" if name in entry.metrics else ""
