"""`rgt complexity`: parameters and multiply-adds of an RGT by its parts, beside the paper's figures."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from rgt_arch.archs import rgt_arch as arch
from rgt_arch.config import load_options
from rgt_arch.errors import UsageError
from rgt_arch.evaluation.reports import deliver, text_table
from rgt_arch.evaluation.tables.results import paper
from rgt_arch.files import check_output
from rgt_arch.weights.building import build_network

LSA, RGSA = "L-SA", "RG-SA"
PARTS = ("first convolution", LSA, RGSA, "gated MLP", "norms", "HAI", "convolutions of groups and body", "upsampling")
"""In the order of the forward."""
COUNTED = (
    "Counted: parameters that are trained; multiply-adds of linear layers, convolutions and attention (queries times "
    "keys, weights times values) of the plain forward, with heads as wide as they are and without slices; and 5 for "
    "each element of a LayerNorm, as fvcore counts, which is how the paper's totals come out. Not counted: softmax, "
    "activations, sums, HAI's multiplication and other element-wise work."
)
_BLOCK = r"layers\.\d+\.blocks\.\d+\."
_PARTS = (
    (_BLOCK + r"mlp\b", "gated MLP"),
    (_BLOCK + r"gamma$", "HAI"),
    (_BLOCK + r"norm\d|norm\b|before_RG\b", "norms"),
    (r"conv_first\b", "first convolution"),
    (r"layers\.\d+\.conv\b|conv_after_body\b", "convolutions of groups and body"),
    (r"conv_before_upsample\b|upsample\b|conv_last\b", "upsampling"),
)
# Modules whose counts include those of their own modules; together they do all counted work.
_COUNTED_MODULES = re.compile(_BLOCK + r"(attn|mlp|norm\d)|layers\.\d+\.conv|conv_\w+|upsample|norm|before_RG")
# Arguments that change the parameters or the multiply-adds, except the scale.
_DECIDING = (
    "in_chans", "embed_dim", "depth", "num_heads", "mlp_ratio", "qkv_bias", "resi_connection", "split_size", "c_ratio",
    "hai", "global_blocks", "recursion", "reduction_stride", "cpe",
)  # fmt: skip


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
    """Sizes written as HEIGHTxWIDTH. Raises UsageError for other texts."""
    sizes = []
    for text in texts:
        match = re.fullmatch(r"(\d{1,6})[x×](\d{1,6})", text, re.ASCII)
        size = Size(int(match[1]), int(match[2])) if match else None
        if size is None or min(size) < 1:
            raise UsageError(f"--sizes: {text!r} is not a size; give HEIGHTxWIDTH in input pixels, such as 128x128")
        sizes.append(size)
    return sizes


# --- counting ---


@dataclass
class Part:
    """One kind of part over the whole network; multiply-adds for one image."""

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
        """Multiply-adds of products alone: half of what torch's FlopCounterMode counts."""
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
    """Size of RG-SA's map after that."""
    parts: tuple[Part, ...]
    """Those of `PARTS` that the network has, in their order."""

    @property
    def whole(self) -> Part:
        """The sum of the parts."""
        numbers = [field.name for field in fields(Part) if field.name != "name"]
        return Part("all", **{name: sum(getattr(part, name) for part in self.parts) for name in numbers})

    def part(self, name: str) -> Part:
        """One of the parts; an empty one if the network does not have it."""
        return next((part for part in self.parts if part.name == name), Part(name))


def count(config: Mapping[str, Any], size: Size) -> Complexity:
    """The cost of the network with these constructor arguments for one image of `size` input pixels.

    torch's FlopCounterMode counts the published forward on the meta device, where nothing is computed or allocated:
    attention written out, heads as wide as they are, no slices, windows padded where the size does not divide.
    Raises UsageError where the network refuses the arguments.
    """
    with torch.device("meta"):
        network = build_network(config).eval()
        image = torch.empty(1, network.in_chans, *size)
    norms = {torch.ops.aten.native_layer_norm: _norm_flops}
    counter = FlopCounterMode(display=False, custom_mapping=norms)
    with _narrow_heads(), arch.explicit_attention(), counter:
        network(image)  # with gradients, and so not in slices
    depth, stride = network.geometry(*size, torch.device("meta")).depth, network.reduction_stride
    representative = Size(size.height // stride**depth, size.width // stride**depth)
    parts = {name: Part(name) for name in PARTS}
    for name, parameter in network.named_parameters():
        parts[_part(name, network)].parameters += parameter.numel()
    for path, operations in counter.get_flop_counts().items():
        path = path.removeprefix("RGT.")
        if not _COUNTED_MODULES.fullmatch(path):
            continue
        part = parts[_part(path, network)]
        for operation, flops in operations.items():
            kinds = {"convolution": "convolution", "bmm": "attention", "layer_norm": "norm"}
            kind = next((kind for word, kind in kinds.items() if word in str(operation)), "linear")
            setattr(part, kind, getattr(part, kind) + flops // 2)
        module = network.get_submodule(path)
        if isinstance(module, arch.RecursiveGeneralizationAttention):
            # The network pads queries and keys, c_r·C wide, to the width of the values; if c_r > 1, values to theirs.
            channels = module.num_heads * module.head_dim
            widened = size.pixels * abs(channels - module.cr)
            part.linear -= widened * channels
            part.attention -= widened * representative.pixels
    return Complexity(size, depth, representative, tuple(part for part in parts.values() if part != Part(part.name)))


def _norm_flops(x: Sequence[int], normalized: object, weight: object, *_: object, **__: object) -> int:
    """Twice what fvcore counts: 5 for an element, 4 without learned scale and shift. The paper's totals come out so."""
    return 2 * (4 if weight is None else 5) * torch.Size(x).numel()


@contextmanager
def _narrow_heads() -> Iterator[None]:
    """Heads are padded to the widest of q, k and v only."""
    multiple, arch.HEAD_MULTIPLE = arch.HEAD_MULTIPLE, 1
    try:
        yield
    finally:
        arch.HEAD_MULTIPLE = multiple


def _part(path: str, network: arch.RGT) -> str:
    """The part that a parameter or module belongs to."""
    if match := re.match(_BLOCK + r"attn\b", path):
        is_global = isinstance(network.get_submodule(match[0]), arch.RecursiveGeneralizationAttention)
        return RGSA if is_global else LSA
    return next(name for pattern, name in _PARTS if re.match(pattern, path))


# --- option files and the paper ---


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


def with_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """All constructor arguments of RGT, those of `config` first."""
    defaults = {name: parameter.default for name, parameter in inspect.signature(arch.RGT).parameters.items()}
    return {**defaults, **config}


def preset_of(config: Mapping[str, Any]) -> str | None:
    """The published name of a network with these arguments, at any scale."""
    own = _deciding(config)
    return next((name for name, preset in arch.PRESETS.items() if _deciding(preset) == own), None)


def _deciding(config: Mapping[str, Any]) -> list[Any]:
    arguments = with_defaults(config)
    return [list(value) if isinstance(value := arguments[key], tuple) else value for key in _DECIDING]


def published(config: Mapping[str, Any], size: Size) -> dict[str, float] | None:
    """The paper's parameters (M) and multiply-adds (G) for exactly this network and size, where it has them."""
    figures: dict[str, dict[str, float]] = paper()["complexity_x4_output_3x512x512"]
    name = preset_of(config)
    return figures.get(name or "") if config.get("upscale", 2) == 4 and size == PAPER_SIZE else None


# --- the command ---


def run_complexity(
    file: str, sizes: Sequence[str] = ("128x128",), json: str | None = None, *, overwrite: bool = False
) -> None:
    """Count the network of an option file and print a table for each size.

    json: a file for the figures, or - for stdout in place of the tables. Raises UsageError for unfit input.
    """
    if json not in (None, "-"):
        check_output("--json", Path(json), [Path(file)], overwrite=overwrite)
    parsed, config = parse_sizes(sizes), network_of(file)
    counted = [count(config, size) for size in parsed]
    depth = with_defaults(config)["depth"]
    name = (
        f"{preset_of(config) or 'an RGT'} ×{with_defaults(config)['upscale']}, {len(depth)} groups of "
        f"{', '.join(map(str, dict.fromkeys(depth)))} blocks, {with_defaults(config)['embed_dim']} channels"
    )
    report = {
        "command": "complexity",
        "file": file,
        "network": name,
        "config": config,
        "counted": COUNTED,
        "sizes": [_as_plain(config, of_size) for of_size in counted],
    }
    tables = [format_complexity(of_size, published(config, of_size.size)) for of_size in counted]
    deliver(report, "\n\n".join([f"{file}: {name}", *tables, COUNTED]), json)


def format_complexity(counted: Complexity, paper_says: Mapping[str, float] | None) -> str:
    """The table of one size with the paper's figures below."""
    whole = counted.whole
    head = ["", "parameters", "linear", "convolution", "attention", "norm", "multiply-adds", "share"]
    rows = [
        [
            part.name,
            f"{part.parameters:,}",
            *map(_giga, (part.linear, part.convolution, part.attention, part.norm, part.total)),
            f"{100 * part.total / whole.total:.1f} %",
        ]
        for part in (*counted.parts, whole)
    ]
    reduced = f"; T = {counted.depth}, RG-SA's map {counted.representative}" if counted.part(RGSA).parameters else ""
    text = f"Input {counted.size} pixels{reduced}; multiply-adds in G\n\n{text_table(head, rows)}"
    if paper_says is None:
        return text
    return text + (
        f"\n\npublished: {paper_says['params_M']:.2f} M parameters, {paper_says['flops_G']:.2f} G multiply-adds; "
        f"counted: {whole.parameters / 1e6:.2f} M, {whole.total / 1e9:.2f} G "
        f"({_percent(whole.total / 1e9, paper_says['flops_G'])}; "
        f"{_percent(whole.products / 1e9, paper_says['flops_G'])} without norms)"
    )


def _giga(number: int) -> str:
    return f"{number / 1e9:.2f}" if number else "–"


def _percent(value: float, base: float) -> str:
    return f"{100 * (value / base - 1):+.2f} %".replace("-", "−")


def _as_plain(config: Mapping[str, Any], counted: Complexity) -> dict[str, Any]:
    parts = [{**asdict(part), "products": part.products, "total": part.total} for part in counted.parts]
    whole = counted.whole
    return {
        **counted.size._asdict(),
        "recursion_depth": counted.depth,
        "representative_map": list(counted.representative),
        "parts": [*parts, {**asdict(whole), "products": whole.products, "total": whole.total}],
        "published": published(config, counted.size),
    }
