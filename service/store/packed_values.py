"""Values on their way to the log as the JSON that they are kept as: nobody unpacks them only to pack them again."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from hashlib import blake2b

import msgspec

from model.query import Value

KEY_BYTES = 16

_pack = msgspec.json.Encoder(order="sorted").encode
_unpack = msgspec.json.Decoder(dict[str, Value]).decode


class Packed(Mapping[str, Value]):
    """Values that are unpacked where they are looked at. json: as an object, its names in order."""

    def __init__(self, json: bytes) -> None:
        self.json = json

    @cached_property
    def key(self) -> bytes:
        """KEY_BYTES that no other values have."""
        return blake2b(self.json, digest_size=KEY_BYTES).digest()

    def __getitem__(self, name: str) -> Value:
        return _unpack(self.json)[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_unpack(self.json))

    def __len__(self) -> int:
        return len(_unpack(self.json))

    def __repr__(self) -> str:
        return f"Packed({self.json!r})"


def packed(values: Mapping[str, Value]) -> Packed:
    """The values packed; equal values give equal bytes."""
    return values if isinstance(values, Packed) else Packed(_pack(values))


def spliced(value: object) -> msgspec.Raw:
    """For an encoder's `enc_hook`: packed values as they are. Raises NotImplementedError for anything else."""
    if isinstance(value, Packed):
        return msgspec.Raw(value.json)
    raise NotImplementedError(f"a {type(value).__name__} is not encoded")
