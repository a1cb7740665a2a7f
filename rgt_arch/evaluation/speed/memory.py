"""`rgt bench memory`: peak memory above the loaded network, ours next to the official forward, in fresh processes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rgt_arch.evaluation.speed.agreement import CHECKED_SIZE, Agreement, check_agreement
from rgt_arch.evaluation.speed.apart import Outcome, Task, run_apart
from rgt_arch.evaluation.speed.networks import Maker, check_peer_size
from rgt_arch.evaluation.speed.report import conditions_of, deliver, heading, ratio, table, variant_name
from rgt_arch.evaluation.speed.settings import (
    GB,
    Size,
    SpeedSettings,
    check_at_least,
    check_dtypes,
    conditions,
    parse_sizes,
)
from rgt_arch.progress import Progress


@dataclass(frozen=True)
class MemorySettings(SpeedSettings):
    """What to measure; the defaults are those of `rgt bench memory`."""

    sizes: tuple[str, ...] = ("128x128", "256x256", "512x512")
    dtypes: tuple[str, ...] = ("fp32",)
    memory_limit: float | None = None
    """GB that a run may take at most; None for what is free."""

    def check(self) -> None:
        """Raise UsageError for values that cannot be measured with."""
        super().check()
        check_dtypes(self.dtypes)
        check_memory_limit(self.memory_limit)
        for size in parse_sizes(self.sizes):
            if self.peer:
                check_peer_size(size)

    def makers(self) -> tuple[Maker, ...]:
        """Whose networks are measured."""
        return ("official", "ours") if self.peer else ("ours",)


@dataclass
class Memory:
    """One network in one dtype at one size."""

    maker: Maker
    dtype: str
    height: int
    width: int
    outcome: Outcome
    ratio: float | None
    """To the peer's float32 at this size; None where one of them is not known."""


def check_memory_limit(limit: float | None) -> None:
    """Raise UsageError for a limit that leaves nothing."""
    if limit is not None:
        check_at_least(("--memory-limit", limit, 0.001))


def limit_bytes(limit: float | None) -> int | None:
    """Gigabytes as bytes."""
    return None if limit is None else int(limit * GB)


def of(value: float | None, base: float | None) -> float | None:
    """value / base where both are known."""
    return value / base if value is not None and base else None


def run_memory(settings: MemorySettings) -> None:
    """Measure and tell. Raises UsageError for settings that do not fit, UserError where outputs differ."""
    settings.check()
    with conditions(settings.threads, settings.torch_device()):
        facts = conditions_of(settings)
        agreement = check_agreement(settings) if settings.peer else None
    rows = measure_memory(settings)
    report = {
        "command": "memory",
        **facts,
        "agreement": agreement and asdict(agreement),
        "rows": [asdict(row) for row in rows],
    }
    deliver(report, format_memory(facts, agreement, rows), settings.json)


def measure_memory(settings: MemorySettings) -> list[Memory]:
    """A row for each size, network and dtype."""
    rows: list[Memory] = []
    sizes = parse_sizes(settings.sizes)
    with Progress(len(sizes) * len(settings.makers()) * len(settings.dtypes), "measuring", "run") as progress:
        for size in sizes:
            base = None
            for maker in settings.makers():
                for dtype in settings.dtypes:
                    outcome = run_apart(
                        Task(
                            "forward",
                            maker,
                            settings.config(),
                            size,
                            dtype=dtype,
                            device=settings.torch_device().type,
                            threads=settings.threads,
                            seed=settings.seed,
                            allowed=limit_bytes(settings.memory_limit),
                        )
                    )
                    if maker == "official" and dtype == "fp32":
                        base = outcome.memory
                    rows.append(Memory(maker, dtype, *size, outcome, of(outcome.memory, base)))
                    progress.advance()
    return rows


def agreement_note(agreement: Agreement | None) -> str:
    """What a heading says about outputs."""
    if agreement is None:
        return "ours alone"
    return f"equal weights; outputs at {CHECKED_SIZE} agree to {agreement.difference:.1e}"


def format_memory(facts: dict[str, Any], agreement: Agreement | None, rows: list[Memory]) -> str:
    """The table."""
    body = [
        (
            f"{Size(row.height, row.width)} {variant_name(row.maker, row.dtype)}",
            row.outcome.shortage if row.outcome.memory is None else f"{row.outcome.memory / GB:.3f}",
            ratio(row.ratio, 3),
        )
        for row in rows
    ]
    note = "peak memory above the loaded network, each in a fresh process"
    return f"{heading(facts, agreement_note(agreement), note)}\n\n{table(('', 'GB', 'of official float32'), body)}"
