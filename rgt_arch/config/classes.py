"""The classes that option files name, and the keys that a section of a given option file may have."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.util import find_spec
from typing import Any, Literal

from rgt_arch.config.loading import KeyPath, value_at
from rgt_arch.config.schema import Key
from rgt_arch.config.tables import ANY_DATASET, ARGUMENTS, KNOWN_OWNERS, TABLES

# The RGT constructor accepts it, because official option files have it, and ignores it with a notice.
_IGNORED_ARGUMENTS = {"RGT": {"upsampler": Key(Any, "accepted and ignored")}}
# By kind of class: arguments that BasicSR passes itself, and a class for messages to propose.
_PASSED = {"metric": ("img", "img2"), "optimizer": ("params",), "scheduler": ("optimizer", "last_epoch")}
_EXAMPLES = {
    "arch": "RGT", "loss": "L1Loss", "metric": "calculate_psnr", "optimizer": "Adam", "scheduler": "MultiStepLR",
}  # fmt: skip
_SUFFIX = "_basicsr"  # ends some names in BasicSR's registries; Registry.get finds them without it
# They do not fit a training loop over convolutions: LBFGS calls the loss again by itself, SparseAdam needs sparse
# gradients, torch's Muon takes matrices only.
_UNFIT_OPTIMIZERS = ("LBFGS", "SparseAdam", "Muon")


@dataclass(frozen=True)
class Section:
    """The keys that one section of an option file may have.

    owner: reader of the keys, for messages. strict: an unknown key is an error, otherwise a warning. others: the Key of
    all names that the user chooses (val:metrics). elsewhere: keys that only other classes read, with the class. names:
    the kind of class that its `type` (at the top level `model_type`) names.
    """

    keys: Mapping[str, Key]
    owner: str
    strict: bool = True
    others: Key | None = None
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    names: str = ""

    def may_have(self, key: str, path: KeyPath) -> bool:
        """Whether a key that the file lacks may be added to the section, which is at `path`."""
        if path == ("datasets",):
            return key.split("_")[0] in ("train", "val", "test")
        return self.others is not None or not self.strict or key in self.keys


@cache
def optimizers() -> Mapping[str, Any]:
    """Return the optimisers of torch.optim that fit `train:optim_g`, and `muon` if timm is installed, by name."""
    import torch  # takes a second, and `basicsr options` does not need it

    base, members = torch.optim.Optimizer, inspect.getmembers(torch.optim, inspect.isclass)
    found = {n: c for n, c in members if issubclass(c, base) and c is not base and n not in _UNFIT_OPTIMIZERS}
    return {**found, "Muon": muon} if find_spec("timm") else found


def muon(
    params: Iterable[Any],
    lr: float,
    weight_decay: float = 0,
    momentum: float = 0.95,
    betas: Sequence[float] = (0.9, 0.99),
) -> Any:
    """Return timm's Muon with Nesterov momentum for matrices and kernels of convolutions, NAdamW for other weights.

    betas: of NAdamW. Steps have about the size of AdamW's at the same lr. Source: Jordan et al., 2024,
    kellerjordan.github.io/posts/muon; the size of a step: Liu et al., 2025, arXiv 2502.16982.
    """
    from timm.optim.muon import Muon  # its package takes seconds

    return Muon(params, lr, weight_decay, momentum, nesterov=True, betas=tuple(betas))


def registry(kind: str) -> Mapping[str, Any]:
    """Return the classes by name; kind: "arch", "model", "dataset", "loss", "metric", "optimizer" or "scheduler"."""
    if kind == "optimizer":
        return optimizers()
    # Imported late: these import all of BasicSR's classes, and rgt_arch must make BasicSR importable first.
    import basicsr.archs
    import basicsr.data
    import basicsr.losses
    import basicsr.metrics  # noqa: F401
    import basicsr.models.lr_scheduler as schedulers
    from basicsr.utils import registry as registries

    if kind == "scheduler":  # models/base_model.py:111
        restarts = schedulers.MultiStepRestartLR
        cosine = schedulers.CosineAnnealingRestartLR
        return {"MultiStepLR": restarts, "MultiStepRestartLR": restarts, "CosineAnnealingRestartLR": cosine}
    found: Mapping[str, Any] = getattr(registries, f"{kind.upper()}_REGISTRY")._obj_map
    return found


def find_class(kind: str, name: Any) -> Any:
    """Return the class registered as `name` or `name_basicsr`, or None."""
    found = registry(kind)
    return found.get(name, found.get(f"{name}{_SUFFIX}")) if isinstance(name, str) else None


def class_names(kind: str) -> list[str]:
    """Return the names that option files can use for this kind of class."""
    return [name.removesuffix(_SUFFIX) for name in registry(kind)]


def is_known(target: Any) -> bool:
    """Whether a class is BasicSR's, PyTorch's or ours: then all keys that it reads are known here."""
    return str(getattr(target, "__module__", "")).split(".")[0] in ("basicsr", "rgt_arch", "torch")


def is_rgt(network: Any) -> bool:
    """Whether a registered network is RGT, also from a copy of `rgt_arch.py` in another project."""
    return getattr(network, "__name__", "") == "RGT"


def parents(target: Any) -> list[str]:
    """Return the names of a class and its base classes that are known, its own name first; [] for None.

    A host's own class may have the name of one of BasicSR's and read other keys and files.
    """
    return [parent.__name__ for parent in getattr(target, "__mro__", ()) if is_known(parent)]


def makes_lr(opt: Mapping[str, Any]) -> bool:
    """Whether the model is BasicSR's or ours and makes the LR images of training (models/realesrnet_model.py:75)."""
    model = find_class("model", opt.get("model_type"))
    kinds = parents(model) if is_known(model) else []  # a host's subclass may make them in its own way
    is_real = bool({"RealESRNetModel", "RealESRGANModel"} & {*kinds})
    return "RealRGTModel" in kinds or (is_real and opt.get("high_order_degradation") is not False)


def patch_key(opt: Mapping[str, Any]) -> KeyPath:
    """Return the key with the side of HR training patches: the model's at the top level, or the data set's."""
    dataset = value_at(opt, ("datasets", "train", "type"))
    of_model = "gt_size" in opt or "RealESRGANDataset" in parents(find_class("dataset", dataset))
    return ("gt_size",) if makes_lr(opt) and of_model else ("datasets", "train", "gt_size")


def section_at(opt: Mapping[str, Any], path: KeyPath) -> Section | None:
    """Return the keys that the section at `path` of `opt` may have; None if it may have any.

    Reads only class names from `opt`; the section itself may be missing.
    """
    named = value_at(opt, (*path, "type"))
    match path:
        case ("val", "metrics") | ("datasets",):
            return Section({}, "", others=Key(dict))
        case ("val", "metrics", _):
            better = Key(Literal["higher", "lower"], "which value is the best one")
            return _arguments("metric", named, better=better)
        case (name,) if name.startswith("network_"):
            return _arguments("arch", named)
        case ("train", name) if name.startswith("optim_"):
            return _arguments("optimizer", named, lr=Key(float, "", "always", example="2e-4"))
        case ("train", "scheduler"):
            return _arguments("scheduler", named)
        case ("train", name) if name.endswith("_opt"):
            return _arguments("loss", named)
        case ("datasets", _, *below):
            tables = {table.owner: table.keys for table in TABLES if table.path == (*ANY_DATASET, *below)}
            kind, owner = ("" if below else "dataset"), named
        case _:
            tables = {table.owner: table.keys for table in TABLES if table.path == path}
            kind, owner = "model", opt.get("model_type")
    return _documented(tables, kind, owner, path[-1] if path else "") if tables else None


def _documented(tables: Mapping[str, Mapping[str, Key]], kind: str, owner: Any, section: str) -> Section:
    """Return the keys that `owner` and, if it is a class, its parents read. kind: kind of the class, else ""."""
    found = find_class(kind, owner) if kind else None
    keys: dict[str, Key] = {}
    if kind and found is None:  # an unknown class is reported elsewhere; allow the keys of all classes
        for table in tables.values():
            keys.update({name: replace(spec, required="") for name, spec in table.items()})
    elif found is not None and not is_known(found):
        keys.update(dict.fromkeys(tables.get(found.__name__, ()), Key(Any)))
    for name in ("", *(reversed(parents(found)) if found else ("SRModel", owner))):
        keys.update(tables.get(name, {}) if isinstance(name, str) else {})
    # Reversed: if several classes read a key, messages propose the first and simplest one.
    elsewhere = {key: other for other, table in reversed([*tables.items()]) for key in table if key not in keys}
    if not kind or set(tables) == {""}:
        return Section(keys, section)
    is_strict = found is not None and found.__name__ in KNOWN_OWNERS and is_known(found)
    names = kind if kind == "dataset" or not section else ""
    return Section(keys, found.__name__ if found else str(owner), is_strict, None, elsewhere, names)


def _arguments(kind: str, name: Any, **more: Key) -> Section:
    """Return the arguments of the class that a section names; any arguments if the class does not exist."""
    found, more = find_class(kind, name), {"type": Key(str, "", "always", example=_EXAMPLES[kind]), **more}
    section = Section({}, "", others=Key(Any)) if found is None else signature_section(found, _PASSED.get(kind, ()))
    return replace(section, keys={**section.keys, **more}, names=kind)


def signature_section(target: Callable[..., Any], skip: Collection[str] = ()) -> Section:
    """Return the arguments of a class or function as a section; their types are those of the defaults.

    Strict unless `target` is third-party and takes **kwargs: BasicSR's and our classes do not use their **kwargs.
    """
    name, known = getattr(target, "__name__", str(target)), is_known(target)
    arguments = inspect.signature(target).parameters.values()
    variable = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    named = [each for each in arguments if each.kind not in variable and each.name not in skip]
    keys = {each.name: _argument_key(each, known) for each in named}
    is_open = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in arguments)
    return Section({**keys, **_IGNORED_ARGUMENTS.get(name, {})}, name, strict=known or not is_open)


def _argument_key(argument: inspect.Parameter, of_known_class: bool) -> Key:
    default, annotation = argument.default, str(argument.annotation)
    is_needed = default is inspect.Parameter.empty
    if of_known_class and argument.name in ARGUMENTS:
        spec = ARGUMENTS[argument.name]
        takes = spec.takes | None if default is None else spec.takes
        return spec if is_needed else replace(spec, required="", takes=takes)
    match default:
        case _ if is_needed:
            return Key(Any, required="always")
        case str() if annotation in ("str", "<class 'str'>"):
            return Key(str)  # "none" is a valid value of some, so it must not become None
        case bool():
            return Key(bool | None)
        case int() | float() if not any(other in annotation for other in ("str", "tuple", "Sequence")):
            return Key(float | None)
        case list() | tuple():
            numeric = default and all(type(item) in (int, float) for item in default)
            return Key((list[float] if numeric else list) | None)
    return Key(Any)
