"""Checks of networks and their initial weights: arguments against each other, weights against the network."""

from __future__ import annotations

import http.client
import inspect
import os
import urllib.error
import urllib.request
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rgt_arch.config.classes import find_class, is_known, is_rgt, parents, signature_section
from rgt_arch.config.loading import KeyPath, sections, subsection
from rgt_arch.config.problems import Report, suggestion
from rgt_arch.errors import UsageError
from rgt_arch.torch_files import SAFETENSORS
from rgt_arch.weights.building import misfits
from rgt_arch.weights.reading import PLAIN, read_checkpoint
from rgt_arch.weights.zoo import find_entry, require


def check_network(opt: dict[str, Any], report: Report) -> None:
    """Check the networks' arguments by building the networks, and the upscaling factor against `scale`."""
    for name in [key for key in opt if key.startswith("network_")]:
        arguments = subsection(opt, name)
        network = find_class("arch", arguments.get("type"))
        if network is None:
            continue
        if name == "network_g":
            _check_scale(opt, network, arguments, report)
            _check_windows(opt, network, arguments, report)
        elif name == "network_d":
            _check_judged_channels(opt, network, arguments, report)
        if not report.is_faulty((name,)):
            try:
                _built(network, arguments)
            except (ValueError, TypeError, AssertionError) as error:
                reason = " ".join(str(error).split()) or f"{network.__name__} refuses its arguments"
                report.error((name,), f"{reason}; correct it")


def check_files(opt: dict[str, Any], report: Report, root: Path, resume_root: Path | None = None) -> None:
    """Check that the weights and training states of `path:` exist and fit, except weights that a resumed run ignores,
    and that the VGG weights of perceptual losses exist.

    root: folder of relative paths. resume_root: parent of the experiments/ folder that --auto_resume searches.
    Published weights are given by name, and the model looks the name up.
    """
    paths, states = subsection(opt, "path"), "[0-9]*.state"
    resumed = isinstance(paths.get("resume_state"), str)
    if resume_root is not None and isinstance(opt.get("name"), str):
        run = root / Path(str(paths.get("experiments_root") or resume_root / "experiments" / opt["name"])).expanduser()
        resumed |= any((run / "training_states").glob(states))
    if "train" in subsection(opt, "datasets"):
        _check_folder(paths.get("experiments_root"), root, report)
        for name, loss in sections(opt.get("train")):
            is_sound = not report.is_faulty(("train", name))
            if is_sound and "PerceptualLoss" in parents(find_class("loss", loss.get("type"))):
                _check_vgg(("train", name), loss, root, report)
    kept = paths.get("ignore_resume_networks") or ()
    for key, value in paths.items():
        is_weights = key.startswith("pretrain_network") and not (resumed and key.removeprefix("pretrain_") not in kept)
        if not isinstance(value, str) or not (is_weights or key == "resume_state"):
            continue
        file = root / Path(value).expanduser()
        entry = find_entry(value) if is_weights and not file.exists() else None
        try:
            if entry:
                known = require(entry)
                if known and entry.bundled:  # a download is verified when it is used
                    check_weights(opt, key, known, report)
            elif not file.is_file():
                under = "" if Path(value).expanduser().is_absolute() else f" under {root}"
                what = "is a folder, not a file" if file.is_dir() else f"no such file{under}"
                raise UsageError(f"{what}; correct the path, or ~ for none")
            elif is_weights:
                check_weights(opt, key, file, report)
        except UsageError as error:
            message = str(error).removeprefix(f"{file}: ").removeprefix(f"{value}: ")
            report.error(("path", key), message, value)


def _check_folder(folder: Any, root: Path, report: Report) -> None:
    """Check that the folder of a run has no other content, because a new run renames the folder of an earlier one."""
    path = root / Path(folder if isinstance(folder, str) else "").expanduser()
    if isinstance(folder, str) and path.is_dir():
        held = set(os.listdir(path))
        is_above = root.resolve().is_relative_to(path.resolve())
        if is_above or (held and not {"models", "training_states"} <= held):
            report.error(
                ("path", "experiments_root"), "holds other files than a run's; name a folder of its own", folder
            )


def _check_vgg(path: KeyPath, loss: dict[str, Any], root: Path, report: Report) -> None:
    """Check a perceptual loss: names of layers, and VGG weights, which BasicSR reads from the run's folder, and
    torchvision from its cache or the internet (archs/vgg_arch.py:103-110)."""
    from basicsr.archs.vgg_arch import NAMES, VGG_PRETRAIN_PATH, insert_bn
    from torchvision.models import get_model_weights

    vgg_type, own = loss.get("vgg_type", "vgg19"), (root / VGG_PRETRAIN_PATH).exists()
    layers = NAMES[vgg_type.removesuffix("_bn")]
    layers = insert_bn(layers) if vgg_type.endswith("_bn") else layers
    for layer in loss["layer_weights"].keys() - {*layers}:
        report.error((*path, "layer_weights"), f"{vgg_type} has no layer {layer}; {suggestion(layer, layers)}")
    url = get_model_weights(vgg_type).IMAGENET1K_V1.url
    name, cache = url.rpartition("/")[2], Path(torch.hub.get_dir(), "checkpoints")
    if own and name not in VGG_PRETRAIN_PATH:
        report.error(path, f"BasicSR would load {VGG_PRETRAIN_PATH} for {vgg_type}; move it, or take vgg_type: vgg19")
    if own or (cache / name).exists():
        return
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=10).close()
    except urllib.error.HTTPError:
        return  # a server or proxy answers, perhaps to downloads only
    except (OSError, http.client.HTTPException) as error:
        places = f"{cache}{f' or {Path(VGG_PRETRAIN_PATH).parent}' if name in VGG_PRETRAIN_PATH else ''}"
        reason = getattr(error, "reason", error)
        report.error(path, f"needs {name}, and {url} cannot be reached ({reason}); put the file into {places}")


def check_weights(opt: dict[str, Any], key: str, file: Path, report: Report) -> None:
    """Check weights against their network. file: the file that `path:key` names.

    RGTModel finds the weights in files of every layout, BasicSR's own models only under `param_key_*`; its `-` becomes
    `_` in `opt`. Raises UsageError for weights that cannot be read or do not fit.
    """
    name = key.removeprefix("pretrain_")
    label = name.removeprefix("network_")
    option = f"param_key_{label}"
    checkpoint = read_checkpoint(file)
    checkpoint.resolve_key()  # refuses training states
    wanted, weights = opt["path"].get(option, "params"), checkpoint.weights
    if isinstance(opt["path"].get(option), str):
        opt["path"][option] = wanted = wanted.replace("-", "_")  # as `weights` are named
    if checkpoint.kind == SAFETENSORS:  # basicsr_compat/mended.py gives BasicSR's models their tensors as `params`
        weights = {"params": checkpoint.state_dict()}
    reads_all = "RGTModel" in parents(find_class("model", opt.get("model_type")))
    held = f"{checkpoint.path} holds {' and '.join(key or 'a plain state dict (~)' for key in weights)}"
    if wanted == "params_ema" and "params_ema" not in weights and "params" in weights:
        report.warn(("path", option), f"is not in the file, so params is used: {held}", wanted)
    elif (PLAIN if wanted is None else wanted) not in weights and not (
        reads_all and wanted in (None, "params", "params_ema")
    ):
        report.error(("path", option), f"is not in the file: {held}; name one of them", wanted or "~")
    elif report.is_faulty((name,)) or report.is_faulty(("path", f"strict_load_{label}")):
        return
    elif (problem := unfit(opt, name, checkpoint.state_dict(wanted))) is not None:
        raise UsageError(problem)


def unfit(opt: Mapping[str, Any], name: str, weights: Mapping[str, Tensor]) -> str | None:
    """Return why weights do not fit the network of the section `name`, with the remedy; None if they fit, or if only
    loading can show it."""
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


def _check_scale(opt: dict[str, Any], network: Any, arguments: dict[str, Any], report: Report) -> None:
    known = signature_section(network).keys
    for name in ("upscale", "scale"):
        if name in known and isinstance(opt.get("scale"), int) and not report.is_faulty(("scale",)):
            factor = _argument(network, arguments, name)
            if isinstance(factor, int) and factor != opt["scale"]:
                report.error(("network_g", name), f"is {factor}, but scale is {opt['scale']}; give both the same value")


def _check_judged_channels(opt: dict[str, Any], network: Any, arguments: dict[str, Any], report: Report) -> None:
    """Check that a known discriminator takes as many channels as network_g gives."""
    generator = subsection(opt, "network_g")
    made = find_class("arch", generator.get("type"))
    if not (is_known(network) and (is_known(made) or is_rgt(made))):
        return
    given = next((key for key in ("num_out_ch", "in_chans") if key in signature_section(made).keys), "")
    if given and "num_in_ch" in signature_section(network).keys:
        numbers = [_argument(made, generator, given), _argument(network, arguments, "num_in_ch")]
        if numbers[0] != numbers[1] and all(isinstance(number, int) for number in numbers):
            text = f"is {numbers[1]}, but images of network_g have {numbers[0]} (network_g:{given}); give both the same"
            report.error(("network_d", "num_in_ch"), text)


def _argument(network: Any, arguments: Mapping[str, Any], name: str) -> Any:
    """The value of an argument in the option file, or its default; `inspect._empty` if it has none."""
    return arguments.get(name, inspect.signature(network).parameters[name].default)


def _check_windows(opt: dict[str, Any], network: Any, arguments: dict[str, Any], report: Report) -> None:
    """SwinIRModel pads the images of validation to multiples of network_g:window_size (models/swinir_model.py:13)."""
    is_used = "SwinIRModel" in parents(find_class("model", opt.get("model_type")))
    if not is_used or "window_size" in arguments or not subsection(opt, "datasets").keys() - {"train"}:
        return
    if "window_size" in signature_section(network).keys:
        default = _argument(network, {}, "window_size")
        report.error(("network_g", "window_size"), f"is missing, and SwinIRModel reads it; add window_size: {default}")
    else:
        text = f"reads network_g:window_size, which {network.__name__} does not have; set model_type: RGTModel"
        report.error(("model_type",), text, opt["model_type"])


def _built(network: Any, arguments: dict[str, Any]) -> nn.Module | None:
    """Build the network on the meta device, without memory; None if its class is unknown or cannot be built.

    Raises ValueError, TypeError or AssertionError for arguments that the class refuses.
    """
    if not (is_known(network) or is_rgt(network)):
        return None
    known = inspect.signature(network).parameters
    for device in ("meta", "cpu"):
        try:
            with torch.device(device), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # small layers have empty initial values there; the run itself warns
                built: nn.Module = network(**{key: value for key, value in arguments.items() if key in known})
            return built
        except (ValueError, AssertionError):
            raise
        except TypeError:  # meta tensors cause it too: torch.FloatTensor(tensor) in ecbsr_arch.py:58
            if device == "cpu":
                raise
        except Exception:  # a constructor that computes with its weights, or reads files
            return None
    return None
