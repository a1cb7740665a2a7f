"""The pictures of a comparison: HR, LR, and the results of bicubic, networks and folders of images."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from basicsr.metrics import calculate_psnr, calculate_ssim

from rgt_arch.data.bicubic import crop_to_multiple, hr_lr_pair, imresize
from rgt_arch.data.images import image_size, walk_files
from rgt_arch.data.pairing import is_result_of
from rgt_arch.errors import UsageError
from rgt_arch.evaluation.figures.pictures import RGB, read_rgb
from rgt_arch.evaluation.tables.images import MissingError
from rgt_arch.evaluation.tables.methods import Method, runnable
from rgt_arch.inference.upscaler import Upscaler
from rgt_arch.weights.building import load_model

_SCALES = (2, 3, 4, 8)
_SSIM_WINDOW = 11


@dataclass(frozen=True)
class Scene:
    """An HR image cut to a multiple of the scale, and its LR."""

    path: Path
    hr: RGB
    lr: RGB
    scale: int


@dataclass(frozen=True)
class Contestant:
    """One method's picture of a scene, as large as HR."""

    label: str
    image: RGB
    psnr: float
    """In dB on Y of the whole picture, border = scale; infinite for a picture equal to HR."""
    ssim: float


def common_scale(methods: Sequence[Method], asked: int | None) -> int:
    """The scale of a comparison: the one asked for, or the only one that all methods have. Raises UsageError."""
    fixed = {method: method.scales for method in methods if method.kind in ("network", "weights")}
    for method, scales in fixed.items():
        if asked is not None and asked not in scales:
            known = ", ".join(f"×{scale}" for scale in scales)
            raise UsageError(f"{method.label}: is for {known}, not ×{asked}; compare methods of one scale")
    if asked is not None:
        return asked
    shared = set(_SCALES).intersection(*fixed.values())
    if fixed and not shared:
        named = ", ".join(f"{method.label} ×{'/'.join(map(str, scales))}" for method, scales in fixed.items())
        raise UsageError(f"the methods have no scale in common ({named}); compare methods of one scale")
    if len(shared) != 1:
        raise UsageError(
            f"--scale is needed, one of {', '.join(map(str, sorted(shared)))}: the methods do not say which"
        )
    return shared.pop()


def read_scene(path: Path, lr_path: Path | None, methods: Sequence[Method], scale: int | None) -> Scene:
    """HR and LR. Without an LR file, LR is made as MATLAB's imresize makes it.

    With one, the scale is that between the two, and HR is cut to it as BasicSR cuts it (up to scale − 1 pixels).
    Raises UsageError for files that cannot be read, sizes that do not fit, and scales that methods do not have.
    """
    hr = read_rgb(path)
    if lr_path is None:
        scale = common_scale(methods, scale)
        if min(hr.shape[:2]) < scale * 2:
            raise UsageError(f"{path}: has {hr.shape[1]}×{hr.shape[0]} pixels; ×{scale} needs {scale * 2} at least")
        hr, lr = hr_lr_pair(hr, scale)
    else:
        lr = read_rgb(lr_path)
        found = hr.shape[0] // lr.shape[0]
        if found < 2 or any(large // found != small for large, small in zip(hr.shape[:2], lr.shape[:2], strict=True)):
            raise UsageError(
                f"--lr {lr_path}: has {lr.shape[1]}×{lr.shape[0]} pixels, {path} {hr.shape[1]}×{hr.shape[0]}: no "
                "whole scale from 2 lies between them; give the LR of this image"
            )
        if scale not in (None, found):
            raise UsageError(f"--scale {scale}: {lr_path} is ×{found}; leave --scale out")
        scale = common_scale(methods, found)
        hr = crop_to_multiple(hr, scale)
    if min(hr.shape[:2]) < 2 * scale + _SSIM_WINDOW:
        raise UsageError(
            f"{path}: has {hr.shape[1]}×{hr.shape[0]} pixels; SSIM at ×{scale} needs {2 * scale + _SSIM_WINDOW} a side"
        )
    return Scene(path, hr, lr, scale)


def enter(method: Method, scene: Scene, *, device: str, tile: int | str) -> Contestant:
    """A method's picture of a scene.

    Raises UsageError for missing or unfit weights or images, UserError if the work fails.
    """
    image = _image(method, scene, device, tile)
    return contestant(method.label, image, scene)


def bicubic(scene: Scene, label: str = "Bicubic") -> Contestant:
    """MATLAB's imresize of LR."""
    return contestant(label, imresize(scene.lr, scene.scale), scene)


def contestant(label: str, image: RGB, scene: Scene) -> Contestant:
    """A picture with BasicSR's PSNR and SSIM on Y. image: as large as the scene's HR."""
    bgr, hr = image[..., ::-1], scene.hr[..., ::-1]
    psnr, ssim = (
        metric(bgr, hr, crop_border=scene.scale, test_y_channel=True) for metric in (calculate_psnr, calculate_ssim)
    )
    return Contestant(label, image, float(psnr), float(ssim))


def _image(method: Method, scene: Scene, device: str, tile: int | str) -> RGB:
    if method.kind == "bicubic":
        return imresize(scene.lr, scene.scale)
    if method.kind == "images":
        return read_rgb(find_result(Path(method.source), scene))
    try:
        ready = runnable(method, scene.scale)
    except MissingError as error:
        raise UsageError(str(error)) from error
    assert ready.weights is not None
    network = load_model(ready.weights)
    if network.in_chans != 3:
        raise UsageError(f"{method.label}: takes {network.in_chans} channels; comparisons are of RGB images")
    upscaler = Upscaler(network, device=device, precision="fp32", tile=tile, self_ensemble=method.self_ensemble)
    return upscaler.upscale(scene.lr)


def find_result(folder: Path, scene: Scene) -> Path:
    """The file of a folder of results that belongs to a scene: called like HR, perhaps with an ending, and as large.

    Raises UsageError if there is none or more than one.
    """
    files = [file for file in walk_files(folder) if is_result_of(file.name, scene.path.name)]
    size = scene.hr.shape[:2]
    fitting = sorted(file for file in files if image_size(file) == size)
    by_scale = [file for file in fitting if re.search(rf"[xX]{scene.scale}(?!\d)", str(file.relative_to(folder)))]
    if len(by_scale or fitting) > 1:
        names = ", ".join(str(file) for file in (by_scale or fitting)[:3])
        raise UsageError(
            f"{folder}: several files may be the result for {scene.path.name} ({names}); name a sub-folder"
        )
    if not fitting:
        there = f"; {files[0]} has another size" if files else ""
        raise UsageError(
            f"{folder}: there is no picture called {scene.path.stem}, {scene.path.stem}_… or {scene.path.stem}x… of "
            f"{size[1]}×{size[0]} pixels{there}"
        )
    return (by_scale or fitting)[0]
