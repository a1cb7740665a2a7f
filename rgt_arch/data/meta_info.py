"""Meta-info files: BasicSR's lists of images with their sizes, Real-ESRGAN's lists of names and of pairs."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path, PurePath

from rgt_arch.data.images import decode, read_bytes, write_bytes
from rgt_arch.data.outputs import refuse_overlap
from rgt_arch.data.pairing import guess_template, images_below, pair_names
from rgt_arch.data.parallel import Summary, Task, successes
from rgt_arch.errors import UsageError, UserError


def write_meta_info(
    folder: Path,
    file: Path,
    *,
    lr_folder: Path | None = None,
    root: Path | None = None,
    lr_root: Path | None = None,
    names_only: bool = False,
    jobs: int = 1,
    overwrite: bool = False,
) -> Summary:
    """Write a list of the images below a folder, or of their pairs with LR images, in the order of `lmdb_key`.

    A line is `name (h,w,c)` for BasicSR's meta_info_file (data/data_util.py:148), c being 1 for grey images and else 3;
    with `names_only` it is `name` for Real-ESRGAN's meta_info (data/realesrgan_dataset.py:54), and with `lr_folder`
    `gt, lq` for RealESRGANPairedDataset (data/realesrgan_paired_dataset.py:62). The LR image has the same path in
    `lr_folder`, except for the suffix and the template's addition, such as x2. Names are relative to `root` and
    `lr_root` (the data set's dataroot_gt and dataroot_lq). These are the folder by default, or the folders' parents for
    plain names and pairs. Images that are damaged, lack a partner or have names that BasicSR would cut are left out,
    one line each on stderr and in `summary.failures`.

    Raises UsageError if `file` exists with other content and `overwrite` is not set; UserError if no image remains.
    """
    folders = [folder] if lr_folder is None else [folder, lr_folder]
    refuse_overlap(folders, [file])
    if file.is_dir():
        raise UsageError(f"{file}: is a folder; name the file to write")
    # BasicSR reads an LMDB of the folder in this order (data/data_util.py:150): training sees the same batches.
    summary = Summary()
    images = images_below(folder, summary.passed_over)
    groups = [(folder / name,) for name in images] if lr_folder is None else _pairs(folder, images, lr_folder, summary)
    default = folder if lr_folder is None and not names_only else Path(folder, "..")
    roots = [root or default, lr_root or Path(lr_folder or folder, "..")]
    tasks = [Task(paths, tuple(map(_relative, paths, roots))) for paths in groups]
    write = partial(_line, default is folder)
    lines = [line for _, line in successes(write, tasks, summary, jobs=jobs, title=f"writing {file.name}")]
    if not lines:
        raise UserError(f"{file}: not written: none of the {len(tasks)} images can be listed")
    content = "".join(f"{line}\n" for line in lines).encode()
    if file.exists() and file.read_bytes() == content:
        summary.kept = len(lines)
        return summary
    if file.exists() and not overwrite:
        raise UsageError(f"{file}: exists with other content; choose another file with -o, or --overwrite it")
    write_bytes(file, content)
    summary.made = len(lines)
    return summary


def _pairs(folder: Path, names: list[str], lr_folder: Path, summary: Summary) -> list[tuple[Path, ...]]:
    """Pair images with LR images. Images without exactly one partner become failures."""
    lr_names = images_below(lr_folder, summary.passed_over)
    pairing = pair_names(names, lr_names, guess_template(names, lr_names) or "{}")
    for name in pairing.lone_gt:
        summary.fail(f"{folder / name}: has no LR image in {lr_folder}, or several")
    for name in pairing.lone_lq:
        summary.fail(f"{lr_folder / name}: has no image in {folder}")
    partners = dict(pairing.all_pairs)
    return [(folder / name, lr_folder / partners[name]) for name in names if name in partners]


def _relative(path: Path, root: Path) -> str:
    name = PurePath(os.path.relpath(path, root)).as_posix()
    if name.startswith("../"):
        raise UsageError(f"{path}: lies outside of the root {root}; name a folder above it")
    return name


def _line(with_size: bool, task: Task[tuple[str, ...]]) -> str:
    """Return the line of an image or a pair, whose names are relative to their roots.

    Raises UserError for a damaged image or a name that BasicSR would cut.
    """
    separator = ", " if len(task.name) > 1 else " "
    for source, name in zip(task.sources, task.name, strict=True):
        if separator in name or name.strip() != name or not name.isprintable():
            where = f"{separator!r}, spaces at its ends, or unprintable characters"
            raise UserError(f"{source}: BasicSR would cut the name {name!r} at {where}; rename it")
    pixels, *_ = [decode(read_bytes(source), source) for source in task.sources]
    size = f" ({pixels.shape[0]},{pixels.shape[1]},{1 if pixels.ndim == 2 else 3})" if with_size else ""
    return ", ".join(task.name) + size
