"""`rgt bench latency`: time for one image, ours next to the official forward, and how much of the machine it uses."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from rgt_arch.errors import UsageError
from rgt_arch.evaluation.speed.agreement import Agreement, compare, require
from rgt_arch.evaluation.speed.apart import RESERVE
from rgt_arch.evaluation.speed.arithmetic import KINDS, best_rates, counting, plain_flops
from rgt_arch.evaluation.speed.clock import in_turns
from rgt_arch.evaluation.speed.networks import Maker, build, check_peer_size, least_peer_memory, random_images
from rgt_arch.evaluation.speed.report import conditions_of, deliver, heading, ratio, table, variant_name
from rgt_arch.evaluation.speed.settings import (
    GB,
    Size,
    SpeedSettings,
    autocast,
    check_at_least,
    check_dtypes,
    conditions,
    parse_sizes,
)
from rgt_arch.inference.memory import free_memory
from rgt_arch.progress import Progress

Variant = tuple[Maker, str]
"""Whose network, and the short name of its dtype."""


@dataclass(frozen=True)
class LatencySettings(SpeedSettings):
    """What to measure; the defaults are those of `rgt bench latency`."""

    sizes: tuple[str, ...] = ("128x128",)
    dtypes: tuple[str, ...] = ("fp32", "bf16")
    rounds: int = 3

    def check(self) -> None:
        """Raise UsageError for values that cannot be measured with."""
        super().check()
        check_dtypes(self.dtypes)
        check_at_least(("--rounds", self.rounds, 1))
        device = self.torch_device()
        for size in parse_sizes(self.sizes):
            if self.peer:
                check_peer_size(size)
                free = free_memory(device) - RESERVE
                needed = least_peer_memory(self.config(), size, "fp32")
                if needed > free:
                    raise UsageError(
                        f"--sizes {size}: the peer needs more than {needed / GB:.1f} GB there, and "
                        f"{max(0, free) / GB:.1f} GB can be had; measure ours alone with --no-peer"
                    )

    def variants(self) -> list[Variant]:
        """What is timed; the first is the base of all ratios, float32 of the peer if it is measured."""
        dtypes = [*dict.fromkeys(("fp32", *self.dtypes))]
        makers: tuple[Maker, ...] = ("official", "ours") if self.peer else ("ours",)
        return [(maker, dtype) for maker in makers for dtype in dtypes if dtype in self.dtypes or maker == makers[0]]


@dataclass
class Latency:
    """One network in one dtype at one size."""

    maker: Maker
    dtype: str
    height: int
    width: int
    seconds: float
    """Median."""
    speedup: float
    """The base's seconds over these."""
    flops_per_second: float
    """By the operations of the plain network, whoever computes it."""
    share_of_best: float
    """Of the machine's best measured rate in this dtype."""
    done_flops: int
    """Operations that this network does, padding and overlaps included."""
    agreement: Agreement | None
    """With the base's output; None for the base."""
    times: list[float] = field(repr=False)


def run_latency(settings: LatencySettings) -> None:
    """Measure and tell. Raises UsageError for settings that do not fit, UserError where outputs differ."""
    settings.check()
    device = settings.torch_device()
    with conditions(settings.threads, device):
        facts = conditions_of(settings)
        rates = best_rates(device, [*dict.fromkeys(dtype for _, dtype in settings.variants())])
        plain, rows = measure_latency(settings, {dtype: max(kinds.values()) for dtype, kinds in rates.items()})
    report = {
        "command": "latency",
        **facts,
        "best_flops_per_second": rates,
        "plain_flops": [{**size._asdict(), "flops": flops} for size, flops in plain.items()],
        "rows": [asdict(row) for row in rows],
    }
    deliver(report, format_latency(facts, rates, plain, rows, settings), settings.json)


def measure_latency(settings: LatencySettings, best: dict[str, float]) -> tuple[dict[Size, int], list[Latency]]:
    """Operations of the plain network by size, and a row for each size and variant.

    best: the machine's FLOP/s by dtype.
    """
    device, config = settings.torch_device(), settings.config()
    sizes, variants = parse_sizes(settings.sizes), settings.variants()
    plain: dict[Size, int] = {}
    rows: list[Latency] = []
    networks = {maker: build(maker, config, settings.seed, device) for maker in dict(variants)}
    with Progress(len(sizes) * len(variants) * (settings.rounds + 1), "timing", "run") as progress:
        for size in sizes:
            plain[size] = plain_flops(config, size)
            image = random_images(size, config, settings.seed, device)
            outputs: dict[Variant, Tensor] = {}
            done: dict[Variant, int] = {}
            for maker, dtype in variants:  # the warm-up too
                with counting() as counter:
                    outputs[maker, dtype] = _run(networks[maker], image, dtype).float()
                done[maker, dtype] = int(counter.get_total_flops())
                progress.advance()
            agreements = {variant: compare(output, outputs[variants[0]]) for variant, output in outputs.items()}
            for (maker, dtype), agreement in agreements.items():
                if maker == "ours":
                    require(agreement, dtype, size)
            outputs.clear()
            with torch.inference_mode():
                works = {(maker, dtype): partial(_run, networks[maker], image, dtype) for maker, dtype in variants}
                times = in_turns(works, settings.rounds, device, progress.advance)
            base = statistics.median(times[variants[0]])
            for maker, dtype in variants:
                middle = statistics.median(times[maker, dtype])
                rows.append(
                    Latency(
                        maker,
                        dtype,
                        *size,
                        seconds=middle,
                        speedup=base / middle,
                        flops_per_second=plain[size] / middle,
                        share_of_best=plain[size] / middle / best[dtype],
                        done_flops=done[maker, dtype],
                        agreement=None if (maker, dtype) == variants[0] else agreements[maker, dtype],
                        times=times[maker, dtype],
                    )
                )
    return plain, rows


def _run(network: nn.Module, image: Tensor, dtype: str) -> Tensor:
    with autocast(dtype, image.device):
        output: Tensor = network(image)
    return output


def format_latency(
    facts: dict[str, Any],
    rates: dict[str, dict[str, float]],
    plain: dict[Size, int],
    rows: list[Latency],
    settings: LatencySettings,
) -> str:
    """The tables: the machine's rates, then one for each size."""
    base = variant_name(*settings.variants()[0])
    note = "equal weights" if settings.peer else "ours alone"
    parts = [
        heading(facts, note, f"medians of {settings.rounds} runs in turns"),
        table(
            ("best of this machine, GFLOP/s", *KINDS.values()),
            [
                (variant_name("", dtype).strip(), *(f"{kinds[kind] / 1e9:.0f}" for kind in KINDS))
                for dtype, kinds in rates.items()
            ],
        ),
    ]
    for size, flops in plain.items():
        here = [row for row in rows if (row.height, row.width) == size]
        body = [
            (
                variant_name(row.maker, row.dtype),
                f"{row.seconds:.3f}",
                ratio(row.speedup),
                f"{row.done_flops / 1e9:.1f}",
                f"{row.flops_per_second / 1e9:.0f}",
                f"{row.share_of_best:.0%}",
                "" if row.agreement is None else f"{row.agreement.difference:.1e}",
                "" if row.agreement is None else ratio(row.agreement.psnr, 1),
            )
            for row in here
        ]
        head = ("", "seconds", "times faster", "GFLOP", "GFLOP/s", "of best", "max |difference|", "PSNR, dB")
        parts.append(
            f"{size} pixels, {flops / 1e9:.1f} GFLOP without padding, by which rates are counted; times faster, "
            f"difference and PSNR against {base}\n{table((str(size), *head[1:]), body)}"
        )
    return "\n\n".join(parts)
