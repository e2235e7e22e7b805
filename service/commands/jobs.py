"""`appshelf worker`, `retrain` and `jobs`: a retrain asked for, done by a worker or here, and looked at."""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from threading import Event, Thread
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.commands.session import note_of, opened, settings_of
from service.commands.terminal import AsJson, at_step, following, moment, print_json, print_table, say
from service.store.job_ports import JobState

if TYPE_CHECKING:
    from service.jobs.process import Hands
    from service.store.job_ports import Job

LOOK_S = 0.3
MOST_LISTED = 1_000


class Mode(StrEnum):
    """What a retrain learns from."""

    INCREMENTAL = "incremental"
    FULL = "full"


def worker(
    context: typer.Context,
    *,
    burst: Annotated[bool, typer.Option("--burst", help="Do the job that waits, if any, and end.")] = False,
    until_eof: Annotated[
        bool, typer.Option("--until-eof", help="End when standard input does, with the process that holds it.")
    ] = False,
) -> None:
    """Do jobs until Ctrl-C: retrains that are asked for and that are scheduled. A server on its own home does this too.

    A job that is cut short is begun again by the next worker.
    """
    from service.lifeline import end_with_parent
    from service.telemetry import log_to_stdout

    if until_eof:
        from service.serve import refuse_vanished

        refuse_vanished(context.obj)  # the one that starts it this way is the server on this home
        end_with_parent(lambda: os.kill(os.getpid(), signal.SIGTERM))
    log_to_stdout(settings_of(context).log_level)
    from service.jobs.process import Hands

    with opened(context) as container:
        hands = Hands.of(container, context.obj)
        with ending_on_signals(hands.stop):
            if burst:
                say(f"{hands.burst()} job(s) done")
            else:
                hands.run()


@contextmanager
def ending_on_signals(stop: Event) -> Iterator[None]:
    """Set `stop` on SIGINT and SIGTERM instead of dying of them."""
    former = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def retrain(
    context: typer.Context,
    *,
    mode: Annotated[Mode | None, typer.Option(help="Learn from what is new, or from the whole window.")] = None,
    window_days: Annotated[float | None, typer.Option(help="Days that the log is read back.")] = None,
    replay: Annotated[float | None, typer.Option(help="Old rows learned again for each new one.")] = None,
    start_from: Annotated[str | None, typer.Option("--from", help="Version to learn on from, by default live.")] = None,
    scratch: Annotated[bool, typer.Option("--scratch", help="Learn from nothing, over the whole window.")] = False,
    compact: Annotated[bool, typer.Option("--compact", help="Drop the rows of values gone cold.")] = False,
    reset_optimizer: Annotated[
        bool, typer.Option("--reset-optimizer", help="Begin with a fresh optimizer state.")
    ] = False,
    promote: Annotated[bool, typer.Option(help="Take it live where the gate passes it.")] = True,
    wait: Annotated[bool, typer.Option(help="Wait for its end; where no worker is up it is done here.")] = True,
    as_json: AsJson = False,
) -> None:
    """Learn from the log, judge what was learned, and take it live where the gate passes it; exit 1 where it failed.

    A running worker does it, which a server on its own home has; where there is none it is done here.
    """
    from service.jobs.asking import ask_retrain
    from service.jobs.process import Hands

    given = {
        "mode": mode.value if mode else None,
        "window_days": window_days,
        "replay": replay,
        "start_from": start_from,
        "scratch": scratch,
        "compact": compact,
        "reset_optimizer": reset_optimizer,
        "promote": promote,
    }
    with opened(context) as container:
        job = ask_retrain(container, given, who=note_of(context, why="retrain").who)
        if wait:
            job = followed(job.id, Hands.of(container, context.obj))
        elif not container.queue.attended():
            say("no worker is up; `appshelf serve` has one, and `appshelf worker` is one")
    if as_json:
        print_json(described(job))
    elif wait:
        typer.echo(outcome(job))
    else:
        typer.echo(job.id)
    if job.state in (JobState.FAILED, JobState.CANCELLED):
        raise typer.Exit(1)


def followed(job_id: str, hands: "Hands") -> "Job":
    """Tell how a job goes until it has ended, doing it here where no worker is up; Ctrl-C then cancels it."""
    queue, here = hands.container.queue, None
    with following() as tell:
        while not (job := queue.get(job_id)).state.ended:
            tell(job)
            try:
                if here is None and not queue.attended() and hands.worker.waiting() == job_id:
                    here = Thread(target=hands.worker.work, args=(job_id,))
                    here.start()
                time.sleep(LOOK_S)
            except KeyboardInterrupt:
                if here is None:
                    say(f"the job goes on; `appshelf jobs {job_id}` shows it, and cancels it with --cancel")
                    raise
                queue.cancel(job_id, who="Ctrl-C")
        tell(job)
    if here:
        here.join()
    return job


def jobs(
    context: typer.Context,
    job_id: Annotated[
        str | None, typer.Argument(metavar="JOB", help="A job; by default the newest are listed.")
    ] = None,
    *,
    cancel: Annotated[bool, typer.Option("--cancel", help="Ask for its end.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=MOST_LISTED, help="Jobs to list.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List the newest jobs, or show one with its lines, or cancel it."""
    with opened(context) as container:
        if job_id is None:
            list_jobs(container.jobs.all(limit=limit), as_json=as_json)
            return
        if cancel:
            container.queue.cancel(job_id, who=note_of(context, why="cancel").who)
        job = container.queue.get(job_id)
    if as_json:
        print_json(described(job))
        return
    for line in job.lines:
        typer.echo(f"{moment(line.at)}  {line.text}")
    typer.echo(outcome(job))


def list_jobs(found: "Sequence[Job]", *, as_json: bool) -> None:
    """A row a job."""
    if as_json:
        print_json([described(job) for job in found])
        return
    rows = [(job.id, job.state, moment(job.queued_at), job.who, outcome(job)) for job in found]
    print_table(("job", "state", "queued", "by", "outcome"), rows)


def described(job: "Job") -> dict[str, Any]:
    """A job as JSON, as the API has it."""
    from service.api.job_messages import JobMessage

    return JobMessage.of(job, with_lines=bool(job.lines)).model_dump(mode="json", exclude_none=True)


def outcome(job: "Job") -> str:
    """What a job has come to, in one line."""
    result = job.result or {}
    if not job.state.ended:
        return f"{job.state}{at_step(job)}"
    if "error" in result:
        return f"{job.state}: {result['error']}"
    live = "is live" if result.get("promoted") else "is not live: the gate refused it, or it was not to be promoted"
    return f"{result.get('version')} {live}"
