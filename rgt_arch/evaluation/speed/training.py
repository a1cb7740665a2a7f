"""`rgt bench train`: time and memory of training steps, ours next to the official network."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rgt_arch.errors import UserError
from rgt_arch.evaluation.data_benchmark_loaders import LR_PATCH
from rgt_arch.evaluation.speed.agreement import Agreement, compare, require
from rgt_arch.evaluation.speed.apart import Outcome, Task, run_apart
from rgt_arch.evaluation.speed.clock import Work, in_turns
from rgt_arch.evaluation.speed.memory import check_memory_limit, limit_bytes, of
from rgt_arch.evaluation.speed.networks import Maker, build, random_images
from rgt_arch.evaluation.speed.report import conditions_of, deliver, heading, ratio, table, variant_name
from rgt_arch.evaluation.speed.settings import GB, Size, SpeedSettings, check_at_least, check_dtypes, conditions
from rgt_arch.evaluation.speed.steps import training_step
from rgt_arch.progress import Progress

PATCH = Size(LR_PATCH, LR_PATCH)
MOST_GRADIENT_DIFFERENCE = 1e-3
"""Between gradients in float32, relative to the largest of all."""

_STEPS = 2  # in which memory is measured: from the second on Adam's moments are there in the forward pass


@dataclass(frozen=True)
class TrainSettings(SpeedSettings):
    """What to measure; the defaults are those of `rgt bench train`."""

    batch: int = 1
    dtypes: tuple[str, ...] = ("fp32", "bf16")
    rounds: int = 3
    memory_limit: float | None = None
    """GB that a run may take at most; None for what is free."""

    def check(self) -> None:
        """Raise UsageError for values that cannot be measured with."""
        super().check()
        check_dtypes(self.dtypes)
        check_at_least(("--rounds", self.rounds, 1), ("--batch", self.batch, 1))
        check_memory_limit(self.memory_limit)

    def variants(self) -> list[Variant]:
        """What is measured; the first is the base of all ratios, float32 of the peer if it is measured."""
        makers: tuple[Maker, ...] = ("official", "ours") if self.peer else ("ours",)
        dtypes = [*dict.fromkeys(("fp32", *self.dtypes))]
        return [
            Variant(maker, dtype, use_chk)
            for maker in makers
            for use_chk in ((False, True) if maker == "ours" else (False,))
            for dtype in dtypes
            if dtype in self.dtypes or (maker == makers[0] and not use_chk)
        ]


@dataclass(frozen=True)
class Variant:
    """One way to train."""

    maker: Maker
    dtype: str
    use_chk: bool
    """Whether blocks are computed again in the backward pass."""

    def __str__(self) -> str:
        return variant_name(self.maker, self.dtype) + (", use_chk" if self.use_chk else "")


@dataclass(frozen=True)
class Step:
    """Time and memory of a training step."""

    maker: Maker
    dtype: str
    use_chk: bool
    seconds: float | None
    """Median; None where it ran out of memory."""
    speedup: float | None
    """The base's seconds over these."""
    outcome: Outcome
    memory_ratio: float | None
    """To the base's."""


@dataclass(frozen=True)
class TrainingAgreement:
    """How far ours is from the peer in float32, on one patch in train mode."""

    output: Agreement
    gradient: float
    """Largest absolute difference of gradients, relative to the largest gradient."""


def run_train(settings: TrainSettings) -> None:
    """Measure and tell. Raises UsageError for settings that do not fit, UserError where results differ."""
    settings.check()
    with conditions(settings.threads, settings.torch_device()):
        facts = conditions_of(settings)
        agreement = check_training(settings) if settings.peer else None
        rows = measure_train(settings)
    report = {
        "command": "train",
        **facts,
        "agreement": agreement and asdict(agreement),
        "rows": [asdict(row) for row in rows],
    }
    deliver(report, format_train(facts, agreement, rows, settings), settings.json)


def check_training(settings: TrainSettings) -> TrainingAgreement:
    """Compare outputs and gradients with the peer's. Raises UserError where they differ by more than rounding."""
    (theirs, their_gradient), (ours, our_gradient) = (_gradients(settings, maker) for maker in ("official", "ours"))
    output = compare(ours, theirs)
    require(output, "fp32", f"{PATCH} in train mode")
    gradient = ((our_gradient - their_gradient).abs().max() / their_gradient.abs().max()).item()
    if not gradient <= MOST_GRADIENT_DIFFERENCE:
        raise UserError(
            f"gradients differ: {gradient:.1e} of the largest > {MOST_GRADIENT_DIFFERENCE:.0e}; nothing was measured"
        )
    return TrainingAgreement(output, gradient)


def _gradients(settings: TrainSettings, maker: Maker) -> tuple[Tensor, Tensor]:
    """The output in train mode, and all gradients of its L1 distance to random images in one vector."""
    config, device = settings.config(), settings.torch_device()
    network = build(maker, config, settings.seed, device).train()
    lr = random_images(PATCH, config, settings.seed, device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(settings.seed)  # both drop the same paths
        output: Tensor = network(lr)
    hr = random_images(Size(*output.shape[-2:]), config, settings.seed + 1, device)
    F.l1_loss(output, hr).backward()
    zero = torch.zeros(1, device=device)
    gradients = [zero.expand(p.numel()) if p.grad is None else p.grad.reshape(-1) for p in network.parameters()]
    return output.detach(), torch.cat(gradients)


def measure_train(settings: TrainSettings) -> list[Step]:
    """A row for each variant: memory in fresh processes, then times in turns of those that the memory suffices for."""
    device, variants = settings.torch_device(), settings.variants()
    with Progress(len(variants) * (settings.rounds + 2), "training", "run") as progress:
        outcomes = {}
        for variant in variants:
            outcomes[variant] = run_apart(
                Task(
                    "train",
                    variant.maker,
                    settings.config(use_chk=variant.use_chk),
                    PATCH,
                    dtype=variant.dtype,
                    batch=settings.batch,
                    rounds=_STEPS,
                    device=device.type,
                    threads=settings.threads,
                    seed=settings.seed,
                    allowed=limit_bytes(settings.memory_limit),
                )
            )
            progress.advance()
        steps = {variant: _step(settings, variant) for variant in variants if outcomes[variant].memory is not None}
        for step in steps.values():
            step()
            progress.advance()
        times = in_turns(steps, settings.rounds, device, progress.advance)
    medians = {variant: statistics.median(values) for variant, values in times.items()}
    base = variants[0]
    return [
        Step(
            **asdict(variant),
            seconds=medians.get(variant),
            speedup=of(medians.get(base), medians.get(variant)),
            outcome=outcomes[variant],
            memory_ratio=of(outcomes[variant].memory, outcomes[base].memory),
        )
        for variant in variants
    ]


def _step(settings: TrainSettings, variant: Variant) -> Work:
    config, device = settings.config(use_chk=variant.use_chk), settings.torch_device()
    network = build(variant.maker, config, settings.seed, device)
    return training_step(network, PATCH, config, settings.batch, variant.dtype, settings.seed, device)


def format_train(
    facts: dict[str, Any], agreement: TrainingAgreement | None, rows: list[Step], settings: TrainSettings
) -> str:
    """The table."""
    note = (
        "ours alone"
        if agreement is None
        else (
            f"equal weights; outputs agree to {agreement.output.difference:.1e}, gradients to {agreement.gradient:.1e} "
            "of the largest"
        )
    )
    body = [
        (
            str(Variant(row.maker, row.dtype, row.use_chk)),
            ratio(row.seconds, 3),
            ratio(row.speedup),
            row.outcome.shortage if row.outcome.memory is None else f"{row.outcome.memory / GB:.3f}",
            ratio(row.memory_ratio),
        )
        for row in rows
    ]
    base = settings.variants()[0]
    what = (
        f"A training step on {settings.batch} patch{'es' if settings.batch > 1 else ''} of {PATCH}: forward, L1, "
        f"backward, Adam; ratios to {base}; medians of {settings.rounds} in turns; peak memory above the loaded "
        "network, in fresh processes"
    )
    head = ("", "seconds", "times faster", "GB", f"memory of {base}")
    return f"{heading(facts, note)}\n{what}\n\n{table(head, body)}"
