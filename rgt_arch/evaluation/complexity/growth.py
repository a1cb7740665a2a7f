"""`rgt complexity --growth`: the cost of one layer of L-SA, RG-SA and plain global attention over the resolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from rgt_arch.archs.rgt_arch import PRESETS
from rgt_arch.errors import UsageError
from rgt_arch.evaluation.complexity.counting import LSA, RGSA, Complexity, count
from rgt_arch.evaluation.complexity.layers import GLOBAL, LAYERS, global_products, measure_layers
from rgt_arch.evaluation.complexity.report import describe, network_of, with_defaults
from rgt_arch.evaluation.figures import save_figure
from rgt_arch.evaluation.machine import describe_machine
from rgt_arch.evaluation.speed.report import deliver, ratio, table
from rgt_arch.evaluation.speed.scaling import growth
from rgt_arch.evaluation.speed.scaling_plot import Curve, Panel, scaling_plot
from rgt_arch.evaluation.speed.settings import (
    Size,
    check_at_least,
    check_machine,
    check_reports,
    conditions,
    device_of,
    parse_sizes,
)


@dataclass(frozen=True)
class GrowthSettings:
    """What to count and measure; the defaults are those of `rgt complexity --growth`."""

    file: str | None = None
    """An option file with an RGT; None for the paper's RGT."""
    # 1023 and 4095 are the last sides before T grows; at 1024 and 4096 it has grown.
    sizes: tuple[str, ...] = tuple(
        f"{side}x{side}" for side in (64, 128, 192, 256, 384, 512, 768, 1023, 1024, 1536, 2048, 3072, 4095, 4096)
    )
    measure: bool = False
    limit: float = 20.0
    """Seconds; layers that would take longer are not measured."""
    plot: str | None = None
    device: str = "auto"
    threads: int | None = None
    json: str | None = None
    overwrite: bool = False

    def check(self) -> None:
        """Raise UsageError for values that cannot be worked with."""
        check_machine(self.device, self.threads)
        check_at_least(("--limit", self.limit, 0.001))
        if len({size.pixels for size in parse_sizes(self.sizes)}) < 2:
            raise UsageError("--sizes: growth needs two sizes with different numbers of pixels")
        inputs = [] if self.file is None else [self.file]
        check_reports(self.json, self.plot, inputs, overwrite=self.overwrite)

    def config(self) -> dict[str, Any]:
        """Constructor arguments of the network whose layers are meant."""
        return {"upscale": 4, **PRESETS["RGT"]} if self.file is None else network_of(self.file)


@dataclass(frozen=True)
class Row:
    """One layer of each kind at one size."""

    size: Size
    depth: int
    representative: Size
    products: dict[str, int]
    """Multiply-adds by the name of the layer."""
    seconds: dict[str, float]
    """Of those that were measured."""


def run_growth(settings: GrowthSettings) -> None:
    """Count, measure where that is asked for, tell and draw. Raises UsageError for what cannot be worked with."""
    settings.check()
    config = _one_layer_of_each(settings.config())
    counted = [
        count(config, size)
        for size in sorted(set(parse_sizes(settings.sizes)), key=lambda size: (size.pixels, tuple(size)))
    ]
    machine = None
    seconds: dict[Size, dict[str, float]] = {}
    rows = [Row(c.size, c.depth, c.representative, _products(c, config), {}) for c in counted]
    if settings.measure:
        with conditions(settings.threads, device_of(settings.device)):
            machine = describe_machine(device_of(settings.device))
            seconds = measure_layers(
                config, {row.size: row.products for row in rows}, settings.limit, device_of(settings.device)
            )
        rows = [Row(row.size, row.depth, row.representative, row.products, seconds[row.size]) for row in rows]
    name = describe(settings.config())
    if settings.plot is not None:
        save_figure(_picture(rows, f"One attention layer of {name}", settings), Path(settings.plot))
    report = {
        "command": "complexity --growth",
        "network": name,
        "machine": machine,
        "rows": [
            {**row.size._asdict(), "recursion_depth": row.depth, "representative_map": list(row.representative),
             "multiply_adds": row.products, "seconds": row.seconds}
            for row in rows
        ],
        "growth": {layer: (fit := _fit(rows, layer)) and asdict(fit) for layer in LAYERS},
    }  # fmt: skip
    deliver(report, format_growth(name, rows, machine, settings.limit), settings.json)


def _one_layer_of_each(config: dict[str, Any]) -> dict[str, Any]:
    """The network cut down to an L-SA and an RG-SA block. Raises UsageError where it has no RG-SA."""
    given = with_defaults(config)
    heads = [heads for heads, blocks in zip(given["num_heads"], given["depth"], strict=True) if blocks > 1]
    if not heads or given["global_blocks"] != "rg_sa":
        raise UsageError("--growth: this network has no RG-SA; give another option file, or none for the paper's RGT")
    return {**config, "embed_dim": given["embed_dim"], "depth": [2], "num_heads": heads[:1]}


def _products(counted: Complexity, config: dict[str, Any]) -> dict[str, int]:
    return {
        GLOBAL: global_products(config["embed_dim"], counted.size),
        LSA: counted.part(LSA).products,
        RGSA: counted.part(RGSA).products,
    }


def _fit(rows: Sequence[Row], layer: str) -> Any:
    return growth([(row.size.pixels, row.products[layer]) for row in rows])


def format_growth(name: str, rows: Sequence[Row], machine: str | None, limit: float) -> str:
    """The table, the exponents, and where the recursion rule makes RG-SA's cost jump."""
    head = ["", "T", "map", *(f"{layer}, G" for layer in LAYERS), *(f"{layer}, k/pixel" for layer in LAYERS)]
    if machine is not None:
        head += [f"{layer}, s" for layer in LAYERS]
    body = []
    for row in rows:
        cells = [str(row.size), str(row.depth), str(row.representative)]
        cells += [f"{row.products[layer] / 1e9:,.2f}" for layer in LAYERS]
        cells += [f"{row.products[layer] / row.size.pixels / 1e3:,.0f}" for layer in LAYERS]
        if machine is not None:
            cells += [ratio(row.seconds.get(layer), 3) for layer in LAYERS]
        body.append(cells)
    lines = [
        f"One attention layer of {name}, projections included; multiply-adds in G and in thousands for a pixel",
        *(
            [
                f"measured on {machine}, float32, without gradients; –: would take more than {limit:g} s or more "
                "memory than is free"
            ]
            if machine
            else []
        ),
        "",
        table(head, body),
        "",
    ]
    for layer in LAYERS:
        fit = _fit(rows, layer)
        each = [row.products[layer] / row.size.pixels for row in rows]
        lines.append(
            f"{layer}: multiply-adds grow with pixels^{fit.exponent:.2f}; for a pixel the largest are "
            f"{max(each) / min(each):.1f} times the least"
        )
        measured = growth([(row.size.pixels, row.seconds[layer]) for row in rows if layer in row.seconds])
        if measured is not None:
            lines.append(f"{layer}: measured time grows with pixels^{measured.exponent:.2f}")
    lines += [
        f"T from {before.depth} to {after.depth} between {before.size} and {after.size}: RG-SA goes from "
        f"{before.products[RGSA] / 1e9:,.1f} to {after.products[RGSA] / 1e9:,.1f} G, its map from "
        f"{before.representative} to {after.representative}"
        for before, after in pairwise(rows)
        if before.depth != after.depth
    ]
    if len({row.depth for row in rows}) > 1:
        lines.append(
            "Where T stays the same RG-SA's map grows with the image, and its attention with the square of the pixels. "
            "Each step of T makes the map small again: over all sizes RG-SA is linear within a constant factor."
        )
    return "\n".join(lines)


def _picture(rows: Sequence[Row], title: str, settings: GrowthSettings) -> Any:
    def curves(points: dict[str, list[tuple[float, float]]]) -> list[Curve]:
        return [Curve(layer, layer, values) for layer, values in points.items() if values]

    panels = [
        Panel(
            "Multiply-adds",
            "G",
            curves({layer: [(row.size.pixels, row.products[layer] / 1e9) for row in rows] for layer in LAYERS}),
        )
    ]
    if settings.measure:
        times = {
            layer: [(float(row.size.pixels), row.seconds[layer]) for row in rows if layer in row.seconds]
            for layer in LAYERS
        }
        panels.append(Panel(f"Time on {device_of(settings.device).type.upper()}", "s", curves(times)))
    return scaling_plot(title.replace("×", "x"), panels)
