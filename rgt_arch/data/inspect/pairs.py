"""Check how HR and LR images fit: names, sizes, and whether LR is the bicubic of HR."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rgt_arch.data.bicubic import hr_lr_pair
from rgt_arch.data.images import Size, decode, header_size
from rgt_arch.data.inspect.looks import THUMBNAIL, Images, Look, Stored, dimensions
from rgt_arch.data.inspect.sections import Section, Stops, counted
from rgt_arch.data.pairing import Pair, Pairing
from rgt_arch.data.parallel import Summary, Task, successes
from rgt_arch.errors import UserError

# Correlations of two thumbnails' gradients, and their mean step in grey levels. Measured on photographs and crops of 96
# pixels: pairs with blur, noise of sigma 35 and JPEG of quality 25 are above 0.25, different pictures mostly below 0.2.
_ALIKE, _SAME, _UNLIKE, _FLAT = 0.7, 0.9, 0.2, 6


def size_faults(
    sizes: Sequence[tuple[str, str, Size, Size]], scale: int, *, exact: bool, gt_size: int = 0
) -> Iterator[tuple[str, str, list[str], Stops]]:
    """Yield (option, fault and remedy, a line for each pair, what the fault stops in BasicSR) for each kind of fault.

    sizes: (HR name, LR name, HR size, LR size) of each pair. exact: whether HR must be exactly scale × LR, as in
    training (data/transforms.py:64); else it may be larger by less than scale pixels, which PairedImageDataset cuts off
    in validation. gt_size: HR patch of training, or 0. For HR images without LR, both are HR and scale is 1.
    """
    wrong, rest, small, ratios, sides = [], [], [], [], []
    patch = gt_size // scale
    for gt_name, lq_name, hr, lr in sizes:
        text = f"{gt_name} is {dimensions(hr)} and its LR image {dimensions(lr)}"
        over = [large - scale * side for large, side in zip(hr, lr, strict=True)]
        if not all(0 <= pixels < scale for pixels in over):
            wrong.append(text)
            ratios.append(round(hr[0] / lr[0]))
        elif exact and any(over):
            rest.append(text)
        if min(lr) < patch:
            small.append(f"{lq_name} is {dimensions(lr)}")
            sides.append(min(lr))
    if wrong:
        is_other = ratios[0] not in (0, scale)
        remedy = f"set scale: {ratios[0]}, or take the ×{scale} LR images" if is_other else "make the LR images anew"
        yield "dataroot_lq", f"HR is not {scale} × LR; {remedy}", wrong, "everything"
    if rest:
        text = f"HR is up to {scale - 1} pixels larger than {scale} × LR, which training refuses; "
        yield "dataroot_lq", f"{text}`rgt prepare lr --hr-out` writes cropped HR images", rest, "training"
    if small:
        of = f"{'LR ' if scale > 1 else ''}patch of {patch}×{patch}"
        remedy = "remove it" if len(small) < len(sizes) else f"take gt_size {min(sides) * scale} or less"
        text = f"smaller than the {of}; {remedy}"
        yield "gt_size", text, small, "training"


def header_faults(
    pairs: Sequence[Pair],
    scale: int,
    *,
    exact: bool,
    gt_size: int = 0,
    known: tuple[Mapping[str, Size | None], Mapping[str, Size | None]] | None = None,
) -> Iterator[tuple[str, str]]:
    """Yield (option, message) for each kind of fault that the headers of a sample of pairs show.

    exact, gt_size: as in `size_faults`. known: for LMDBs, whose files are not read, sizes of HR and LR by name.
    """
    of = f"of {len(pairs)} looked at"
    sizes = []
    broken: dict[str, list[Path]] = {"dataroot_gt": [], "dataroot_lq": []}
    for pair in pairs:
        found: list[Size | None] = []
        for index, (key, file) in enumerate((("dataroot_gt", pair.gt), ("dataroot_lq", pair.lq))):
            try:
                found.append(header_size(file) if known is None else known[index][pair.name])
            except UserError:
                found.append(None)
                broken[key].append(file)
        hr, lr = found
        if hr is not None and lr is not None:
            sizes.append((pair.gt.name, pair.lq.name, hr, lr))
    for key, files in broken.items():
        if files:
            yield key, f"{len(files)} {of}: {files[0]} cannot be read as an image; replace or remove it"
    for key, text, lines, _ in size_faults(sizes, scale, exact=exact, gt_size=gt_size):
        yield key, f"{len(lines)} {of}: {lines[0]}: {text}"


def check_pairs(
    last: Section,
    pairing: Pairing,
    gt: Images,
    lq: Images,
    scale: int | None,
    *,
    jobs: int,
    bicubic: bool = False,
    exact: bool = True,
    gt_size: int = 0,
) -> list[Section]:
    """Return the reports on HR images, on LR images and, in `last`, on their pairing and sizes.

    scale: None for the scale of most pairs. exact, gt_size: as in `size_faults`.
    bicubic: count the LR images that are MATLAB's bicubic of their HR images, bit for bit, and list the others.
    """
    sections = [gt.examine("HR image", jobs=jobs), lq.examine("LR image", jobs=jobs), last]
    looks = [(g, q, gt.looks[g], lq.looks[q]) for g, q in pairing.pairs if g in gt.looks and q in lq.looks]
    if scale is None and looks:
        scale = Counter(max(1, round(hr.size[0] / lr.size[0])) for _, _, hr, lr in looks).most_common(1)[0][0]
    template = f", filename_tmpl: '{pairing.template}'" if pairing.template.strip("{}") else ""
    last.facts.append(f"{counted('{n} pair{s}', len(pairing.pairs))}, scale {scale or 'unknown'}{template}")
    other = [f"{g} with {q}" for g, q in pairing.other_suffix]
    last.problem("{n} pair{s} with different endings, which BasicSR needs to be the same", other, stops="everything")
    last.problem("{n} HR image{s} without LR image", pairing.lone_gt, stops="everything")
    last.problem("{n} LR image{s} without HR image", pairing.lone_lq, stops="everything")
    if not looks or scale is None:
        return sections
    sizes = [(g, q, hr.size, lr.size) for g, q, hr, lr in looks]
    for _, text, lines, stops in size_faults(sizes, scale, exact=exact, gt_size=gt_size):
        last.problem(f"{{n}} pair{{s}}: {text}", lines, stops=stops)
    last.problem("{n} LR image{s} of another picture than their HR images", mismatches(looks))
    equal: dict[bytes, dict[bytes, str]] = {}
    for _, q, hr, lr in looks:
        equal.setdefault(lr.digest, {})[hr.digest] = q
    groups = (" = ".join(names.values()) for names in equal.values() if len(names) > 1)
    last.problem("{n} group{s} of LR images with the same pixels, of different HR images", groups)
    if bicubic:
        _check_bicubic(last, [(g, q) for g, q, _, _ in looks], gt.place, lq.place, scale, jobs)
    return sections


def mismatches(looks: Sequence[tuple[str, str, Look, Look]]) -> Iterator[str]:
    """Yield a line for each LR image whose thumbnail differs from its HR image's.

    The correlation of gradients is compared: blur, noise, JPEG and other colours hardly change it at 8×8 pixels, and
    different pictures of one kind (sky above, ground below) have little in common. Flat HR images are not compared.
    """
    hr, lr = _gradients(hr for _, _, hr, _ in looks), _gradients(lr for _, _, _, lr in looks)
    contrast = np.sqrt((hr**2).mean(axis=1))
    hr, lr = (each / np.maximum(np.linalg.norm(each, axis=1, keepdims=True), 1e-6) for each in (hr, lr))
    own = (hr * lr).sum(axis=1)
    for index in np.flatnonzero((own < _ALIKE) & (contrast > _FLAT)).tolist():
        name, lq_name, *_ = looks[index]
        others = hr @ lr[index]
        best = int(others.argmax())
        if others[best] > _SAME:
            yield f"{lq_name} looks like HR {looks[best][0]}, not like {name}"
        elif own[index] < _UNLIKE:
            yield f"{lq_name} does not look like HR {name}"


def _gradients(looks: Iterable[Look]) -> NDArray[np.float32]:
    pixels = np.frombuffer(b"".join(look.thumbnail for look in looks), np.uint8).astype(np.float32)
    images = pixels.reshape(-1, THUMBNAIL, THUMBNAIL)
    steps = [np.diff(images, axis=axis).reshape(len(images), -1) for axis in (1, 2)]
    return np.concatenate(steps, axis=1)


def _check_bicubic(
    section: Section, names: Sequence[tuple[str, str]], gt: Path, lq: Path, scale: int, jobs: int
) -> None:
    summary, is_bicubic = Summary(), partial(_is_bicubic, gt, lq, scale)
    tasks = [Task((lq / pair[1],), pair) for pair in names]
    results = list(successes(is_bicubic, tasks, summary, jobs=jobs, title="bicubic", unit="pair"))
    others = [task.name[1] for task, is_equal in results if not is_equal]
    section.problem("{n} pair{s} could not be compared", summary.failures)
    equal = len(results) - len(others)
    why = "" if equal else " (crops of larger LR images cannot be equal: pixels beyond the crop count at its edges)"
    section.facts.append(
        f"{equal} of {counted('{n} LR image{s}', len(tasks))} bit-equal to MATLAB's bicubic of HR{why}"
    )
    if equal:  # if none is equal, LR was made by another method on purpose
        section.note("{n} LR image{s} unlike the bicubic", others)


def _is_bicubic(gt: Path, lq: Path, scale: int, task: Task[tuple[str, str]]) -> bool:
    images = [Stored(place, name) for place, name in zip((gt, lq), task.name, strict=True)]
    hr, lr = (np.atleast_3d(decode(image.content(), image.source)) for image in images)
    if min(hr.shape[:2]) < scale:
        return False
    made = hr_lr_pair(hr, scale)[1]
    # grey is compared with three equal channels
    return made.shape[:2] == lr.shape[:2] and bool((np.atleast_3d(made) == lr).all())
