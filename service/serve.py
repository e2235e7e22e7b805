"""What `appshelf serve` does: one server on a home, its workers, and their end when their supervisor ends."""

import gc
import multiprocessing
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from pydantic import SecretStr
from uvicorn import Config

from model.sealed import sweep
from service.companion import Companion
from service.errors import HomeGone, ServiceError
from service.guest import Guest
from service.home import Home, exclusive
from service.keys import Keys, check_bind
from service.settings import Settings, variable
from service.supervisor import Supervisor
from service.telemetry import METRICS_FOLDER, log_to_stdout

if TYPE_CHECKING:
    from fastapi import FastAPI

EXAMPLE = '{"user": {"id": "u1"}, "k": 10}'
JOB_WORKER = ("-m", "service", "worker", "--until-eof")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
DRAIN_S = 20
HUNG_AFTER_S = 30

YOUNG_OBJECTS = 10_000
"""More than come about between two batches of impressions, which go without a search for cycles: 700 would be few."""


class AddressTaken(ServiceError):
    """The address to listen on is in use or not this machine's."""

    def __init__(self, settings: Settings, reason: str) -> None:
        super().__init__(f"cannot listen on {settings.host}:{settings.port} ({reason}); give another with --port")


class WorkersFailed(ServiceError):
    """A worker ended before it could serve, or nobody could be let in."""

    def __init__(self) -> None:
        super().__init__("a worker could not start, or no connection be accepted; the log lines above say why")


def serve(environ: MutableMapping[str, str], *, announce: Callable[[str], None]) -> None:
    """Serve with the settings of `environ`, which the workers inherit, until a signal says stop.

    With the embedded store this is the one server on its home, and does the jobs too; with Redis there may be many, and
    workers of their own for the jobs.

    Raises SettingsRefused, BindRefused, HomeInUse, HomeUnusable, AddressTaken, and WorkersFailed.
    """
    settings = Settings.from_env(environ)
    check_bind(settings)
    home = Home(settings.home)
    home.ensure()
    with ExitStack() as held:
        if settings.redis_url is None:
            held.enter_context(exclusive(home.serve_lock))
            sweep(home.bundles)
        metrics = held.enter_context(metrics_folder(settings, home))
        environ.update(worker_environment(settings, metrics))
        listener = held.enter_context(closing(listen(settings)))
        Keys.load(settings, home, announce=lambda key: announce(f"admin key, shown this once: {key}"))
        lines = greeting(settings, home, port=listener.getsockname()[1])
        jobs = job_worker(settings, environ)

        def when_ready() -> None:
            announce("\n".join(lines))
            if jobs:
                held.callback(jobs.stop)
                jobs.start()

        supervise(settings, listener, when_ready=when_ready)


def greeting(settings: Settings, home: Home, *, port: int) -> list[str]:
    """What a person needs to go on: the address, a request to try, and where the admin key is."""
    place = "APPSHELF_ADMIN_KEY" if settings.admin_key else str(home.admin_key_file)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    url = f"http://{host}:{port}"
    bearer = " -H 'Authorization: Bearer ...'" if settings.rank_key else ""
    return [
        f"serving on {url} with {settings.workers} worker(s); metrics at /metrics, calls at /docs",
        f"admin key: {place}",
        f"try: curl -s {url}/rank{bearer} -H 'Content-Type: application/json' -d '{EXAMPLE}'",
    ]


@contextmanager
def metrics_folder(settings: Settings, home: Home) -> Iterator[Path]:
    """The folder where serving processes share their counts, empty, so that no earlier server's are added to these.

    In the home, where this is its only server; of this server alone where several share the home.
    """
    if settings.redis_url:
        with tempfile.TemporaryDirectory(prefix="appshelf-metrics-") as folder:
            yield Path(folder)
        return
    metrics = home.root / "metrics"
    shutil.rmtree(metrics, ignore_errors=True)
    metrics.mkdir()
    yield metrics


def worker_environment(settings: Settings, metrics: Path) -> Mapping[str, str]:
    """What workers must find in place before they import anything: thread counts and the folder of shared metrics.

    And the settings, so that a worker that is started again has those of the server, whatever the file says by then.
    """
    given = {variable(name): _text(value) for name, value in settings.model_dump(exclude_none=True).items()}
    return {METRICS_FOLDER: str(metrics), **dict.fromkeys(THREADS, str(settings.torch_threads)), **given}


def _text(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def job_worker(settings: Settings, environ: Mapping[str, str]) -> Companion | None:
    """Who does the jobs beside this server, not yet started; None where a fleet has workers of its own."""
    if settings.redis_url:
        return None
    return Companion(JOB_WORKER, {name: value for name, value in environ.items() if name != METRICS_FOLDER})


def listen(settings: Settings) -> socket.socket:
    """A socket bound to the address, for all workers. Raises AddressTaken."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise AddressTaken(settings, error.strerror or str(error)) from error
    return listener


def supervise(settings: Settings, listener: socket.socket, *, when_ready: Callable[[], None]) -> None:
    """Run the workers, restarting one that dies, until SIGINT or SIGTERM. Raises WorkersFailed.

    One worker has a supervisor too: it is then set up as one of many would be, and comes back when it dies.
    """
    log_to_stdout(settings.log_level)
    config = Config(
        "service.serve:worker",
        factory=True,
        workers=settings.workers,
        loop="uvloop",
        http=Guest,
        ws="none",
        lifespan="on",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # no answer depends on who asks, so what a proxy says of that is not read
        log_config=None,
        timeout_graceful_shutdown=DRAIN_S,
        timeout_worker_healthcheck=HUNG_AFTER_S,  # loading a large version must not look like a hang
    )
    start_s = settings.rollout_deadline_s  # the first worker may have a table of the catalogue to build
    supervisor = Supervisor(config, listener, start_s=start_s, when_ready=when_ready)
    supervisor.run()
    if supervisor.failed:
        raise WorkersFailed


def worker() -> "FastAPI":
    """The application of one worker process, which ends when its supervisor does, however that ended."""
    supervisor = multiprocessing.parent_process()
    if supervisor:
        Thread(target=_end_with, args=(supervisor.join,), daemon=True).start()
    gc.disable()  # what is imported stays, and searching it for cycles takes a quarter of the start
    try:
        if supervisor:
            refuse_vanished(os.environ)
        from service.asgi import create  # after the watch: importing torch takes a second

        application = create(os.environ)
    except ServiceError as error:
        raise SystemExit(f"appshelf: {error}") from error
    _pass_over_what_stays()
    return application


def refuse_vanished(environ: Mapping[str, str]) -> None:
    """Raise HomeGone where the lock of this server is no longer in its home, so that no worker makes an empty one.

    It would be another store, with another admin key, beside that of the other workers. Raises SettingsRefused.
    """
    settings = Settings.from_env(environ)
    lock = Home(settings.home).serve_lock
    if settings.redis_url is None and not lock.exists():
        raise HomeGone(settings.home, missing=lock.name)


def _pass_over_what_stays() -> None:
    """Keep the search for unreachable cycles from what lives as long as the process, and from making it often.

    A full search goes through half a million objects of torch and the application, which takes a fifth of a second from
    the requests of that moment. A version is made later and never frozen, so that an old one goes.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)
    gc.enable()


def _end_with(supervisor_ended: Callable[[], None]) -> None:
    supervisor_ended()
    os.kill(os.getpid(), signal.SIGTERM)
