"""Growth of time and memory with the pixels: of whole networks, or with --layers of single attention layers."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from common import Result, Row, run_script
from measuring import measure
from networks import Case, make_network_parser, network_cases

from rgt_arch.errors import UsageError
from rgt_arch.evaluation.complexity import LSA, RGSA, count
from rgt_arch.files import written_whole

_SIZES = " ".join(f"{side}x{side}" for side in (64, 128, 256, 512, 768, 960, 1024, 1088))
_LARGER = " ".join(f"{side}x{side}" for side in (1023, 1536, 2048, 3072, 4095, 4096))  # at 1024 and 4096 T has grown
_FORMATS = (".png", ".pdf", ".svg")

Curves = dict[str, list[tuple[int, float]]]
"""(pixels, value) by name."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and draw."""
    parser = make_network_parser(
        "Measure time and peak memory at many sizes, each in a fresh process, and fit the exponents with which they "
        "grow with the pixels; a quarter of an hour and more on a CPU. With --layers: the multiply-adds of one layer "
        "of L-SA, of RG-SA and of plain global attention, up to 4096x4096.",
        sizes=_SIZES,
        dtypes=("fp32",),
        rounds=1,
    )
    parser.set_defaults(engines=["ours"])
    parser.add_argument("--layers", action="store_true", help="count single attention layers")
    parser.add_argument("--plot", metavar="FILE", help="draw all over the pixels; .png, .pdf or .svg")
    return run_script(parser, scaling, argv)


def scaling(args: argparse.Namespace) -> Result:
    """Return a row for each size and engine or layer, and a row for the exponent of each curve."""
    if args.plot and Path(args.plot).suffix not in _FORMATS:
        raise UsageError(f"--plot {args.plot}: must end with {', '.join(_FORMATS)}")
    if args.layers and args.sizes == _SIZES.split():
        args.sizes += _LARGER.split()
    name, sizes = network_cases(args)
    sizes.sort(key=lambda cases: cases[0].size.pixels)
    pixels = {str(cases[0].size): cases[0].size.pixels for cases in sizes}
    if len(set(pixels.values())) < 2:
        raise UsageError("--sizes: growth needs two sizes with different numbers of pixels")
    if args.layers:
        rows, quantities = [row for cases in sizes for row in count_layers(cases[0])], ["multiply-adds, G"]
    else:
        rows, quantities = measure(sizes, args.rounds, apart=True, in_turns=False), ["seconds", "GB"]
    panels: dict[str, Curves] = {quantity: {} for quantity in quantities}
    growth: list[Row] = []
    for quantity, curves in panels.items():
        for row in rows:
            if row[quantity]:
                curve = curves.setdefault(row["layer"] if args.layers else f"{row['engine']} {row['dtype']}", [])
                curve.append((pixels[row["size"]], row[quantity]))
        for label, points in curves.items():
            logs = np.log(points)
            exponent = float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0]) if len(points) > 1 else None
            growth.append({"curve": label, "quantity": quantity, "exponent": exponent})
    if args.plot:
        plot(Path(args.plot), name, panels)
    return f"{name}; growth: pixels to the power of the exponent", {"rows": rows, "growth": growth}


def count_layers(case: Case) -> list[Row]:
    """Count the multiply-adds of one layer of each attention, including projections.

    While T is constant, RG-SA's map grows with the image, and its attention with the square of the pixels. Each step
    of T makes the map small again: over all sizes, RG-SA is linear within a constant factor.
    """
    size, channels = case.size, case.config["embed_dim"]
    counted = count({**case.config, "depth": [2], "num_heads": case.config["num_heads"][:1]}, size)
    products = {
        "global attention": 4 * channels**2 * size.pixels + 2 * channels * size.pixels**2,
        LSA: counted.part(LSA).products,
        RGSA: counted.part(RGSA).products,
    }
    rows: list[Row] = [
        {"layer": name, "size": str(size), "multiply-adds, G": n / 1e9, "thousands_a_pixel": n / size.pixels / 1e3}
        for name, n in products.items()
    ]
    rows[-1].update(T=counted.depth, map=str(counted.representative))
    return rows


def plot(path: Path, title: str, panels: Mapping[str, Curves]) -> None:
    """Draw each panel's curves over the pixels on logarithmic axes, with a grey line for linear growth."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * len(panels), 4), dpi=150, layout="constrained")
    figure.suptitle(title)
    for axes, (quantity, curves) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        axes.set(xscale="log", yscale="log", xlabel="pixels", ylabel=quantity)
        for name, points in curves.items():
            axes.plot(*zip(*points, strict=True), marker="o", label=name)
            (first, start), (last, _) = points[0], points[-1]
        if curves:
            axes.plot([first, last], [start, start * last / first], color="#999999", ls="--", lw=1, label="linear")
            axes.legend(frameon=False)
    with written_whole(path) as beside:
        figure.savefig(beside, format=path.suffix[1:])


if __name__ == "__main__":
    raise SystemExit(main())
