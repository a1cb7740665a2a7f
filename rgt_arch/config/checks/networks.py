"""Networks and the weights they start from: do the arguments fit each other, and does the file fit the network."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rgt_arch.config.classes import find_class, is_known, is_rgt, parents, signature_section
from rgt_arch.config.report import Report
from rgt_arch.config.tree import subsection
from rgt_arch.errors import UsageError
from rgt_arch.weights.building import misfits
from rgt_arch.weights.reading import PLAIN, Checkpoint, read_checkpoint
from rgt_arch.weights.zoo import find_entry, require


def check_network(opt: dict[str, Any], report: Report) -> None:
    """Check the networks' arguments, as far as their classes check them, and the upscaling factor against `scale`."""
    for name in [key for key in opt if key.startswith("network_")]:
        arguments = subsection(opt, name)
        network = find_class("arch", arguments.get("type"))
        if network is None:
            continue
        if name == "network_g":
            _check_scale(opt, network, arguments, report)
        if not report.is_faulty((name,)):
            try:
                _built(network, arguments)
            except (ValueError, TypeError, AssertionError) as error:
                reason = " ".join(str(error).split()) or f"{network.__name__} refuses its arguments"
                report.error((name,), f"{reason}; correct it")


def check_files(opt: dict[str, Any], report: Report, root: Path, resume_root: Path | None = None) -> None:
    """Check that the weights and training states of `path:` exist and fit, except weights that a resumed run ignores.

    root: the folder that relative paths start from. resume_root: the folder whose experiments/ --auto_resume looks in.
    Published weights go by their names, which the model looks up.
    """
    paths = subsection(opt, "path")
    resumed = isinstance(paths.get("resume_state"), str) or _has_states(opt, resume_root)
    kept = paths.get("ignore_resume_networks") or ()
    for key, value in paths.items():
        is_weights = key.startswith("pretrain_network") and not (resumed and key.removeprefix("pretrain_") not in kept)
        if isinstance(value, str) and (is_weights or key == "resume_state"):
            file = root / Path(value).expanduser()
            entry = find_entry(value) if is_weights and not file.exists() else None
            if entry:
                try:
                    known = require(entry)
                except UsageError as error:
                    report.error(("path", key), str(error).removeprefix(f"{entry.name}: "), value)
                else:
                    if known and entry.bundled:  # a download is verified when it is used
                        check_weights(opt, key, known, report)
            elif not file.is_file():
                what = "is a folder, not a file" if file.is_dir() else f"no such file{_under(root, value)}"
                report.error(("path", key), f"{what}; correct the path, or ~ for none", value)
            elif is_weights:
                check_weights(opt, key, file, report)


def _has_states(opt: dict[str, Any], resume_root: Path | None) -> bool:
    """Whether --auto_resume finds a state of this run."""
    if resume_root is None or not isinstance(opt.get("name"), str):
        return False
    states = resume_root / "experiments" / opt["name"] / "training_states"
    return any(states.glob("[0-9]*.state"))


def _under(root: Path, value: str) -> str:
    return "" if Path(value).expanduser().is_absolute() else f" under {root}"


def check_weights(opt: dict[str, Any], key: str, file: Path, report: Report) -> None:
    """Report weights that cannot be read, or do not fit their network. `key`: of `path`; `file`: what it names."""
    value, name = opt["path"][key], key.removeprefix("pretrain_")
    label = name.removeprefix("network_")
    where = ("path", key)
    try:
        checkpoint = read_checkpoint(file)
        checkpoint.resolve_key()  # refuses training states
    except UsageError as error:
        report.error(where, str(error).removeprefix(f"{file}: "), value)
        return
    param_key = opt["path"].get(f"param_key_{label}", "params")
    model = find_class("model", opt.get("model_type"))
    reads_all = "RGTModel" in parents(model)
    if not _has_key(checkpoint, param_key, reads_all, f"param_key_{label}", report):
        return
    if report.is_faulty((name,)) or report.is_faulty(("path", f"strict_load_{label}")):
        return
    if (problem := unfit(opt, name, checkpoint.state_dict(param_key))) is not None:
        report.error(where, problem, value)


def unfit(opt: Mapping[str, Any], name: str, weights: Mapping[str, Tensor]) -> str | None:
    """Why weights cannot be loaded into the network that the section `name` describes, and the remedy; None if they
    can, or where only loading will show it."""
    arguments, option = opt[name], f"strict_load_{name.removeprefix('network_')}"
    network = find_class("arch", arguments.get("type"))
    built = None if network is None else _built(network, arguments)
    if built is None:
        return None
    if not opt["path"].get(option, True):
        if built.state_dict().keys() & weights.keys():
            return None
        return f"has no weight in common with {network.__name__}; name other weights"
    words = misfits(built, weights, strict=True)
    remedy = f"set {name} as the file was trained, or path:{option}: false to take what fits"
    return f"does not fit {network.__name__}: {', '.join(words)}; {remedy}" if words else None


def _has_key(checkpoint: Checkpoint, param_key: Any, reads_all: bool, option: str, report: Report) -> bool:
    """Whether the weights that the options ask for are in the file; weights that are taken instead are a warning.

    reads_all: whether the model finds the weights in files of every layout; BasicSR's own models look under the key.
    """
    held = " and ".join(key or "a plain state dict" for key in checkpoint.weights)
    where = ("path", option)
    if param_key is None:
        if reads_all or PLAIN in checkpoint.weights:
            return True
        report.error(where, f"~ asks for a plain state dict, and {checkpoint.path} holds {held}; name one of them")
    elif param_key in checkpoint.weights:
        return True
    elif param_key == "params_ema" and "params" in checkpoint.weights:
        report.warn(where, f"is not in {checkpoint.path}, which holds {held}: params is taken", param_key)
        return True
    elif param_key in ("params", "params_ema") and reads_all:
        return True
    else:
        text = f"is not in {checkpoint.path}, which holds {held}; "
        report.error(where, text + ("set it to ~" if PLAIN in checkpoint.weights else "name what it holds"), param_key)
    return False


def _check_scale(opt: dict[str, Any], network: Any, arguments: dict[str, Any], report: Report) -> None:
    known = signature_section(network).keys
    for name in ("upscale", "scale"):
        if name in known and isinstance(opt.get("scale"), int) and not report.is_faulty(("scale",)):
            factor = arguments.get(name, inspect.signature(network).parameters[name].default)
            if isinstance(factor, int) and factor != opt["scale"]:
                report.error(("network_g", name), f"is {factor}, but scale is {opt['scale']}; give both the same value")


def _built(network: Any, arguments: dict[str, Any]) -> nn.Module | None:
    """The network without memory (on the meta device); None for a class that cannot be built so, or is unknown.

    Raises ValueError, TypeError or AssertionError for what the class refuses.
    """
    if not (is_known(network) or is_rgt(network)):
        return None
    known = inspect.signature(network).parameters
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # small layers have empty initial values there; a run warns itself
            built: nn.Module = network(**{key: value for key, value in arguments.items() if key in known})
    except (ValueError, TypeError, AssertionError):
        raise
    except Exception:  # one that computes with its weights, or reads files, while it is built
        return None
    return built
