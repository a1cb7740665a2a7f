"""Growth of time and memory with the pixels: of whole networks, or with --layers of single attention layers."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from common import (
    DTYPES,
    GB,
    Subject,
    build,
    check_agreement,
    check_official_size,
    describe_machine,
    make_parser,
    number,
    positive,
    ratio,
    run_script,
    seconds,
    whole,
)
from memory import measure
from torch import Tensor, nn

from rgt_arch.archs.rgt_arch import HEAD_MULTIPLE, attend, pointwise
from rgt_arch.errors import UsageError, UserError
from rgt_arch.evaluation.complexity import LSA, RGSA, Size, count, parse_sizes, with_defaults
from rgt_arch.evaluation.reports import deliver, text_table
from rgt_arch.files import written_whole
from rgt_arch.inference.memory import free_memory
from rgt_arch.progress import Progress

GLOBAL = "global attention"
LAYERS = (GLOBAL, LSA, RGSA)
# At 1024 and 4096 T has grown.
_LAYER_SIDES = (64, 128, 192, 256, 384, 512, 768, 1023, 1024, 1536, 2048, 3072, 4095, 4096)
_SIDES = (64, 128, 256, 512, 768, 960, 1024, 1088)
_MAPS = 8  # feature maps that a layer holds at the same time at most
_STYLES = {"ours": ("#0072B2", "o"), RGSA: ("#0072B2", "o"), "official": ("#D55E00", "s"), GLOBAL: ("#D55E00", "s"),
           LSA: ("#009E73", "^")}  # fmt: skip

Points = Sequence[tuple[int, float]]


def parser() -> argparse.ArgumentParser:
    """The flags."""
    result = make_parser(
        "Measure time and peak memory at many sizes, each in a fresh process, and fit the exponents with which they "
        "grow with the pixels; a quarter of an hour and more on a CPU. With --layers: the multiply-adds of one layer "
        "of L-SA, of RG-SA and of plain global attention.",
        ("official", "ours"),
        ("ours",),
    )
    result.add_argument("--sizes", metavar="HxW", nargs="+", help="(default: 64x64 to 1088x1088, layers to 4096x4096)")
    result.add_argument("--dtype", choices=tuple(DTYPES), default="fp32", help="(default: %(default)s)")
    result.add_argument("--rounds", metavar="N", type=whole(1), default=1, help="timed runs of each (%(default)s)")
    result.add_argument("--memory-limit", metavar="GB", type=positive, help="for a run (default: the free memory)")
    result.add_argument("--layers", action="store_true", help="count single attention layers")
    result.add_argument(
        "--limit", metavar="SECONDS", type=positive, help="--layers: also time layers that take no longer than this"
    )
    result.add_argument("--plot", metavar="FILE", help="draw all over the pixels; .png, .pdf or .svg")
    return result


def main(args: argparse.Namespace) -> None:
    """Measure, print and draw."""
    sides = _LAYER_SIDES if args.layers else _SIDES
    sizes = sorted(set(parse_sizes(args.sizes or [f"{side}x{side}" for side in sides])), key=lambda size: size.pixels)
    if len({size.pixels for size in sizes}) < 2:
        raise UsageError("--sizes: growth needs two sizes with different numbers of pixels")
    if args.plot and Path(args.plot).suffix not in (".png", ".pdf", ".svg"):
        raise UsageError(f"--plot {args.plot}: must end with .png, .pdf or .svg")
    subject = Subject.from_args(args)
    heading = f"{describe_machine(subject.device)}\n{subject.name}"
    report = {"command": "scaling", "machine": describe_machine(subject.device), "network": subject.name,
              "config": subject.config}  # fmt: skip
    if args.layers:
        rows, text, panels = scale_layers(subject, sizes, args.limit)
    else:
        rows, text, panels = scale_networks(subject, sizes, args)
    fits = {title: {name: growth(points) for name, points in curves.items()} for title, curves in panels.items()}
    lines = [
        f"{name}: {title.partition(',')[0]}: pixels^{fit.exponent:.3f}; largest step between sizes ×{fit.step:.2f} "
        f"a pixel, from {fit.step_from} to {fit.step_to} pixels"
        for title, of_title in fits.items()
        for name, fit in of_title.items()
        if fit
    ]
    report["rows"] = rows
    report["growth"] = {title: {k: asdict(v) for k, v in of.items() if v} for title, of in fits.items()}
    if args.plot:
        plot(Path(args.plot), subject.name, panels)
    deliver(report, "\n\n".join([heading, text, "\n".join(lines)]), args.json)


@dataclass(frozen=True)
class Growth:
    """How a quantity grows with the pixels."""

    exponent: float
    """Of pixels, by least squares on the logarithms: 1 is linear."""
    step: float
    """The largest factor by which the quantity per pixel grows between neighbours; 1 is none."""
    step_from: int
    step_to: int


def growth(points: Points) -> Growth | None:
    """Fit a power law to (pixels, value); None for fewer than two different sizes."""
    ordered = sorted(points)
    if len({pixels for pixels, _ in ordered}) < 2 or any(value <= 0 for _, value in ordered):
        return None
    logs = [(math.log(pixels), math.log(value)) for pixels, value in ordered]
    mean_x, mean_y = (sum(values) / len(logs) for values in zip(*logs, strict=True))
    exponent = sum((x - mean_x) * (y - mean_y) for x, y in logs) / sum((x - mean_x) ** 2 for x, _ in logs)
    steps = [
        ((after / larger) / (before / smaller), smaller, larger)
        for (smaller, before), (larger, after) in pairwise(ordered)
        if smaller < larger
    ]
    return Growth(exponent, *max(steps))


# --- whole networks ---

Scaled = tuple[list[dict[str, Any]], str, dict[str, dict[str, Points]]]
"""Rows for JSON, the table, and curves by panel and name."""


def scale_networks(subject: Subject, sizes: list[Size], args: argparse.Namespace) -> Scaled:
    """Time and memory of the engines at each size, each in a fresh process."""
    for size in sizes if "official" in subject.engines else ():
        check_official_size(size)
    check_agreement(subject)
    found = measure(subject, sizes, [args.dtype], limit=args.memory_limit, rounds=args.rounds)
    outcomes = {(size, name): outcome for (size, name, _), outcome in found.items()}
    rows = [{"engine": name, **size._asdict(), **asdict(outcome)} for (size, name), outcome in outcomes.items()]
    body = []
    for (size, name), outcome in outcomes.items():
        base = outcomes[size, subject.engines[0]]
        row = [f"{size} {name} {DTYPES[args.dtype]}", number(outcome.seconds, 3), str(outcome)]
        body.append([*row, number(ratio(base.seconds, outcome.seconds)), number(ratio(outcome.memory, base.memory), 3)])
    panels: dict[str, dict[str, Points]] = {
        title: {
            name: [(s.pixels, v / unit) for s in sizes if (v := getattr(outcomes[s, name], field)) is not None]
            for name in subject.engines
        }
        for title, field, unit in (("time, s", "seconds", 1), ("memory, GB", "memory", GB))
    }
    head = ["", "seconds", "GB", f"faster than {subject.engines[0]}", "memory ratio"]
    return rows, f"peak memory above the loaded network, each in a fresh process\n\n{text_table(head, body)}", panels


# --- single layers ---


class GlobalAttention(nn.Module):
    """Plain multi-head self-attention over a whole map (B, H, W, C), as wide as the network's layers."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """x plus the attention of every position to every other."""
        batch, height, width, channels = x.shape
        head_dim = channels // self.num_heads
        qkv = pointwise(x, self.qkv.weight, self.qkv.bias).reshape(batch, -1, 3, self.num_heads, head_dim)
        # Fused attention on a GPU needs heads of such widths; the network pads its own in the same way.
        q, k, v = F.pad(qkv, (0, -head_dim % HEAD_MULTIPLE)).permute(2, 0, 3, 1, 4)
        attended = attend(q, k, v, None, head_dim**-0.5)[..., :head_dim]
        attended = attended.transpose(1, 2).reshape(batch, height, width, channels)
        return x + pointwise(attended, self.proj.weight, self.proj.bias)


def scale_layers(subject: Subject, sizes: list[Size], limit: float | None) -> Scaled:
    """Multiply-adds of one layer of each attention, and seconds if there is a limit for them."""
    given = with_defaults(subject.config)
    heads = [heads for heads, blocks in zip(given["num_heads"], given["depth"], strict=True) if blocks > 1]
    if not heads or given["global_blocks"] != "rg_sa":
        raise UserError("--layers: this network has no RG-SA; give another --network")
    config = {**subject.config, "embed_dim": given["embed_dim"], "depth": [2], "num_heads": heads[:1]}
    counted = [count(config, size) for size in sizes]
    channels = config["embed_dim"]
    products = {
        c.size: {
            GLOBAL: 4 * channels**2 * c.size.pixels + 2 * channels * c.size.pixels**2,
            LSA: c.part(LSA).products,
            RGSA: c.part(RGSA).products,
        }
        for c in counted
    }
    times = measure_layers(config, products, limit, subject) if limit else {size: {} for size in sizes}
    rows = [
        {**c.size._asdict(), "recursion_depth": c.depth, "representative_map": list(c.representative),
         "multiply_adds": products[c.size], "seconds": times[c.size]}
        for c in counted
    ]  # fmt: skip
    head = ["", "T", "map", *(f"{name}, G" for name in LAYERS), *(f"{name}, k/pixel" for name in LAYERS)]
    body = [
        [str(c.size), str(c.depth), str(c.representative)]
        + [f"{products[c.size][name] / 1e9:,.2f}" for name in LAYERS]
        + [f"{products[c.size][name] / c.size.pixels / 1e3:,.0f}" for name in LAYERS]
        + ([number(times[c.size].get(name), 3) for name in LAYERS] if limit else [])
        for c in counted
    ]
    panels: dict[str, dict[str, Points]] = {
        "multiply-adds, G": {name: [(size.pixels, products[size][name] / 1e9) for size in sizes] for name in LAYERS}
    }
    if limit:
        head += [f"{name}, s" for name in LAYERS]
        panels["time, s"] = {
            name: [(size.pixels, times[size][name]) for size in sizes if name in times[size]] for name in LAYERS
        }
    title = "one attention layer, projections included; multiply-adds in G and in thousands for a pixel"
    if len({c.depth for c in counted}) > 1:
        title += (
            "\nWhile T stays the same, RG-SA's map grows with the image and its attention with the square of the "
            "pixels.\nEach step of T makes the map small again: over all sizes RG-SA is linear within a factor."
        )
    return rows, f"{title}\n\n{text_table(head, body)}", panels


def measure_layers(
    config: dict[str, Any], products: Mapping[Size, Mapping[str, int]], limit: float, subject: Subject
) -> dict[Size, dict[str, float]]:
    """Seconds of each layer at each size, small sizes first, without gradients.

    Left out are layers that would take longer than `limit` seconds at the speed of the size before, and sizes for
    which the free memory does not suffice.
    """
    device = subject.device
    network: Any = build("ours", config, subject.seed, device)
    plain = GlobalAttention(config["embed_dim"], config["num_heads"][0]).eval().to(device)
    local, recursive = (block.attn for block in network.layers[0].blocks)

    def works(x: Tensor) -> dict[str, Callable[[], object]]:
        geometry = network.geometry(x.shape[1], x.shape[2], device)
        return {
            GLOBAL: partial(plain, x),
            LSA: partial(local.add_sliced, x, nn.Identity(), geometry),
            RGSA: partial(recursive.add_sliced, x, nn.Identity(), geometry),
        }

    result: dict[Size, dict[str, float]] = {size: {} for size in products}
    speed = dict.fromkeys(LAYERS, math.inf)
    with torch.inference_mode(), Progress(len(products), "measuring", "size") as progress:
        for work in works(torch.zeros(1, 16, 16, network.embed_dim, device=device)).values():
            work()  # loads libraries
        for size, of_size in products.items():
            if 4 * network.embed_dim * size.pixels * _MAPS < free_memory(device):
                for name, work in works(torch.randn(1, *size, network.embed_dim, device=device)).items():
                    if of_size[name] / speed[name] <= limit:
                        result[size][name] = seconds(work, device)
                        speed[name] = of_size[name] / result[size][name]
            progress.advance()
    return result


def plot(path: Path, title: str, panels: Mapping[str, Mapping[str, Points]]) -> None:
    """Draw each panel's curves over the pixels on logarithmic axes, with a grey line of linear growth."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * len(panels), 4), dpi=150, layout="constrained")
    figure.suptitle(title)
    for axes, (name, curves) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        axes.set(xscale="log", yscale="log", xlabel="pixels", ylabel=name)
        for label, points in curves.items():
            if points:
                colour, mark = _STYLES[label]
                axes.plot(*zip(*points, strict=True), color=colour, marker=mark, label=label)
        points = next((points for points in reversed(curves.values()) if points), [])
        if points:
            first, last = points[0], points[-1]
            end = first[1] * last[0] / first[0]
            axes.plot([first[0], last[0]], [first[1], end], color="#999999", ls="--", lw=1, label="linear")
        axes.legend(frameon=False)
    with written_whole(path) as beside:
        figure.savefig(beside, format=path.suffix[1:])


if __name__ == "__main__":
    raise SystemExit(run_script(parser(), main))
