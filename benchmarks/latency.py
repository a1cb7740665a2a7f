"""Seconds for one image by engine, and the share of the machine's best measured rate."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from common import (
    DTYPES,
    GB,
    Subject,
    autocast,
    build,
    check_official_size,
    compare,
    describe_machine,
    in_turns,
    least_official_memory,
    make_parser,
    number,
    random_images,
    require,
    run_script,
    seconds,
    whole,
)
from torch import Tensor, nn

from rgt_arch.errors import UsageError
from rgt_arch.evaluation.complexity import Size, count, parse_sizes
from rgt_arch.evaluation.reports import deliver, text_table
from rgt_arch.inference.memory import free_memory
from rgt_arch.progress import Progress

_REPEATS = 5
# Kernel side (0: a linear layer), input and output channels, side of the map.
_PRODUCTS = {
    "1×1 conv": ((1, 180, 540, 96), (1, 512, 512, 96)),
    "3×3 conv": ((3, 180, 180, 96), (3, 64, 256, 128), (3, 256, 256, 64)),
    "linear": ((0, 180, 540, 96), (0, 512, 512, 96), (0, 1024, 1024, 64)),
}


def parser() -> argparse.ArgumentParser:
    """The flags."""
    result = make_parser(
        "Time the network on one image, all engines in turns in one process. Outputs are compared first: where they "
        "differ, nothing is measured. Other programs should not be running.",
        ("official", "ours", "compile", "openvino"),
        ("official", "ours"),
    )
    result.add_argument("--sizes", metavar="HxW", nargs="+", default=["128x128"], help="(default: %(default)s)")
    result.add_argument("--dtypes", choices=tuple(DTYPES), nargs="+", default=list(DTYPES), help="(default: both)")
    result.add_argument("--rounds", metavar="N", type=whole(1), default=3, help="timed runs of each (%(default)s)")
    return result


def main(args: argparse.Namespace) -> None:
    """Measure and print."""
    subject, sizes = Subject.from_args(args), parse_sizes(args.sizes)
    for size in sizes if "official" in subject.engines else ():
        check_official_size(size)
        needed, free = least_official_memory(subject.config, size, "fp32"), free_memory(subject.device)
        if needed > free:
            raise UsageError(
                f"--sizes {size}: the official forward needs more than {needed / GB:.1f} GB there, and "
                f"{free / GB:.1f} GB are free; use --engines ours"
            )
    dtypes = [dtype for dtype in DTYPES if dtype == "fp32" or dtype in args.dtypes]
    base = (subject.engines[0], "fp32")
    variants = [
        (name, dtype) for dtype in dtypes for name in subject.engines if dtype in args.dtypes or (name, dtype) == base
    ]
    rates = {dtype: best_rates(subject.device, dtype) for dtype in dtypes}
    networks = {name: build(name, subject.config, subject.seed, subject.device) for name in subject.engines}
    rows: list[dict[str, Any]] = []
    with Progress(len(sizes) * len(variants) * (args.rounds + 1), "timing", "run") as progress:
        for size in sizes:
            flops = 2 * count(subject.config, size).whole.products
            image = random_images(size, subject.config, subject.seed, subject.device)
            works = {variant: partial(run, networks[variant[0]], image, variant[1]) for variant in variants}
            outputs = {}
            for variant, work in works.items():  # the warm-up too
                outputs[variant] = work()
                progress.advance()
            agreements = {variant: compare(output, outputs[base]) for variant, output in outputs.items()}
            for (name, dtype), agreement in agreements.items():
                if name != "official":
                    require(agreement, dtype, f"{name} at {size}")
            outputs.clear()
            times = in_turns(works, args.rounds, subject.device, progress.advance)
            medians = {variant: statistics.median(values) for variant, values in times.items()}
            for (name, dtype), took in medians.items():
                rows.append(
                    {
                        "engine": name,
                        "dtype": dtype,
                        **size._asdict(),
                        "seconds": took,
                        "speedup": medians[base] / took,
                        "flops_per_second": flops / took,
                        "share_of_best": flops / took / max(rates[dtype].values()),
                        "agreement": None if (name, dtype) == base else asdict(agreements[name, dtype]),
                        "times": times[name, dtype],
                    }
                )
    machine = describe_machine(subject.device)
    report = {"command": "latency", "machine": machine, "network": subject.name, "config": subject.config,
              "best_flops_per_second": rates, "rows": rows}  # fmt: skip
    head = ["best of this machine, GFLOP/s", *_PRODUCTS]
    best = [[DTYPES[dtype], *(f"{rate / 1e9:.0f}" for rate in kinds.values())] for dtype, kinds in rates.items()]
    heading = f"{machine}\n{subject.name}, medians of {args.rounds} runs in turns; ratios to {base[0]} float32"
    deliver(report, f"{heading}\n\n{text_table(head, best)}\n\n{format_rows(rows)}", args.json)


@torch.inference_mode()
def run(network: nn.Module, image: Tensor, dtype: str) -> Tensor:
    """The output in float32."""
    with autocast(dtype, image.device):
        output: Tensor = network(image)
    return output.float()


def best_rates(device: torch.device, dtype: str) -> dict[str, float]:
    """The machine's best measured FLOP/s by kind of product, over a few shapes like the network's."""
    rates = {}
    with torch.inference_mode():
        for kind, shapes in _PRODUCTS.items():
            rates[kind] = 0.0
            for kernel, inputs, outputs, side in shapes:
                work, flops = _product(kernel, inputs, outputs, side, dtype, device)
                work()  # loads libraries
                rates[kind] = max(rates[kind], *(flops / seconds(work, device) for _ in range(_REPEATS)))
    return rates


def _product(
    kernel: int, inputs: int, outputs: int, side: int, dtype: str, device: torch.device
) -> tuple[Callable[[], object], int]:
    """A convolution or linear layer, and its operations."""
    batch = 16 if device.type == "cuda" else 1  # a GPU needs more work at a time
    make = partial(torch.randn, dtype=torch.bfloat16 if dtype == "bf16" else torch.float32, device=device)
    flops = 2 * batch * side * side * inputs * outputs * max(1, kernel) ** 2
    if not kernel:
        return partial(F.linear, make(batch * side * side, inputs), make(outputs, inputs)), flops
    image, weight = (
        tensor.contiguous(memory_format=torch.channels_last)
        for tensor in (make(batch, inputs, side, side), make(outputs, inputs, kernel, kernel))
    )
    return partial(F.conv2d, image, weight, padding=kernel // 2), flops


def format_rows(rows: list[dict[str, Any]]) -> str:
    """The table."""
    body = []
    for row in rows:
        agreement = row["agreement"] or {}
        body.append(
            [
                f"{Size(row['height'], row['width'])} {row['engine']} {DTYPES[row['dtype']]}",
                number(row["seconds"], 3),
                number(row["speedup"]),
                f"{row['flops_per_second'] / 1e9:.0f}",
                f"{row['share_of_best']:.0%}",
                f"{agreement['difference']:.1e}" if agreement else "",
                number(agreement["psnr"], 1) if agreement else "",
            ]
        )
    return text_table(["", "seconds", "times faster", "GFLOP/s", "of best", "max |difference|", "PSNR, dB"], body)


if __name__ == "__main__":
    raise SystemExit(run_script(parser(), main))
