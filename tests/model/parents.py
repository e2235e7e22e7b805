"""Bundles to start from, and everything in a net by what it stands for instead of by where it lies."""

from collections.abc import Mapping
from dataclasses import asdict

from torch import Tensor

from model.bundle import Bundle, Manifest
from model.crosses import CrossTable
from model.data.dataset import Dataset
from model.schema import FeatureSchema, FieldSpec, Kind, Source
from model.training import TrainConfig, TrainResult, train
from model.transforms import REQUEST_SOURCES, Transform
from model.warmstart import WarmStart

VERSION = "20261120T194846Z-1a2b3c"
SPECIAL = ("<unknown>", "<missing>", "<null>")
SIDES = {"request": REQUEST_SOURCES, "app": (Source.APP,)}

Named = dict[tuple[str, ...], Tensor]


def bundle_from(result: TrainResult, data: Dataset, *, version: str = VERSION) -> Bundle:
    """What would be saved of a training run, without golden requests."""
    config = result.config
    manifest = Manifest(
        version=version,
        created_at="2026-11-20T19:48:46+00:00",
        architecture=config.architecture,
        params=config.net_params(),
        config=config.model_dump(mode="json"),
        recipe=config.recipe,
        schema_fingerprint=data.schema.fingerprint(),
        parent=None,
        facts=asdict(data.facts),
        metrics=result.metrics,
        sampling_rate=data.facts.sampling_rate,
    )
    weights = {name: tensor.clone() for name, tensor in result.net.state_dict().items()}
    return Bundle(manifest, data.schema, result.transform, weights, {}, (), result.optimizer_state)


def trained(config: TrainConfig, data: Dataset, start: WarmStart | None = None) -> TrainResult:
    """A run that nobody watches."""
    return train(config, data, progress=lambda _: None, start=start)


def by_meaning(tensors: Mapping[str, Tensor], transform: Transform, *, dim: int, kind: str = "") -> Named:
    """Each row and column of a wide_deep net's tensors, or of one kind of optimizer state, by what it stands for.

    Written out from the layers' documented layout, apart from the code under test.
    """
    named: Named = {}
    for side in SIDES:
        _wide_side(named, tensors, transform, side=side, kind=kind)
        _deep_side(named, tensors, transform, side=side, dim=dim, kind=kind)
    pair = [field.name for field in transform.schema.of(Source.PAIR, kind=Kind.CONTINUOUS)]
    for place, name in enumerate(pair):
        named["wide.pair", name] = tensors[f"wide.pair_dense{kind}"][place]
        named["deep.first.pair", name, "0"] = tensors[f"deep.first.pair{kind}"][:, place]
    for table in transform.crosses.tables:
        for row, text in enumerate(_keys(table)):
            named["wide.crosses", table.spec.name, text] = tensors[f"wide.crosses{kind}"][table.first + row]
    return named


def stand_in(key: tuple[str, ...]) -> tuple[str, ...]:
    """What stands for something that was not known."""
    return (*key[:-1], "<unseen>" if key[0] == "wide.crosses" else SPECIAL[0])


def _wide_side(named: Named, tensors: Mapping[str, Tensor], transform: Transform, *, side: str, kind: str) -> None:
    row = 0
    for field in id_fields(transform.schema, side):
        for value in (*SPECIAL, *transform.vocabularies[field.name].values):
            named[f"wide.{side}", field.name, value] = tensors[f"wide.{side}.table{kind}"][row]
            row += 1
    for place, field in enumerate(transform.schema.of(*SIDES[side], kind=Kind.CONTINUOUS)):
        named[f"wide.{side}.dense", field.name] = tensors[f"wide.{side}.dense{kind}"][place]


def _deep_side(
    named: Named, tensors: Mapping[str, Tensor], transform: Transform, *, side: str, dim: int, kind: str
) -> None:
    numbers = transform.schema.of(*SIDES[side], kind=Kind.CONTINUOUS)
    columns = [(field.name, 0) for field in numbers]
    fields = id_fields(transform.schema, side)
    for place, width in enumerate(sorted({field.dim or dim for field in fields})):
        row = 0
        for field in (one for one in fields if (one.dim or dim) == width):
            for value in (*SPECIAL, *transform.vocabularies[field.name].values):
                key = (f"deep.{side}", str(width), field.name, value)
                named[key] = tensors[f"deep.{side}.tables.{place}{kind}"][row]
                row += 1
            columns += [(field.name, number) for number in range(width)]
    widths = {field.name: field.dim or dim for field in fields}
    for place, (name, number) in enumerate(columns):
        key = (f"deep.first.{side}", name, str(widths.get(name, 0)), str(number))
        named[key] = tensors[f"deep.first.{side}{kind}"][:, place]


def id_fields(schema: FeatureSchema, side: str) -> list[FieldSpec]:
    """The fields of one side that have a vocabulary, single values first."""
    return [*schema.of(*SIDES[side], kind=Kind.CATEGORICAL), *schema.of(*SIDES[side], kind=Kind.MULTI)]


def _keys(table: CrossTable) -> list[str]:
    if table.keys is None:
        return [f"row {row} of {table.size}" for row in range(table.size)]
    return ["<unseen>", *map(str, table.keys.tolist())]
