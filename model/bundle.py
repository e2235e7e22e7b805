"""The bundle: everything of one trained net, and the files of the sealed folder it is kept in. No file is a pickle."""

import contextlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from safetensors import numpy as arrays_format
from torch import Tensor

from model.manifest import (
    FORMAT,
    VERSION,
    BundleError,
    FileEntry,
    Manifest,
    check_version,
    new_version,
)
from model.pauses import Pause, paused, unpaused
from model.query import App, Query
from model.schema import FeatureSchema, dump_schema, parse_schema
from model.sealed import Part, SealedFolder, sweep, write_sealed
from model.tensors import pack, unpack
from model.transforms import Transform

__all__ = [
    "FORMAT",
    "Bundle",
    "BundleError",
    "FileEntry",
    "Golden",
    "Manifest",
    "check_version",
    "list_bundles",
    "load",
    "new_version",
    "read_manifest",
    "save",
    "sweep",
    "verify",
]

SCHEMA = "schema.yaml"
TRANSFORM = "transform.json"
TRANSFORM_ARRAYS = "transform.safetensors"
WEIGHTS = "weights.safetensors"
OPTIMIZER = "optimizer.safetensors"
STATISTICS = "statistics.json"
GOLDEN = "golden.jsonl"
REQUIRED = (SCHEMA, TRANSFORM, TRANSFORM_ARRAYS, WEIGHTS, STATISTICS, GOLDEN)


@dataclass(frozen=True)
class Golden:
    """A request with all its feature values, so that no catalogue edit changes it, and the scores of its apps."""

    query: Query
    apps: tuple[App, ...]
    scores: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.apps) != len(self.scores):
            raise ValueError(f"{len(self.scores)} golden scores of {len(self.apps)} apps")


@dataclass(frozen=True)
class Bundle:
    """Everything a scorer and a warm start need. weights: the net's state; optimizer: None unless it was asked for."""

    manifest: Manifest
    schema: FeatureSchema
    transform: Transform
    weights: dict[str, Tensor]
    statistics: dict[str, Any]
    golden: tuple[Golden, ...]
    optimizer: dict[str, Tensor] | None


def save(bundle: Bundle, bundles: Path) -> Path:
    """Write the bundle to `bundles/<version>`, as a whole or not at all; the folder's path.

    Raises BundleError where it stands already, cannot be written (a full disk), or does not agree with itself.
    """
    version, claimed = bundle.manifest.version, bundle.manifest.schema_fingerprint
    if claimed != bundle.schema.fingerprint():
        raise BundleError(
            f"bundle {version} is not of the schema its manifest names ({claimed[:12]}); nothing is saved"
        )
    if not all(math.isfinite(score) for golden in bundle.golden for score in golden.scores):
        raise BundleError(f"bundle {version} has golden scores that are not finite; nothing is saved")
    return write_sealed(bundle.manifest, bundles, files=_files(bundle))


def load(folder: Path, *, optimizer: bool = False, pause: Pause = unpaused) -> Bundle:
    """Read a bundle, each file checked against the manifest before it is used. Raises BundleError naming the file.

    pause: called after each file, and between parts of a large one.
    """
    sealed = SealedFolder.open(folder)

    def part(name: str, decode: Callable[[bytes], Part]) -> Part:
        pause()
        return sealed.part(name, decode)

    schema = part(SCHEMA, lambda content: parse_schema(content.decode(), origin=SCHEMA))
    if (seen := schema.fingerprint()) != (claimed := sealed.manifest.schema_fingerprint):
        raise BundleError(
            f"{folder / SCHEMA} is schema {seen[:12]} where the manifest says {claimed[:12]}; train again"
        )
    arrays = part(TRANSFORM_ARRAYS, arrays_format.load)
    return Bundle(
        manifest=sealed.manifest,
        schema=schema,
        transform=part(TRANSFORM, lambda text: Transform.from_state(schema, _state(text, pause=pause), arrays)),
        weights=part(WEIGHTS, unpack),
        statistics=part(STATISTICS, partial(msgspec.json.decode, type=dict[str, Any])),
        golden=part(GOLDEN, _parse_golden),
        optimizer=part(OPTIMIZER, unpack) if optimizer and OPTIMIZER in sealed.manifest.files else None,
    )


def verify(folder: Path, *, pause: Pause = unpaused) -> Manifest:
    """Check every file, the optimizer's too, against the manifest. Raises BundleError naming the file."""
    sealed = SealedFolder.open(folder)
    for name in dict.fromkeys((*REQUIRED, *sealed.manifest.files)):
        sealed.check(name, pause=pause)
    return sealed.manifest


def read_manifest(folder: Path) -> Manifest:
    """The manifest; no other file is looked at. Raises BundleError."""
    return SealedFolder.open(folder).manifest


def list_bundles(bundles: Path) -> list[Manifest]:
    """The manifests of all bundles, oldest first; a folder without a manifest that holds is not a bundle."""
    manifests = []
    for folder in sorted(bundles.iterdir()) if bundles.exists() else []:
        if VERSION.fullmatch(folder.name):
            with contextlib.suppress(BundleError):
                manifests.append(read_manifest(folder))
    return manifests


def _state(content: bytes, *, pause: Pause) -> dict[str, Any]:
    """The state of a transform, a vocabulary at a time: while JSON is decoded no other thread runs."""
    state = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
    vocabularies = msgspec.json.decode(state.pop("vocabularies"), type=dict[str, msgspec.Raw])
    return {name: msgspec.json.decode(one) for name, one in state.items()} | {
        "vocabularies": {name: msgspec.json.decode(one) for name, one in paused(vocabularies.items(), pause)}
    }


def _files(bundle: Bundle) -> Iterator[tuple[str, bytes]]:
    """One file at a time, so that a save never holds a second copy of more than one."""
    fitted, arrays = bundle.transform.to_state()
    yield SCHEMA, dump_schema(bundle.schema).encode()
    yield TRANSFORM, json.dumps(fitted, allow_nan=False).encode()
    yield TRANSFORM_ARRAYS, arrays_format.save(arrays)
    yield WEIGHTS, pack(bundle.weights)
    if bundle.optimizer is not None:
        yield OPTIMIZER, pack(bundle.optimizer)
    yield STATISTICS, json.dumps(bundle.statistics, allow_nan=False).encode()
    yield GOLDEN, msgspec.json.Encoder().encode_lines(bundle.golden)


def _parse_golden(content: bytes) -> tuple[Golden, ...]:
    return tuple(msgspec.json.Decoder(Golden).decode_lines(content))
