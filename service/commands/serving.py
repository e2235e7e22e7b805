"""`appshelf serve` and `appshelf demo`: a server on the home, and one that makes its own store first."""

import secrets
from typing import Annotated, Any

import typer

from service.commands.session import Refusal, note_of, opened, settings_of
from service.commands.terminal import say, training_progress, working
from service.home import Home

DEMO: dict[str, Any] = {
    "params": {"dim": 8, "hidden": [128, 64, 32]},
    "recipe_options": {"alpha": 0.1, "l1": 30.0, "rate": 0.05},
    "batch_size": 256,
}
"""A network of the size of the demo's store; the paper's is for a log hundreds of times as long."""

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


def refuse_foreign(home: Home) -> None:
    """Raise Refusal where the home holds someone's own data, which a demo would write over."""
    from model.data.dataset import read

    if home.data.exists() and (source := read(home.data).facts.source) != "synthetic":
        raise Refusal(
            f"the home {home.root} holds data of {source}; `appshelf train` uses it, a demo needs another home"
        )


def prepare_demo(context: typer.Context) -> None:
    """From nothing to a live version on a synthetic store."""
    from model.data.synthetic import SyntheticConfig, dataset
    from model.training import TrainConfig
    from service.importing import keep
    from service.lifecycle import promote_version, train_version

    with opened(context) as container:
        refuse_foreign(container.home)
        with working("making a synthetic app store"):
            made, _ = dataset(SyntheticConfig.demo())
            keep(made, container.home, container.features)
        say(f"training on {made.facts.counts['train']} of its impressions")
        with training_progress() as progress:
            version = train_version(
                container, TrainConfig.model_validate(DEMO), token=secrets.token_hex(3), progress=progress
            )
        with working(f"judging {version} against popularity, then promoting it"):
            promote_version(container, version, note=note_of(context, why="demo"))
