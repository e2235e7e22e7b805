"""`appshelf serve` and `appshelf demo`: a server on the home, and one that makes its own store first."""

import secrets
from typing import Annotated

import typer

from service.commands.session import note_of, opened, settings_of
from service.commands.terminal import say, training_progress, working

Host = Annotated[str | None, typer.Option(help="Address to listen on; APPSHELF_HOST unless given.")]
Port = Annotated[int | None, typer.Option(help="Port to listen on; APPSHELF_PORT unless given.")]
Workers = Annotated[int | None, typer.Option(help="Serving processes; APPSHELF_WORKERS unless given.")]


def serve(context: typer.Context, *, host: Host = None, port: Port = None, workers: Workers = None) -> None:
    """Serve the live version until Ctrl-C; a later promote is taken over without a restart."""
    from service.serve import serve as run

    set_address(context, host=host, port=port, workers=workers)
    run(context.obj, announce=say)


def demo(context: typer.Context, *, host: Host = None, port: Port = None, workers: Workers = None) -> None:
    """Make a synthetic app store, train on it, judge and promote the network, and serve it.

    A home that has a live version is served as it is.
    """
    from service.serve import listen
    from service.serve import serve as run

    set_address(context, host=host, port=port, workers=workers)
    listen(settings_of(context)).close()  # an address in use is better known before the training than after it
    with opened(context) as container:
        live = container.registry.live()
    if live:
        say(f"serving version {live}, which is live already")
    else:
        prepare_demo(context)
    run(context.obj, announce=say)


def set_address(context: typer.Context, *, host: str | None, port: int | None, workers: int | None) -> None:
    """Put what was given into the environment, which the workers inherit."""
    given = {"APPSHELF_HOST": host, "APPSHELF_PORT": port, "APPSHELF_WORKERS": workers}
    context.obj.update({name: str(value) for name, value in given.items() if value is not None})


def prepare_demo(context: typer.Context) -> None:
    """From nothing to a live version on a synthetic store."""
    from service.demo import make_store, train_demo
    from service.lifecycle import promote_version

    with opened(context) as container:
        with working("making a synthetic app store"):
            count = make_store(container)
        say(f"training on {count} of its impressions")
        with training_progress() as progress:
            version = train_demo(container, token=secrets.token_hex(3), progress=progress)
        with working(f"judging {version} against popularity, then promoting it"):
            promote_version(container, version, note=note_of(context, why="demo"))
