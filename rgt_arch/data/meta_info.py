"""Meta-info files: BasicSR's lists of images with their sizes, Real-ESRGAN's lists of names and of pairs."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rgt_arch.data.images import decode, find_files, read_bytes, write_bytes
from rgt_arch.data.outputs import refuse_overlap
from rgt_arch.data.pairing import guess_template, lmdb_key, pair_names
from rgt_arch.data.parallel import Summary, successes
from rgt_arch.errors import UsageError, UserError


@dataclass(frozen=True)
class _Entry:
    """What one line is made of: an image, or HR and LR images, and their paths relative to their roots."""

    sources: tuple[Path, ...]
    names: tuple[str, ...]
    with_size: bool = False

    @property
    def source(self) -> Path:
        return self.sources[0]


def write_meta_info(
    folder: Path,
    file: Path,
    *,
    root: Path | None = None,
    names_only: bool = False,
    jobs: int = 1,
    overwrite: bool = False,
) -> Summary:
    """List the images of a folder and its sub-folders, one `name (h,w,c)` a line, in the order of `lmdb_key`.

    This is what BasicSR's meta_info_file (data/data_util.py:148) expects: names relative to `root`, by default the
    folder; c is 1 for grey images and else 3. names_only: `name` alone, relative to the folder's parent by default, as
    Real-ESRGAN's generate_meta_info.py writes for `meta_info` (data/realesrgan_dataset.py:54).
    Images that are damaged, or whose names could not be read back, are left out, one line each on stderr and in
    `summary.failures`. Raises UsageError if `file` exists with another content and `overwrite` is not set.
    """
    refuse_overlap([folder], [file])
    base = _root(root, Path(folder, "..") if names_only else folder, folder)
    entries = [_Entry((path,), (_relative(path, base),), with_size=not names_only) for path in _images(folder)]
    return _write(file, entries, Summary(), jobs=jobs, overwrite=overwrite)


def write_pair_list(
    folder: Path,
    lr_folder: Path,
    file: Path,
    *,
    root: Path | None = None,
    lr_root: Path | None = None,
    jobs: int = 1,
    overwrite: bool = False,
) -> Summary:
    """List the images of a folder with their LR images, one `gt, lq` a line, in the order of `lmdb_key`.

    This is what RealESRGANPairedDataset (data/realesrgan_paired_dataset.py:62) expects, and Real-ESRGAN's
    generate_meta_info_pairdata.py writes.

    The LR image has the same path in `lr_folder`, with any suffix and what the folder's template adds, such as x2.
    Names are relative to `root` and `lr_root` (the data set's dataroot_gt and dataroot_lq), by
    default the folders' parents. Images without a partner are failures, otherwise as `write_meta_info`.
    """
    refuse_overlap([folder, lr_folder], [file])
    base, lr_base = _root(root, Path(folder, ".."), folder), _root(lr_root, Path(lr_folder, ".."), lr_folder)
    names = [path.relative_to(folder).as_posix() for path in _images(folder)]
    lr_names = [path.relative_to(lr_folder).as_posix() for path in _images(lr_folder)]
    pairing = pair_names(names, lr_names, guess_template(names, lr_names) or "{}")
    if not pairing.all_pairs:
        raise UserError(f"{file}: not written: {folder} and {lr_folder} have no pair of images")
    summary = Summary()
    for name in pairing.lone_gt:
        summary.fail(f"{folder / name}: has no LR image in {lr_folder}, or several")
    for name in pairing.lone_lq:
        summary.fail(f"{lr_folder / name}: has no image in {folder}")
    partners = dict(pairing.all_pairs)
    pairs = [(folder / name, lr_folder / partners[name]) for name in names if name in partners]
    entries = [_Entry(pair, (_relative(pair[0], base), _relative(pair[1], lr_base))) for pair in pairs]
    return _write(file, entries, summary, jobs=jobs, overwrite=overwrite)


def _images(folder: Path) -> list[Path]:
    """The files of a folder in the order in which BasicSR reads an LMDB of the folder (data/data_util.py:150).

    So training from either sees the same batches.
    """
    return sorted(find_files(folder), key=lambda path: lmdb_key(path.relative_to(folder)))


def _root(root: Path | None, default: Path, folder: Path) -> Path:
    base = Path(os.path.abspath(default if root is None else root))
    if base not in (inside := Path(os.path.abspath(folder)), *inside.parents):
        raise UsageError(f"{folder}: lies outside of the root {root}; name a folder above it")
    return base


def _relative(path: Path, base: Path) -> str:
    return Path(os.path.abspath(path)).relative_to(base).as_posix()


def _line(entry: _Entry) -> str:
    """The line of an entry, after a check that its images are whole and BasicSR reads its names back."""
    separator = ", " if len(entry.names) > 1 else " "
    for source, name in zip(entry.sources, entry.names, strict=True):
        if separator in name or name.strip() != name:
            raise UserError(
                f"{source}: BasicSR would cut the name {name!r} at {separator!r} or at spaces at its ends; rename it"
            )
        if len(name.splitlines()) > 1 or any("\ud800" <= character <= "\udfff" for character in name):
            raise UserError(f"{source}: the name {name!r} has line ends, or is not UTF-8; rename it")
    pixels, *_ = [decode(read_bytes(source), source) for source in entry.sources]
    size = f" ({pixels.shape[0]},{pixels.shape[1]},{1 if pixels.ndim == 2 else 3})" if entry.with_size else ""
    return ", ".join(entry.names) + size


def _write(file: Path, entries: Sequence[_Entry], summary: Summary, *, jobs: int, overwrite: bool) -> Summary:
    if file.is_dir():
        raise UsageError(f"{file}: is a folder; name the file to write")
    lines = [line for _, line in successes(_line, entries, summary, jobs=jobs, title=f"writing {file.name}")]
    if not lines:
        raise UserError(f"{file}: not written: none of the {len(entries)} images can be listed")
    content = "".join(f"{line}\n" for line in lines).encode()
    if file.exists():
        try:
            there = file.read_bytes()
        except OSError as error:
            raise UsageError(f"{file}: cannot be read ({error.strerror}); choose another file with -o") from error
        if there == content:
            summary.kept = len(lines)
            return summary
        if not overwrite:
            both = itertools.zip_longest(there.splitlines(), content.splitlines())
            first = next((number for number, (left, right) in enumerate(both, 1) if left != right), 1)
            raise UsageError(
                f"{file}: exists with other content, from line {first} on; choose another file with -o, or "
                "--overwrite it"
            )
    write_bytes(file, content)
    summary.made = len(lines)
    return summary
