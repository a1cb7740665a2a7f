"""What the benchmarks share: flags, networks by engine, the agreement check, alternating runs, machine facts."""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
import platform
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from rgt_arch.archs.rgt_arch import PRESETS, recursion_depth
from rgt_arch.cli import ending_in_order, run_guarded
from rgt_arch.data.parallel import default_jobs
from rgt_arch.errors import UsageError, UserError
from rgt_arch.evaluation.complexity import Size, network_of
from rgt_arch.files import check_output
from rgt_arch.weights.building import build_network

GB = 10**9
DTYPES = {"fp32": "float32", "bf16": "bfloat16"}
"""By short name. bf16: float32 in and out, autocast to bfloat16 inside."""
NETWORKS = {"rgt": "RGT", "rgt_s": "RGT-S", "rgt_t": "RGT-T"}
MOST_DIFFERENCE = 1e-4
"""Between float32 outputs; more is a wrong network, not rounding."""
LEAST_PSNR = 40.0
"""Of bfloat16 outputs against float32, in dB."""

Forward = Callable[[Tensor], Tensor]
K = TypeVar("K")


# --- the command line ---


def make_parser(description: str, engines: Sequence[str], default: Sequence[str]) -> argparse.ArgumentParser:
    """A parser with the flags of all network benchmarks; `engines` are the choices of --engines."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--network", default="rgt", help="rgt, rgt_s, rgt_t or an option file (default: %(default)s)")
    parser.add_argument("--scale", type=int, help="output pixels a side for an input pixel (default: 4, or the file's)")
    parser.add_argument("--groups", metavar="N", type=int, help="only the first N residual groups (default: all)")
    parser.add_argument(
        "--engines",
        nargs="+",
        choices=engines,
        default=list(default),
        help="official: the official forward as spandrel ships it; compile: torch.compile of ours; openvino: ours in "
        "OpenVINO; the first is the base of all ratios (default: %(default)s)",
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="(default: the GPU, if any)")
    parser.add_argument("--threads", metavar="N", type=whole(1, 1024), help="CPU threads of torch")
    parser.add_argument("--seed", metavar="N", type=whole(0, 2**63 - 2), default=10, help="(default: %(default)s)")
    add_report_flags(parser)
    return parser


def add_report_flags(parser: argparse.ArgumentParser) -> None:
    """`--json`, `--overwrite` and `--verbose`."""
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE too; - prints JSON, not the table")
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    parser.add_argument("--verbose", action="store_true", help="show a traceback when something fails")


def whole(least: int, most: int = 2**31) -> Callable[[str], int]:
    """A type of arguments: whole numbers within bounds."""

    def read(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
        return int(text)

    return read


def positive(text: str) -> float:
    """A type of arguments: finite numbers above 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return number


def run_script(parser: argparse.ArgumentParser, work: Callable[[argparse.Namespace], None]) -> int:
    """Parse, check the places of outputs, do the work. A UserError becomes one line on stderr and its exit code."""
    args = parser.parse_args()

    def checked() -> None:
        outputs = [(f"--{name}", Path(file)) for name in ("json", "plot") if (file := getattr(args, name, None))]
        for number, (flag, path) in enumerate(outputs):
            if str(path) != "-":
                check_output(flag, path, [other for _, other in outputs[:number]], overwrite=args.overwrite)
        if getattr(args, "threads", None):
            torch.set_num_threads(args.threads)
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False  # float32 is float32
        work(args)

    with ending_in_order():
        return run_guarded(checked, parser.prog, args.verbose)


def device_of(name: str) -> torch.device:
    """The device that `--device` means. Raises UsageError for a missing GPU."""
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: PyTorch finds no CUDA GPU here; leave it out to measure on the CPU")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


# --- networks ---


@dataclass(frozen=True)
class Subject:
    """The network that is measured, where, and by which engines."""

    name: str
    config: dict[str, Any]
    device: torch.device
    seed: int
    engines: list[str]

    @classmethod
    def from_args(cls, args: argparse.Namespace) -> Subject:
        """Raises UsageError for a network that cannot be built; prints a line for each engine that is missing."""
        if args.network in NETWORKS:
            name = NETWORKS[args.network]
            config = {"upscale": 4, **PRESETS[name]}
        else:
            name, config = Path(args.network).stem, network_of(args.network)
        config["upscale"] = args.scale or config.get("upscale", 2)
        depth = config.get("depth", [6] * 6)
        if args.groups is not None:
            if not 1 <= args.groups <= len(depth):
                raise UsageError(f"--groups is {args.groups}; {name} has 1 to {len(depth)} residual groups")
            name += f", {args.groups} of {len(depth)} groups" if args.groups < len(depth) else ""
            config.update(depth=depth[: args.groups], num_heads=config.get("num_heads", depth)[: args.groups])
        with torch.device("meta"):
            build_network(config)
        device = device_of(args.device)
        engines = []
        for engine in dict.fromkeys(args.engines):
            if problem := missing(engine, device):
                print(f"{engine}: left out: {problem}", file=sys.stderr)
            else:
                engines.append(engine)
        if not engines:
            raise UserError("--engines: none of them can run here")
        return cls(f"{name} ×{config['upscale']}", config, device, args.seed, engines)


def missing(engine: str, device: torch.device) -> str | None:
    """Why an engine cannot run here, with the remedy."""
    if engine == "official" and importlib.util.find_spec("spandrel") is None:
        return "spandrel is not installed: pip install 'rgt-arch[bench]'"
    if engine == "openvino" and importlib.util.find_spec("openvino") is None:
        return "OpenVINO is not installed: pip install openvino"
    if engine == "openvino" and device.type != "cpu":
        return "OpenVINO is measured on the CPU only: add --device cpu"
    if engine == "compile" and not any(map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++", "cl"))):
        return "torch.compile needs a C++ compiler, and none is installed"
    return None


def build(engine: str, config: Mapping[str, Any], seed: int, device: torch.device) -> nn.Module:
    """The network in eval mode; one seed and configuration give all engines equal weights."""
    if engine == "official":
        from spandrel.architectures.RGT import RGT as OfficialRGT  # noqa: N811

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.meshgrid without indexing
            try:
                network: nn.Module = OfficialRGT(**config)
            except TypeError as error:
                raise UsageError(f"the official network cannot be built: {error}; use --engines ours") from error
    else:
        network = build_network(config)
    _strengthen(network, seed)
    network = network.eval().to(device)
    if engine == "compile":
        network.compile(dynamic=False)
    return OpenVino(network) if engine == "openvino" else network


@torch.no_grad()
def _strengthen(network: nn.Module, seed: int) -> None:
    """Weights that make every part matter: with the initial ones, a wrong attention would not be seen."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if name.endswith("gamma"):
            value = 0.5 + 0.1 * noise
        elif parameter.dim() == 1:
            value = (1.0 if name.endswith("weight") else 0.0) + 0.1 * noise
        else:
            value = noise * parameter[0].numel() ** -0.5
        parameter.copy_(value)


class OpenVino(nn.Module):
    """A network converted by OpenVINO for each size and precision at its first use, on the CPU."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self._compiled: dict[tuple[torch.Size, str], Any] = {}

    def forward(self, image: Tensor) -> Tensor:
        """image (B, C, H, W). Under autocast to bfloat16, OpenVINO computes in bfloat16 too."""
        import openvino

        precision = "bf16" if torch.is_autocast_enabled("cpu") else "f32"
        if (image.shape, precision) not in self._compiled:
            with torch.no_grad(), torch.autocast("cpu", enabled=False), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the tracer's about sizes, which are fixed here
                model = openvino.convert_model(self.network, example_input=image, input=[tuple(image.shape)])
            hints = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
            self._compiled[image.shape, precision] = openvino.compile_model(model, "CPU", hints)
        return torch.from_numpy(self._compiled[image.shape, precision](image.numpy())[0].copy())


def random_images(size: Size, config: Mapping[str, Any], seed: int, device: torch.device, batch: int = 1) -> Tensor:
    """Images (batch, C, H, W) in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, config.get("in_chans", 3), *size, generator=generator).to(device)


def autocast(dtype: str, device: torch.device) -> torch.autocast:
    """The context in which a network computes in `dtype`, a short name."""
    return torch.autocast(device.type, torch.bfloat16, enabled=dtype == "bf16")


def check_official_size(size: Size) -> None:
    """Raise UsageError for a size at which the official forward crashes: its reduced map would be empty."""
    longer = max(size)
    if recursion_depth(*size, training=False) < max(2, recursion_depth(longer, longer, training=False)):
        raise UsageError(f"--sizes {size}: the official forward crashes on so small or thin images; use --engines ours")


def least_official_memory(config: Mapping[str, Any], size: Size, dtype: str) -> int:
    """Bytes that the official forward takes at least: the scores of one RG-SA, (heads, H·W, h·w), held twice."""
    heads = [heads for heads, blocks in zip(config["num_heads"], config["depth"], strict=True) if blocks > 1]
    reduced = 4 ** max(2, recursion_depth(max(size), max(size), training=False))
    scores = max(heads, default=0) * size.pixels * (size.height // reduced) * (size.width // reduced)
    return 2 * scores * (2 if dtype == "bf16" else 4)


# --- agreement ---


@dataclass(frozen=True)
class Agreement:
    """How far an output is from a float32 reference."""

    difference: float
    """Largest absolute difference."""
    psnr: float | None
    """In dB, the peak being the range of the reference; None where equal."""


def compare(output: Tensor, reference: Tensor) -> Agreement:
    """Compare an output with the reference of the same shape."""
    error = output.double() - reference.double()
    peak, mse = (reference.max() - reference.min()).item(), error.square().mean().item()
    psnr = None if mse == 0 else 20 * math.log10(peak or math.nan) - 10 * math.log10(mse)
    return Agreement(error.abs().max().item(), psnr)


def require(agreement: Agreement, dtype: str, what: str) -> None:
    """Raise UserError where outputs differ by more than rounding, or are NaN."""
    if dtype == "fp32" and not agreement.difference <= MOST_DIFFERENCE:
        raise UserError(f"{what}: outputs differ by {agreement.difference:.1e} > {MOST_DIFFERENCE:.0e}; not measured")
    if dtype == "bf16" and agreement.psnr is not None and not agreement.psnr >= LEAST_PSNR:
        raise UserError(f"{what}: bfloat16 output has PSNR {agreement.psnr:.1f} dB < {LEAST_PSNR:.0f} dB; not measured")


def check_agreement(subject: Subject) -> float | None:
    """Compare all engines with the first in float32; returns the largest difference, None for a single engine."""
    size = Size(64, 64)
    image = random_images(size, subject.config, subject.seed, subject.device)
    with torch.inference_mode():
        outputs = {name: build(name, subject.config, subject.seed, subject.device)(image) for name in subject.engines}
    base, *others = outputs.items()
    agreements = {name: compare(output, base[1]) for name, output in others}
    for name, agreement in agreements.items():
        require(agreement, "fp32", f"{name} against {base[0]} at {size}")
    return max((agreement.difference for agreement in agreements.values()), default=None)


# --- time ---


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Seconds that `work` takes."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def in_turns(
    works: Mapping[K, Callable[[], object]], rounds: int, device: torch.device, done: Callable[[], object]
) -> dict[K, list[float]]:
    """Seconds of `rounds` runs of each work, alternating forwards and backwards, so that a busy moment meets all."""
    times: dict[K, list[float]] = {key: [] for key in works}
    for turn in range(rounds):
        for key in list(works)[:: 1 if turn % 2 == 0 else -1]:
            times[key].append(seconds(works[key], device))
            done()
    return times


# --- the report ---


def describe_machine(device: torch.device) -> str:
    """GPU, CPU, cores, threads, versions, load and a preloaded allocator in one line: no figure without it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    preloaded = os.environ.get("LD_PRELOAD", "")
    facts = [
        torch.cuda.get_device_name(device) if device.type == "cuda" else "",
        names[0] if names else platform.processor() or platform.machine(),
        f"{default_jobs()} cores",
        f"{torch.get_num_threads()} torch threads",
        f"torch {torch.__version__}",
        f"Python {platform.python_version()}",
        f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "",
        next((f"{name} preloaded" for name in ("tcmalloc", "jemalloc", "mimalloc") if name in preloaded), ""),
    ]
    return ", ".join(filter(None, facts))


def ratio(value: float | None, base: float | None) -> float | None:
    """value / base where both are known."""
    return value / base if value is not None and base else None


def number(value: float | None, digits: int = 2) -> str:
    """A number as a table shows it."""
    return "–" if value is None else f"{value:.{digits}f}"
