"""Named tensors as the bytes of a safetensors file; tensors that are mostly zero take only what is not."""

from collections.abc import Mapping

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from model.causes import first_line

PLACES, VALUES, SHAPE = "#places", "#values", "#shape"


class TensorsUnreadable(ValueError):
    """The bytes are not what `pack` makes."""


def pack(tensors: Mapping[str, Tensor]) -> bytes:
    """The tensors as safetensors. One is stored by its non-zero entries wherever that takes less than half the room.

    An L1-trained wide table is nearly all zeros (McMahan et al. 2013, section 3).
    """
    stored: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        dense = tensor.detach().cpu().contiguous()
        places = dense.reshape(-1).nonzero().reshape(-1)
        if 2 * places.numel() * (8 + dense.element_size()) < dense.numel() * dense.element_size():
            stored[name + PLACES] = places
            stored[name + VALUES] = dense.reshape(-1)[places]
            stored[name + SHAPE] = torch.tensor(dense.shape, dtype=torch.int64)
        else:
            stored[name] = dense
    return save(stored)


def unpack(content: bytes) -> dict[str, Tensor]:
    """Undo `pack`. Raises TensorsUnreadable."""
    try:
        stored = load(content)
        tensors = {name: tensor for name, tensor in stored.items() if "#" not in name}
        for name in (key.removesuffix(SHAPE) for key in stored if key.endswith(SHAPE)):
            tensors[name] = _dense(stored[name + PLACES], stored[name + VALUES], stored[name + SHAPE])
    except (SafetensorError, KeyError, IndexError, RuntimeError) as error:
        raise TensorsUnreadable(f"not readable as tensors ({first_line(error)})") from error
    return tensors


def _dense(places: Tensor, values: Tensor, shape: Tensor) -> Tensor:
    flat = torch.zeros(int(shape.prod()), dtype=values.dtype)
    flat[places] = values
    return flat.reshape(shape.tolist())
