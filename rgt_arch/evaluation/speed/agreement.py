"""Whether two networks give the same picture; what does not is not worth measuring."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rgt_arch.errors import UserError
from rgt_arch.evaluation.speed.networks import build, random_images
from rgt_arch.evaluation.speed.settings import Size, SpeedSettings

MOST_DIFFERENCE = 1e-4
"""Between outputs in float32."""
LEAST_PSNR = 40.0
"""Of bfloat16 outputs against float32 in dB; less is another picture."""

CHECKED_SIZE = Size(64, 64)


@dataclass(frozen=True)
class Agreement:
    """How far an output is from the reference, which is a float32 one."""

    difference: float
    """Largest absolute difference."""
    psnr: float | None
    """In dB, the peak being the range of the reference's values, which for photographs is about 1; None where equal."""


def compare(output: Tensor, reference: Tensor) -> Agreement:
    """Compare an output with the reference of the same shape."""
    error = output.double() - reference.double()
    peak = (reference.max() - reference.min()).item()
    mse = error.square().mean().item()
    psnr = None if mse == 0 else 20 * math.log10(peak or math.nan) - 10 * math.log10(mse)
    return Agreement(error.abs().max().item(), psnr)


def require(agreement: Agreement, dtype: str, where: object) -> None:
    """Raise UserError where outputs differ by more than rounding; NaN does."""
    if dtype == "fp32" and not agreement.difference <= MOST_DIFFERENCE:
        raise UserError(
            f"outputs differ at {where}: max |difference| {agreement.difference:.1e} > {MOST_DIFFERENCE:.0e}; "
            "nothing was measured"
        )
    if dtype == "bf16" and agreement.psnr is not None and not agreement.psnr >= LEAST_PSNR:
        raise UserError(
            f"our bfloat16 output has PSNR {agreement.psnr:.1f} dB < {LEAST_PSNR:.0f} dB at {where}; "
            "nothing was measured"
        )


def check_agreement(settings: SpeedSettings) -> Agreement:
    """Compare ours with the peer in float32 on one image of 64×64. Raises UserError where they differ."""
    config, device = settings.config(), settings.torch_device()
    image = random_images(CHECKED_SIZE, config, settings.seed, device)
    with torch.inference_mode():
        theirs, ours = (build(maker, config, settings.seed, device)(image) for maker in ("official", "ours"))
    agreement = compare(ours, theirs)
    require(agreement, "fp32", CHECKED_SIZE)
    return agreement
