"""`appshelf train`: a network trained on the imported data, on from a version or from scratch."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.commands.session import Refusal, opened
from service.commands.terminal import AsJson, print_json, say, training_progress
from service.commands.versions import described

if TYPE_CHECKING:
    from model.manifest import Manifest
    from model.schema import FeatureSchema
    from model.training import TrainConfig
    from service.container import Container
    from service.lifecycle import TrainOptions
    from service.unfinished import Unfinished

ARCHITECTURES = "Architecture: lr, fm, ffm, fnn, pnn, wide_deep, deepfm, dcn_v2 or deep_crossing."
EPOCHS = "Most epochs, also of an fnn's pretraining; it stops early."
LIVE = "live"
ALL_THE_SAME = "--from live learns on all the same"


def train(
    context: typer.Context,
    *,
    arch: Annotated[str | None, typer.Option(help=ARCHITECTURES)] = None,
    recipe: Annotated[str | None, typer.Option(help="How it is trained: paper, adam or sgd.")] = None,
    epochs: Annotated[int | None, typer.Option(help=EPOCHS)] = None,
    seed: Annotated[int | None, typer.Option(help="Seed; the same one trains the same network.")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of the same and more; options go before it.")] = None,
    start: Annotated[
        str | None,
        typer.Option("--from", help="Version to learn on from, or live. By default live, where it is alike."),
    ] = None,
    scratch: Annotated[bool, typer.Option("--scratch", help="Learn on from nothing.")] = False,
    reset_optimizer: Annotated[
        bool, typer.Option("--reset-optimizer", help="Take over the weights and not the optimizer's state.")
    ] = False,
    compact: Annotated[bool, typer.Option("--compact", help="Forget values that the data no longer holds.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the training that was broken off, as it was asked for.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train a network on the imported data and print its version, a challenger until the gate has judged it.

    One that learns on from a version is trained as that one was, but for what is given here.
    """
    from service.lifecycle import train_version
    from service.unfinished import unfinished

    options = {"architecture": arch, "recipe": recipe, "epochs": epochs, "seed": seed}
    given = options_of(config) | {name: value for name, value in options.items() if value is not None}
    if scratch and (start or reset_optimizer or compact):
        raise Refusal("--scratch learns on from nothing, so it goes without --from, --reset-optimizer and --compact")
    if resume and (start or scratch or reset_optimizer or compact):
        raise Refusal("--resume goes on as it was asked for; leave out --from, --scratch, --reset-optimizer, --compact")
    with (
        opened(context) as container,
        unfinished(container.home.training, clock=container.clock, say=say) as training,
    ):
        if resume:
            asked = resumed(training, given)
        else:
            begun = beginning(container, start, given, scratch=scratch)
            check(container, begun.config)
            asked = anew(training, begun, reset_optimizer=reset_optimizer, compact=compact)
        with training.under_way(asked.workspace), training_progress() as progress:
            version = train_version(container, asked, token=secrets.token_hex(3), progress=progress)
        entry = container.registry.get(version)
        how = next(move.why for move in reversed(container.registry.history()) if move.version == version)
    if as_json:
        print_json(described(entry, container.settings.precision))
    else:
        say(how)
        say(", ".join(f"{name} {value:.4f}" for name, value in entry.metrics.items()))
        typer.echo(version)


@dataclass(frozen=True)
class Beginning:
    """The version that a training learns on from, None for from scratch, how it is trained, and why so."""

    version: str | None
    config: "TrainConfig"
    why: str


def resumed(training: "Unfinished", given: Mapping[str, Any]) -> "TrainOptions":
    """The training that was broken off, as it was asked for. Raises NothingToResume, and Refusal for other options."""
    from service.errors import NothingToResume

    asked = training.asked
    if asked is None:
        raise NothingToResume(training.folder)
    past, now = (one.model_dump(mode="json") for one in (asked.config, train_config(given)))
    for name in given:
        if past[name] != now[name]:
            raise Refusal(
                f"the training that was broken off has {name} {past[name]!r} and {now[name]!r} is asked for; leave it "
                "out to go on with that one, or leave out --resume to begin anew"
            )
    work = training.workspace(resume=True)
    begins = "" if work.holds_checkpoint else ", which had kept no checkpoint yet and begins again at its first step"
    say(f"going on with the training in {training.folder}{begins}")
    return replace(asked, workspace=work)


def check(container: "Container", config: "TrainConfig") -> None:
    """Raise what a training would be refused with, before one that was broken off is given up for it."""
    from model.data.dataset import read
    from model.training import Training

    Training(config, read(container.home.data)).check()


def anew(training: "Unfinished", begun: Beginning, *, reset_optimizer: bool, compact: bool) -> "TrainOptions":
    """A training that begins, in place of one that was broken off."""
    from service.lifecycle import TrainOptions

    if training.asked is not None:
        say(f"the training that was broken off in {training.folder} is given up; --resume would have gone on with it")
    say(f"training {f'on from {begun.version}' if begun.version else 'from scratch'}, {begun.why}")
    asked = TrainOptions(begun.config, begun.version, "reset" if reset_optimizer else "carry", compact=compact)
    return replace(asked, workspace=training.begun(asked))


def beginning(container: "Container", start: str | None, given: Mapping[str, Any], *, scratch: bool) -> Beginning:
    """What a training that was asked for learns on from."""
    from model.data.dataset import read

    if scratch:
        return Beginning(None, train_config(given), "as asked")
    return (
        named(container, start, given) if start else live_if_alike(container, read(container.home.data).schema, given)
    )


def named(container: "Container", start: str, given: Mapping[str, Any]) -> Beginning:
    """The version that was asked for. Raises Refusal where that is live and nothing is, UnknownVersion, BundleError."""
    from model.bundle import read_manifest

    version = container.registry.live() if start == LIVE else start
    if version is None:
        raise Refusal("nothing is live to learn on from; leave out --from, or name a version")
    manifest = read_manifest(container.registry.folder(version))
    return Beginning(version, train_config(over(manifest, given)), "as asked")


def live_if_alike(container: "Container", schema: "FeatureSchema", given: Mapping[str, Any]) -> Beginning:
    """Live, where it is a network of the same fields and layers, and can be read; otherwise from scratch."""
    from model.bundle import BundleError, read_manifest

    version, scratch = container.registry.live(), train_config(given)
    if version is None:
        return Beginning(None, scratch, "since nothing is live")
    try:
        manifest = read_manifest(container.registry.folder(version))
    except BundleError as error:
        return Beginning(None, scratch, f"since live cannot be read: {error}")
    if manifest.schema_fingerprint != schema.fingerprint():
        return Beginning(None, scratch, f"since live, {version}, has another schema; {ALL_THE_SAME}")
    config = train_config(over(manifest, given))
    if not alike(config, manifest):
        return Beginning(None, scratch, f"since live, {version}, has other layers; {ALL_THE_SAME}")
    return Beginning(version, config, "which is live; --scratch learns on from nothing")


def alike(config: "TrainConfig", manifest: "Manifest") -> bool:
    """Whether a training would make a network of the layers that a version has."""
    from model.zoo import check_params

    return config.architecture == manifest.architecture and (
        check_params(config.architecture, config.net_params()) == check_params(manifest.architecture, manifest.params)
    )


def over(manifest: "Manifest", given: Mapping[str, Any]) -> dict[str, Any]:
    """Training options as the version had them, but for what is given; another recipe comes with its own options."""
    past = dict(manifest.config)
    for name, options in (("architecture", "params"), ("recipe", "recipe_options")):
        if given.get(name, past.get(name)) != past.get(name):
            past.pop(options, None)
    return {**past, **given}


def options_of(file: Path | None) -> dict[str, Any]:
    """The options of a YAML file, none for no file; `arch` is short for `architecture`. Raises Refusal."""
    import yaml

    if file is None:
        return {}
    try:
        told = yaml.safe_load(file.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise Refusal(f"{file} is not a YAML file of options: it is not UTF-8; save it as UTF-8") from error
    except OSError as error:
        raise Refusal(f"{file} cannot be read ({error.strerror}); name a YAML file of options") from error
    except yaml.YAMLError as error:
        raise Refusal(f"{file} is not a YAML file of options: {' '.join(str(error).split())}") from error
    if told is not None and not (isinstance(told, dict) and all(isinstance(name, str) for name in told)):
        raise Refusal(f"{file} holds a {type(told).__name__} where options by name are wanted, such as `epochs: 20`")
    options = dict(told or {})
    if "arch" in options and "architecture" not in options:
        options["architecture"] = options.pop("arch")
    return options


def train_config(options: Mapping[str, Any]) -> "TrainConfig":
    """The options, checked, over the defaults. Raises Refusal naming the first that is wrong."""
    from pydantic import ValidationError

    from model.training import TrainConfig
    from model.zoo import first_wrong

    try:
        return TrainConfig.model_validate(options)
    except ValidationError as error:
        there = ", ".join(TrainConfig.model_fields)
        raise Refusal(f"training option {first_wrong(error)}; there are {there}") from error
