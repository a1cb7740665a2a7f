"""`rgt complexity`: parameters and multiply-adds of an RGT by its parts, beside the paper's figures."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from rgt_arch.archs import rgt_arch as arch
from rgt_arch.config.loading import load_options
from rgt_arch.errors import UsageError
from rgt_arch.evaluation.reports import ABSENT, deliver, number, text_table
from rgt_arch.evaluation.tables.results import paper
from rgt_arch.files import check_output
from rgt_arch.weights.building import build_network
from rgt_arch.weights.inspecting import preset_name

LSA, RGSA = "L-SA", "RG-SA"
COUNTED = (
    "Counted: parameters that are trained; multiply-adds of linear layers, convolutions and attention (queries times "
    "keys, weights times values) of the plain forward, with heads as wide as they are and without slices; and 5 for "
    "each element of a LayerNorm, as fvcore counts, which is how the paper's totals come out. Not counted: softmax, "
    "activations, sums, HAI's multiplication and other element-wise work."
)
_BLOCK = r"layers\.\d+\.blocks\.\d+\."
# Paths of modules and parameters by part, in the order of the forward; the two kinds of attention differ by class.
_PARTS = {
    "first convolution": r"conv_first\b",
    LSA: "",
    RGSA: "",
    "gated MLP": _BLOCK + r"mlp\b",
    "norms": _BLOCK + r"norm\d|norm\b|before_RG\b",
    "HAI": _BLOCK + r"gamma$",
    "convolutions of groups and body": r"layers\.\d+\.conv\b|conv_after_body\b",
    "upsampling": r"conv_before_upsample\b|upsample\b|conv_last\b",
}
# Modules counted with their submodules; together they do all counted work.
_COUNTED_MODULES = re.compile(_BLOCK + r"(attn|mlp|norm\d)|layers\.\d+\.conv|conv_\w+|upsample|norm|before_RG")
_KINDS = {"convolution": "convolution", "bmm": "attention", "layer_norm": "norm"}


class Size(NamedTuple):
    """An input image's size in pixels."""

    height: int
    width: int

    @property
    def pixels(self) -> int:
        """Height times width."""
        return self.height * self.width

    def __str__(self) -> str:
        return f"{self.height}×{self.width}"


PAPER_SIZE = Size(128, 128)
"""Input of the paper's multiply-adds: an output of 512×512 at ×4."""


def parse_sizes(texts: Sequence[str]) -> list[Size]:
    """Read sizes written as HEIGHTxWIDTH. Raises UsageError for other texts."""
    found = [re.fullmatch(r"([1-9]\d{0,5})[x×]([1-9]\d{0,5})", text, re.ASCII) for text in texts]
    for text, match in zip(texts, found, strict=True):
        if match is None:
            raise UsageError(f"--sizes: {text!r} is not a size; give HEIGHTxWIDTH in input pixels, such as 128x128")
    return [Size(int(match[1]), int(match[2])) for match in found if match]


# --- counting ---


@dataclass
class Part:
    """All parts of one kind in a network; multiply-adds for one image."""

    name: str
    parameters: int = 0
    linear: int = 0
    """Linear layers and 1×1 projections of features."""
    convolution: int = 0
    attention: int = 0
    """Queries times keys, and weights times values."""
    norm: int = 0
    """5 for each element of a LayerNorm."""

    @property
    def products(self) -> int:
        """Multiply-adds without norms: half the FLOPs of torch's FlopCounterMode."""
        return self.linear + self.convolution + self.attention

    @property
    def total(self) -> int:
        """Products and norms."""
        return self.products + self.norm


@dataclass(frozen=True)
class Complexity:
    """The cost of a network for one image of a size, in evaluation."""

    size: Size
    depth: int
    """T, how often RG-SA applies its strided convolution."""
    representative: Size
    """Size of RG-SA's representative map."""
    parts: tuple[Part, ...]
    """The parts that the network has, in the order of the forward."""

    @property
    def whole(self) -> Part:
        """The sum of the parts."""
        numbers = [field.name for field in fields(Part) if field.name != "name"]
        return Part("all", **{name: sum(getattr(part, name) for part in self.parts) for name in numbers})

    def part(self, name: str) -> Part:
        """Return the part of this name; an empty part if the network lacks it."""
        return next((part for part in self.parts if part.name == name), Part(name))


def count(config: Mapping[str, Any], size: Size) -> Complexity:
    """Count the cost of the network with these constructor arguments for one image of `size` input pixels.

    torch's FlopCounterMode counts the published forward on the meta device, where nothing is computed or allocated:
    explicit attention, heads without padding, no slices, windows padded where the size does not divide.
    Raises UsageError for invalid arguments.
    """
    with torch.device("meta"):
        network = build_network(config).eval()
        image = torch.empty(1, network.in_chans, *size)
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.native_layer_norm: _norm_flops})
    multiple, arch.HEAD_MULTIPLE = arch.HEAD_MULTIPLE, 1  # heads are padded to the widest of q, k and v only
    try:
        with arch.explicit_attention(), counter:
            network(image)  # with gradients, so without slices
    finally:
        arch.HEAD_MULTIPLE = multiple
    depth, stride = network.geometry(*size, torch.device("meta")).depth, network.reduction_stride
    representative = Size(size.height // stride**depth, size.width // stride**depth)
    parts = {name: Part(name) for name in _PARTS}
    for name, parameter in network.named_parameters():
        parts[_part(name, network)].parameters += parameter.numel()
    for path, operations in counter.get_flop_counts().items():
        path = path.removeprefix("RGT.")
        if not _COUNTED_MODULES.fullmatch(path):
            continue
        part = parts[_part(path, network)]
        for operation, flops in operations.items():
            kind = next((kind for word, kind in _KINDS.items() if word in str(operation)), "linear")
            setattr(part, kind, getattr(part, kind) + flops // 2)
        module = network.get_submodule(path)
        if isinstance(module, arch.RecursiveGeneralizationAttention):
            # The network pads queries and keys, c_r·C wide, to the values' width; if c_r > 1, the values to theirs.
            channels = module.num_heads * module.head_dim
            widened = size.pixels * abs(channels - module.cr)
            part.linear -= widened * channels
            part.attention -= widened * representative.pixels
    return Complexity(size, depth, representative, tuple(part for part in parts.values() if part != Part(part.name)))


def _norm_flops(x: Sequence[int], normalized: object, weight: object, *_: object, **__: object) -> int:
    """FLOPs, twice fvcore's 5 per element (4 without learned scale and shift), which give the paper's totals."""
    return 2 * (4 if weight is None else 5) * torch.Size(x).numel()


def _part(path: str, network: arch.RGT) -> str:
    """Name of the part that a parameter or module belongs to."""
    if match := re.match(_BLOCK + r"attn\b", path):
        is_global = isinstance(network.get_submodule(match[0]), arch.RecursiveGeneralizationAttention)
        return RGSA if is_global else LSA
    return next(name for name, pattern in _PARTS.items() if pattern and re.match(pattern, path))


# --- option files and the paper ---


def network_config(options: Mapping[str, Any], file: str | Path) -> dict[str, Any]:
    """Return the constructor arguments of the RGT in the options of `file`. Raises UsageError that names the file."""
    section = options.get("network_g")
    kind = section.get("type") if isinstance(section, dict) else None
    if kind != "RGT":
        raise UsageError(f"{file}: network_g:type is {kind!r}; only an RGT can be counted; give a file as in options/")
    config = {name: value for name, value in options["network_g"].items() if name != "type"}
    try:
        with torch.device("meta"):
            build_network(config)
    except UsageError as error:
        raise UsageError(f"{file}: network_g: {error}") from error
    return config


def with_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return all constructor arguments of RGT: those of `config`, else the defaults."""
    defaults = {name: parameter.default for name, parameter in inspect.signature(arch.RGT).parameters.items()}
    return {**defaults, **config}


def published(config: Mapping[str, Any], size: Size) -> dict[str, float] | None:
    """Return the paper's parameters (M) and multiply-adds (G) for exactly this network and size, or None."""
    figures: dict[str, dict[str, float]] = paper()["complexity_x4_output_3x512x512"]
    full = with_defaults(config)
    return figures.get(_preset(full) or "") if full["upscale"] == 4 and size == PAPER_SIZE else None


def _preset(full: Mapping[str, Any]) -> str | None:
    return preset_name({key: list(value) if isinstance(value, tuple) else value for key, value in full.items()})


# --- the command ---


def run_complexity(
    file: str, sizes: Sequence[str] = ("128x128",), json: str | None = None, *, overwrite: bool = False
) -> None:
    """Count the network of an option file and print a table for each size.

    json: a file for the counts, or - for stdout instead of the tables. Raises UsageError for invalid input.
    """
    if json not in (None, "-"):
        check_output("--json", Path(json), [Path(file)], overwrite=overwrite)
    parsed, config = parse_sizes(sizes), network_config(load_options(file), file)
    counted = [count(config, size) for size in parsed]
    full = with_defaults(config)
    name = (
        f"{_preset(full) or 'an RGT'} ×{full['upscale']}, {len(full['depth'])} groups of "
        f"{', '.join(map(str, dict.fromkeys(full['depth'])))} blocks, {full['embed_dim']} channels"
    )
    plain = [
        {
            **one.size._asdict(),
            "recursion_depth": one.depth,
            "representative_map": list(one.representative),
            "parts": [
                {**asdict(part), "products": part.products, "total": part.total} for part in (*one.parts, one.whole)
            ],
            "published": published(config, one.size),
        }
        for one in counted
    ]
    report = {"command": "complexity", "file": file, "network": name, "config": config, "counted": COUNTED}
    tables = [_table(one, published(config, one.size)) for one in counted]
    deliver({**report, "sizes": plain}, "\n\n".join([f"{file}: {name}", *tables, COUNTED]), json)


def _table(counted: Complexity, paper_says: Mapping[str, float] | None) -> str:
    """The table of one size with the paper's figures below."""
    whole = counted.whole
    head = ["", "parameters", "linear", "convolution", "attention", "norm", "multiply-adds", "share"]
    rows = []
    for part in (*counted.parts, whole):
        kinds = (part.linear, part.convolution, part.attention, part.norm, part.total)
        giga = [number(value / 1e9, 2) if value else ABSENT for value in kinds]
        rows.append([part.name, f"{part.parameters:,}", *giga, f"{100 * part.total / whole.total:.1f} %"])
    reduced = f"; T = {counted.depth}, RG-SA's map {counted.representative}" if counted.part(RGSA).parameters else ""
    text = f"Input {counted.size} pixels{reduced}; multiply-adds in G\n\n{text_table(head, rows)}"
    if paper_says is None:
        return text
    flops = paper_says["flops_G"]
    all_of_it, products = (number(100 * (value / 1e9 / flops - 1), 2, "+") for value in (whole.total, whole.products))
    return text + (
        f"\n\npublished: {paper_says['params_M']:.2f} M parameters, {flops:.2f} G multiply-adds; counted: "
        f"{whole.parameters / 1e6:.2f} M, {whole.total / 1e9:.2f} G ({all_of_it} %; {products} % without norms)"
    )
