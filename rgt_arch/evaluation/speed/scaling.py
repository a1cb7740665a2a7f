"""`rgt bench scaling`: how time and memory grow with the pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from rgt_arch.errors import UsageError
from rgt_arch.evaluation.figures import save_figure
from rgt_arch.evaluation.speed.agreement import Agreement, check_agreement
from rgt_arch.evaluation.speed.apart import Outcome, Task, run_apart
from rgt_arch.evaluation.speed.memory import agreement_note, check_memory_limit, limit_bytes, of
from rgt_arch.evaluation.speed.networks import Maker, check_peer_size
from rgt_arch.evaluation.speed.report import conditions_of, deliver, heading, ratio, table, variant_name
from rgt_arch.evaluation.speed.scaling_plot import Curve, Panel, scaling_plot
from rgt_arch.evaluation.speed.settings import (
    DTYPES,
    GB,
    Size,
    SpeedSettings,
    check_at_least,
    check_dtypes,
    check_reports,
    conditions,
    parse_sizes,
)
from rgt_arch.progress import Progress

QUANTITIES = {"seconds": "time", "memory": "memory"}


@dataclass(frozen=True)
class ScalingSettings(SpeedSettings):
    """What to measure; the defaults are those of `rgt bench scaling`."""

    peer: bool = False
    sizes: tuple[str, ...] = ("64x64", "128x128", "256x256", "512x512", "768x768", "960x960", "1024x1024", "1088x1088")
    dtype: str = "fp32"
    rounds: int = 1
    memory_limit: float | None = None
    """GB that a run may take at most; None for what is free."""
    plot: str | None = None

    def check(self) -> None:
        """Raise UsageError for values that cannot be measured with."""
        super().check()
        check_dtypes([self.dtype])
        check_at_least(("--rounds", self.rounds, 1))
        check_memory_limit(self.memory_limit)
        sizes = parse_sizes(self.sizes)
        if len({size.pixels for size in sizes}) < 2:
            raise UsageError("--sizes: growth needs two sizes with different numbers of pixels")
        if self.peer:
            for size in sizes:
                check_peer_size(size)
        check_reports(self.json, self.plot, overwrite=self.overwrite)

    def makers(self) -> tuple[Maker, ...]:
        """Whose networks are measured."""
        return ("official", "ours") if self.peer else ("ours",)


@dataclass(frozen=True)
class Growth:
    """How a quantity grows with the pixels."""

    exponent: float
    """Of pixels, by least squares on the logarithms: 1 is linear."""
    largest_step: float
    """The largest factor by which the quantity per pixel grows between neighbours; 1 is none."""
    step_from: int
    step_to: int
    """Pixels of the two neighbours."""


def growth(points: Sequence[tuple[int, float]]) -> Growth | None:
    """Fit a power law to (pixels, value); None where there are fewer than two different sizes."""
    ordered = sorted(points)
    if len({pixels for pixels, _ in ordered}) < 2 or any(value <= 0 for _, value in ordered):
        return None
    logs = [(math.log(pixels), math.log(value)) for pixels, value in ordered]
    mean_x, mean_y = (sum(values) / len(logs) for values in zip(*logs, strict=True))
    exponent = sum((x - mean_x) * (y - mean_y) for x, y in logs) / sum((x - mean_x) ** 2 for x, _ in logs)
    steps = [
        ((after[1] / after[0]) / (before[1] / before[0]), before[0], after[0])
        for before, after in pairwise(ordered)
        if before[0] < after[0]
    ]
    return Growth(exponent, *max(steps))


def run_scaling(settings: ScalingSettings) -> None:
    """Measure, tell and draw. Raises UsageError for settings that do not fit, UserError where outputs differ."""
    settings.check()
    with conditions(settings.threads, settings.torch_device()):
        facts = conditions_of(settings)
        agreement = check_agreement(settings) if settings.peer else None
    sizes = sorted(parse_sizes(settings.sizes), key=lambda size: size.pixels)
    outcomes = measure_scaling(settings, sizes)
    points = {
        (maker, quantity): [
            (size.pixels, value) for size in sizes if (value := getattr(outcomes[maker, size], quantity)) is not None
        ]
        for maker in settings.makers()
        for quantity in QUANTITIES
    }
    fits = {key: growth(values) for key, values in points.items()}
    report = {
        "command": "scaling",
        **facts,
        "agreement": agreement and asdict(agreement),
        "rows": [{"maker": maker, **size._asdict(), **asdict(of_it)} for (maker, size), of_it in outcomes.items()],
        "growth": [
            {"maker": maker, "of": QUANTITIES[quantity], **asdict(fit)}
            for (maker, quantity), fit in fits.items()
            if fit is not None
        ],
    }
    if settings.plot is not None:
        title = (
            f"{facts['network'].replace('×', 'x')}, {DTYPES[settings.dtype]}, on {settings.torch_device().type.upper()}"
        )
        save_figure(scaling_plot(title, _panels(points, fits)), Path(settings.plot))
    deliver(report, format_scaling(facts, agreement, outcomes, fits, settings), settings.json)


def measure_scaling(settings: ScalingSettings, sizes: Sequence[Size]) -> dict[tuple[Maker, Size], Outcome]:
    """Time and memory of each network at each size, each in a fresh process."""
    outcomes = {}
    with Progress(len(sizes) * len(settings.makers()), "measuring", "run") as progress:
        for size in sizes:
            for maker in settings.makers():
                outcomes[maker, size] = run_apart(
                    Task(
                        "forward",
                        maker,
                        settings.config(),
                        size,
                        dtype=settings.dtype,
                        rounds=settings.rounds,
                        device=settings.torch_device().type,
                        threads=settings.threads,
                        seed=settings.seed,
                        allowed=limit_bytes(settings.memory_limit),
                    )
                )
                progress.advance()
    return outcomes


def _panels(
    points: dict[tuple[Maker, str], list[tuple[int, float]]], fits: dict[tuple[Maker, str], Growth | None]
) -> list[Panel]:
    panels = []
    for quantity, (title, unit) in {"seconds": ("Time", 1.0), "memory": ("Peak memory above the network", GB)}.items():
        curves = []
        for (maker, of_it), values in points.items():
            if of_it == quantity and values:
                fit = fits[maker, quantity]
                label = maker if fit is None else f"{maker}: pixels^{fit.exponent:.2f}"
                curves.append(Curve(maker, label, [(pixels, value / unit) for pixels, value in values]))
        panels.append(Panel(title, "s" if quantity == "seconds" else "GB", curves))
    return panels


def format_scaling(
    facts: dict[str, Any],
    agreement: Agreement | None,
    outcomes: dict[tuple[Maker, Size], Outcome],
    fits: dict[tuple[Maker, str], Growth | None],
    settings: ScalingSettings,
) -> str:
    """The table and the fitted exponents."""
    body = []
    for (maker, size), outcome in outcomes.items():
        base = outcomes.get(("official", size), Outcome())
        row = [
            f"{size} {variant_name(maker, settings.dtype)}",
            ratio(outcome.seconds, 3),
            outcome.shortage if outcome.memory is None else f"{outcome.memory / GB:.3f}",
        ]
        if settings.peer:
            row += [ratio(of(base.seconds, outcome.seconds)), ratio(of(outcome.memory, base.memory), 3)]
        body.append(row)
    head = ["", "seconds", "GB", *(["times faster", "memory of official"] if settings.peer else [])]
    lines = [
        heading(facts, agreement_note(agreement), "peak memory above the loaded network, each in a fresh process"),
        "",
        table(head, body),
        "",
    ]
    for (maker, quantity), fit in fits.items():
        if fit is None:
            lines.append(f"{maker}: {QUANTITIES[quantity]}: too few sizes for a fit")
            continue
        lines.append(
            f"{maker}: {QUANTITIES[quantity]} grows with pixels^{fit.exponent:.3f}; largest step between neighbours: "
            f"×{fit.largest_step:.2f} a pixel, from {fit.step_from} to {fit.step_to} pixels"
        )
    return "\n".join(lines)
