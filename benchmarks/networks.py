"""The measured networks: the official one and ours in several engines, with equal weights."""

from __future__ import annotations

import argparse
import importlib.util
import inspect
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from common import device_of, make_parser, positive
from torch import Tensor, nn

from rgt_arch.archs.rgt_arch import PRESETS, RGT
from rgt_arch.config.loading import load_options
from rgt_arch.errors import UsageError, UserError
from rgt_arch.evaluation.complexity import Size, network_config, parse_sizes, with_defaults
from rgt_arch.inference.precision import has_native_bfloat16
from rgt_arch.weights.building import build_network

ENGINES = ("official", "ours", "compile", "openvino", "onnxruntime")
DTYPES = ("fp32", "bf16")
"""bf16: float32 in and out, autocast to bfloat16 inside."""
NETWORKS = {"rgt": "RGT", "rgt_s": "RGT-S", "rgt_t": "RGT-T"}


def make_network_parser(
    description: str, sizes: str, rounds: int, dtypes: Sequence[str] | None = None
) -> argparse.ArgumentParser:
    """Return a parser with the flags of the network benchmarks. dtypes: measured by default; None: the native ones."""
    parser = make_parser(description)
    several = partial(parser.add_argument, nargs="+")
    parser.add_argument("--network", default="rgt", help="rgt, rgt_s, rgt_t or an option file (default: %(default)s)")
    parser.add_argument("--scale", metavar="N", type=int, help="output pixels a side for an input pixel")
    parser.add_argument("--groups", metavar="N", type=int, help="only the first N residual groups")
    several("--engines", choices=ENGINES, default=["official", "ours"], help="first the base of ratios (%(default)s)")
    several("--sizes", metavar="HxW", default=sizes.split(), help="input pixels (default: %(default)s)")
    text = f"bf16: bfloat16 inside (default: {' '.join(dtypes) if dtypes else 'fp32, and bf16 where it is native'})"
    several("--dtypes", choices=DTYPES, default=dtypes, help=text)
    parser.add_argument("--rounds", metavar="N", type=positive, default=rounds, help="timed runs (%(default)s)")
    return parser


@dataclass(frozen=True)
class Case:
    """One measurement: an image through a network without gradients, or with `train` a training step."""

    engine: str
    dtype: str
    size: Size
    config: dict[str, Any]
    device: torch.device
    batch: int = 1
    train: bool = False

    def build(self) -> nn.Module:
        """Return the network in eval mode. Equal configurations have equal weights in all engines."""
        if self.engine == "official":
            from spandrel.architectures.RGT import RGT as OfficialRGT  # noqa: N811

            warnings.filterwarnings("ignore", "torch.meshgrid")  # without indexing
            known = inspect.signature(OfficialRGT).parameters
            network: nn.Module = OfficialRGT(**{key: value for key, value in self.config.items() if key in known})
        else:
            network = build_network(self.config)
        strengthen(network)
        network = network.eval().to(self.device)
        if self.engine == "compile":
            network.compile(dynamic=False)
        wrapper = {"openvino": OpenVino, "onnxruntime": OnnxRuntime}.get(self.engine)
        return wrapper(network) if wrapper else network

    def work(self, network: nn.Module) -> Callable[[], Tensor]:
        """Return the function to measure, which returns the network's output in float32.

        A training step is forward, L1, backward and Adam. Gradients are freed first, as in BasicSR.
        """
        lr, hr = self.images(), self.images(self.config["upscale"])
        optimizer = torch.optim.Adam(network.train().parameters(), lr=2e-4) if self.train else None
        autocast = partial(torch.autocast, self.device.type, torch.bfloat16, self.dtype == "bf16")

        def run() -> Tensor:
            if optimizer is None:
                with torch.inference_mode(), autocast():
                    return network(lr).float()
            optimizer.zero_grad()
            with autocast():
                output: Tensor = network(lr)
            F.l1_loss(output.float(), hr).backward()
            optimizer.step()
            return output.detach().float()

        return run

    def images(self, scale: int = 1) -> Tensor:
        """Return random images (batch, C, scale·H, scale·W) in [0, 1]."""
        shape = (self.batch, self.config["in_chans"], scale * self.size.height, scale * self.size.width)
        return torch.rand(shape, generator=torch.Generator().manual_seed(scale)).to(self.device)


def network_cases(args: argparse.Namespace) -> tuple[str, list[list[Case]]]:
    """Return the network's name and, for each size, the cases of all engines and dtypes.

    The first case is the base: the first engine in float32. Prints a line for each missing engine. Raises UsageError
    for a network that cannot be built, UserError if no engine can run.
    """
    sizes, device = parse_sizes(args.sizes), device_of(args.device)
    name = NETWORKS.get(args.network, Path(args.network).stem)
    if args.network in NETWORKS:
        config = with_defaults({"upscale": 4, **PRESETS[name]})
    else:
        config = with_defaults(network_config(load_options(args.network), args.network))
    del config["unknown"]  # the constructor's name for arguments it refuses
    config["upscale"] = args.scale or config["upscale"]
    if args.groups is not None:
        if not 1 <= args.groups <= len(config["depth"]):
            raise UsageError(f"--groups is {args.groups}; {name} has 1 to {len(config['depth'])} residual groups")
        name += f", {args.groups} of {len(config['depth'])} groups"
        config.update({key: config[key][: args.groups] for key in ("depth", "num_heads")})
    with torch.device("meta"):
        build_network(config)
    dtypes = args.dtypes or (DTYPES if has_native_bfloat16(device) else DTYPES[:1])
    if not args.dtypes and dtypes != DTYPES:
        print(f"bf16: left out: this {device.type} has no instructions for it", file=sys.stderr)
    engines = []
    for engine in args.engines:
        if problem := missing(engine, device):
            print(f"{engine}: left out: {problem}", file=sys.stderr)
        else:
            engines.append(engine)
    if not engines:
        raise UserError("--engines: none of them can run here")
    cases = [
        [
            Case(engine, dtype, size, config, device)
            for dtype in DTYPES
            for engine in engines
            if (dtype in dtypes and (dtype, engine) != ("bf16", "onnxruntime"))  # which has no bfloat16 on CPUs
            or (dtype, engine) == ("fp32", engines[0])
        ]
        for size in sizes
    ]
    return f"{name} ×{config['upscale']}", cases


def missing(engine: str, device: torch.device) -> str | None:
    """Return why an engine cannot run here, and the remedy; None if it can."""
    packages = {"official": ["spandrel"], "openvino": ["openvino"], "onnxruntime": ["onnx", "onnxruntime"]}
    for package in packages.get(engine, ()):
        if importlib.util.find_spec(package) is None:
            return f"{package} is not installed: pip install 'rgt-arch[bench]'"
    if engine in ("openvino", "onnxruntime") and device.type != "cpu":
        return f"{engine} is measured on the CPU only: add --device cpu"
    if engine == "compile" and not any(map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++", "cl"))):
        return "torch.compile needs a C++ compiler, and none is installed"
    return None


@torch.no_grad()
def strengthen(network: nn.Module) -> None:
    """Set weights that make every part matter; with the initial ones, a wrong attention would change nothing."""
    generator = torch.Generator().manual_seed(10)
    for name, parameter in network.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() > 1:
            parameter.copy_(noise * parameter[0].numel() ** -0.5)
        else:
            parameter.copy_(0.1 * noise + (0.5 if name.endswith("gamma") else name.endswith("weight")))


class OpenVino(nn.Module):
    """A network converted by OpenVINO for each size and precision at its first use, on the CPU."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self._compiled: dict[tuple[torch.Size, str], Any] = {}

    def forward(self, image: Tensor) -> Tensor:
        """image (B, C, H, W). Under autocast to bfloat16, OpenVINO computes in bfloat16 too."""
        import openvino

        key = (image.shape, "bf16" if torch.is_autocast_enabled("cpu") else "f32")
        if key not in self._compiled:
            with torch.no_grad(), torch.autocast("cpu", enabled=False), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the tracer warns about sizes, which are fixed here
                model = openvino.convert_model(self.network, example_input=image, input=[tuple(image.shape)])
            hints = {"INFERENCE_PRECISION_HINT": key[1], "INFERENCE_NUM_THREADS": torch.get_num_threads()}
            self._compiled[key] = openvino.compile_model(model, "CPU", hints)
        return torch.from_numpy(self._compiled[key](image.numpy())[0].copy())


class OnnxRuntime(nn.Module):
    """A network as `rgt export` writes it, for all sizes, run by ONNX Runtime in float32 on the CPU."""

    def __init__(self, network: RGT) -> None:
        super().__init__()
        import onnxruntime

        from rgt_arch.export.graph import onnx_model

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        with torch.no_grad():
            file = onnx_model(network, None, torch.float32, {}).SerializeToString()
        self.session = onnxruntime.InferenceSession(file, options, ["CPUExecutionProvider"])

    def forward(self, image: Tensor) -> Tensor:
        """image (B, C, H, W)."""
        return torch.from_numpy(self.session.run(None, {"image": image.numpy()})[0])
