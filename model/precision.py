"""What the dense layers multiply in while they learn: bfloat16 where the hardware does, with float32 weights behind."""

from typing import Literal

import torch

Precision = Literal["auto", "float32", "bfloat16"]


def training_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """The type of the products on `device`; auto is bfloat16 where they are made in hardware, else float32."""
    if precision == "auto":
        return torch.bfloat16 if multiplies_bfloat16(device) else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for products of bfloat16."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))
