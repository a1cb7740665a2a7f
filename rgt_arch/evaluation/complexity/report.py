"""`rgt complexity OPTION_FILE`: what the network of an option file costs, by part, beside what the paper says."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from rgt_arch.archs.rgt_arch import PRESETS, RGT
from rgt_arch.config import load_options
from rgt_arch.errors import UsageError
from rgt_arch.evaluation.complexity.counting import RGSA, Complexity, Part, count
from rgt_arch.evaluation.machine import describe_machine
from rgt_arch.evaluation.speed.apart import Outcome, Task, run_apart
from rgt_arch.evaluation.speed.report import deliver, ratio, table
from rgt_arch.evaluation.speed.settings import (
    GB,
    Size,
    check_machine,
    check_reports,
    conditions,
    device_of,
    parse_sizes,
)
from rgt_arch.evaluation.tables.results import paper
from rgt_arch.progress import Progress
from rgt_arch.weights.building import build_network

PAPER_SIZE = "128x128"
"""Input of the paper's multiply-adds: an output of 512×512 at ×4."""

COUNTED = (
    "Counted: parameters that are trained; multiply-adds of linear layers, convolutions and attention (queries times "
    "keys, weights times values) of the plain forward, with heads as wide as they are and without slices; and 5 for "
    "each element of a LayerNorm, as fvcore counts, which is how the paper's totals come out. Not counted: softmax, "
    "activations, sums, HAI's multiplication and other element-wise work."
)
_ROUNDS = 3
# Arguments that change the parameters or the multiply-adds, the scale left out.
_DECIDING = (
    "in_chans", "embed_dim", "depth", "num_heads", "mlp_ratio", "qkv_bias", "resi_connection", "split_size", "c_ratio",
    "hai", "global_blocks", "recursion", "reduction_stride", "cpe",
)  # fmt: skip


@dataclass(frozen=True)
class ComplexitySettings:
    """What to count and measure; the defaults are those of `rgt complexity`."""

    file: str
    """An option file with an RGT."""
    sizes: tuple[str, ...] = (PAPER_SIZE,)
    measure: bool = False
    """Run the network too, for time and memory."""
    device: str = "auto"
    threads: int | None = None
    json: str | None = None
    """File for the figures, or - for stdout in place of the tables."""
    overwrite: bool = False
    """Whether files that exist are replaced."""

    def check(self) -> None:
        """Raise UsageError for values that cannot be worked with."""
        check_machine(self.device, self.threads)
        check_reports(self.json, inputs=[self.file], overwrite=self.overwrite)


def network_of(file: str | Path) -> dict[str, Any]:
    """The constructor arguments of the RGT that an option file describes. Raises UsageError naming the file."""
    return network_config(load_options(file), file)


def network_config(options: Mapping[str, Any], file: str | Path) -> dict[str, Any]:
    """`network_of` for options that were read from `file`."""
    section = options.get("network_g")
    if not isinstance(section, dict) or not section.get("type"):
        raise UsageError(f"{file}: network_g:type is missing; give an option file with a network, as those in options/")
    if section["type"] != "RGT":
        raise UsageError(f"{file}: network_g:type is {section['type']!r}; only an RGT can be counted")
    config = {name: value for name, value in section.items() if name != "type"}
    try:
        with torch.device("meta"):
            build_network(config)
    except UsageError as error:
        raise UsageError(f"{file}: network_g: {error}") from error
    return config


def preset_of(config: Mapping[str, Any]) -> str | None:
    """The published name of a network with these arguments, as far as they decide what it costs; its scale is free."""
    own = _deciding(config)
    return next((name for name, preset in PRESETS.items() if _deciding(preset) == own), None)


def _deciding(config: Mapping[str, Any]) -> list[Any]:
    """The values of the arguments that decide what a network costs."""
    arguments = with_defaults(config)
    return [list(value) if isinstance(value := arguments[key], tuple) else value for key in _DECIDING]


def with_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """All constructor arguments of RGT, those of `config` first."""
    defaults = {name: parameter.default for name, parameter in inspect.signature(RGT).parameters.items()}
    return {**defaults, **config}


def published(config: Mapping[str, Any], size: Size) -> dict[str, float] | None:
    """The paper's parameters (M) and multiply-adds (G) for exactly this network and size, where it has them."""
    figures: dict[str, dict[str, float]] = paper()["complexity_x4_output_3x512x512"]
    name = preset_of(config)
    if name in figures and config.get("upscale", 2) == 4 and size == parse_sizes([PAPER_SIZE])[0]:
        return figures[name]
    return None


def run_complexity(settings: ComplexitySettings) -> None:
    """Count, measure where that is asked for, and tell. Raises UsageError for what is no option file with an RGT."""
    settings.check()
    sizes = parse_sizes(settings.sizes)
    config = network_of(settings.file)
    counted = [count(config, size) for size in sizes]
    outcomes = _measure(settings, config, sizes) if settings.measure else {}
    with conditions(settings.threads, device_of(settings.device)):
        machine = describe_machine(device_of(settings.device)) if settings.measure else None
    name = describe(config)
    texts = [f"{settings.file}: {name}"]
    texts += [
        format_complexity(of_size, published(config, of_size.size), outcomes.get(of_size.size)) for of_size in counted
    ]
    texts.append(COUNTED)
    if machine is not None:
        texts.append(f"Measured on {machine}, float32, evaluation; memory is the peak above the loaded network.")
    report = {
        "command": "complexity",
        "file": settings.file,
        "network": name,
        "config": config,
        "counted": COUNTED,
        "machine": machine,
        "sizes": [_as_plain(config, of_size, outcomes.get(of_size.size)) for of_size in counted],
    }
    deliver(report, "\n\n".join(texts), settings.json)


def describe(config: Mapping[str, Any]) -> str:
    """The network in words."""
    arguments = with_defaults(config)
    depth = arguments["depth"]
    blocks = f"{depth[0]} blocks" if len(set(depth)) == 1 else f"{', '.join(map(str, depth))} blocks"
    return (
        f"{preset_of(config) or 'an RGT'} ×{arguments['upscale']}, {len(depth)} groups of {blocks}, "
        f"{arguments['embed_dim']} channels"
    )


def _measure(settings: ComplexitySettings, config: dict[str, Any], sizes: list[Size]) -> dict[Size, Outcome]:
    """Time and memory of evaluation at each size, each in a fresh process."""
    outcomes = {}
    with Progress(len(sizes), "measuring", "size") as progress:
        for size in sizes:
            outcomes[size] = run_apart(
                Task(
                    "forward",
                    "ours",
                    config,
                    size,
                    rounds=_ROUNDS,
                    device=device_of(settings.device).type,
                    threads=settings.threads,
                )
            )
            progress.advance()
    return outcomes


def format_complexity(counted: Complexity, paper_says: dict[str, float] | None, outcome: Outcome | None) -> str:
    """The table of one size, the paper's figures under it, and what was measured."""
    whole = counted.whole
    head = ["", "parameters", "linear", "convolution", "attention", "norm", "multiply-adds", "share"]
    rows = [_row(part, whole) for part in (*counted.parts, whole)]
    reduced = f"; T = {counted.depth}, RG-SA's map {counted.representative}" if counted.part(RGSA).parameters else ""
    lines = [
        f"Input {counted.size} pixels{reduced}; multiply-adds in G",
        "",
        table(head, rows),
    ]
    if paper_says is not None:
        lines += [
            "",
            f"published: {paper_says['params_M']:.2f} M parameters, {paper_says['flops_G']:.2f} G multiply-adds; "
            f"counted: {whole.parameters / 1e6:.2f} M, {whole.total / 1e9:.2f} G "
            f"({_percent(whole.total / 1e9, paper_says['flops_G'])}; "
            f"{_percent(whole.products / 1e9, paper_says['flops_G'])} without norms)",
        ]
    if outcome is not None:
        measured = (
            outcome.shortage
            if outcome.memory is None or outcome.seconds is None
            else f"{ratio(outcome.seconds, 3)} s, {ratio(outcome.memory / GB, 3)} GB"
        )
        lines += ["", f"measured at {counted.size}: {measured}"]
    return "\n".join(lines)


def _row(part: Part, whole: Part) -> list[str]:
    numbers = (part.linear, part.convolution, part.attention, part.norm, part.total)
    return [part.name, f"{part.parameters:,}", *map(_giga, numbers), f"{100 * part.total / whole.total:.1f} %"]


def _giga(number: int) -> str:
    return f"{number / 1e9:.2f}" if number else "–"


def _percent(value: float, base: float) -> str:
    return f"{100 * (value / base - 1):+.2f} %".replace("-", "−")


def _as_plain(config: dict[str, Any], counted: Complexity, outcome: Outcome | None) -> dict[str, Any]:
    """One size for JSON."""
    parts = [
        {**asdict(part), "products": part.products, "total": part.total} for part in (*counted.parts, counted.whole)
    ]
    return {
        **counted.size._asdict(),
        "recursion_depth": counted.depth,
        "representative_map": list(counted.representative),
        "parts": parts,
        "published": published(config, counted.size),
        "measured": outcome and asdict(outcome),
    }
