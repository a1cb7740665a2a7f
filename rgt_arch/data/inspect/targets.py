"""`check_target`: what a path is, and the check for it."""

from __future__ import annotations

from pathlib import Path

from rgt_arch.data.inspect.folders import check_folder, check_folders
from rgt_arch.data.inspect.lists import check_meta_info
from rgt_arch.data.inspect.lmdbs import check_lmdb, check_lmdbs, is_lmdb
from rgt_arch.data.inspect.report import Section
from rgt_arch.errors import UsageError


def check_target(
    target: Path,
    lq: Path | None = None,
    *,
    scale: int | None = None,
    root: Path | None = None,
    bicubic: bool = False,
    jobs: int,
) -> list[Section]:
    """Check a folder, an LMDB folder, a meta-info text or an option file; nothing is changed.

    lq: LR images that belong to the HR images of `target`. scale: what it should be, by default what it is.
    root: the folder that the names of a meta-info text are relative to, by default found out.
    bicubic: compare LR images with the bicubic of HR. jobs: worker processes.

    Raises UsageError if there is nothing that could be checked, or for arguments that do not go together.
    """
    target = Path(target)
    if scale is not None and scale < 1:
        raise UsageError(f"--scale is {scale}; it must be a whole number, 1 or more")
    if not target.exists():
        raise UsageError(f"{target}: no such file or folder; correct the name")
    if target.is_dir():
        if root is not None:
            raise UsageError("--root goes with a meta-info text only; leave it out")
        return _check_directory(target, lq, scale, bicubic, jobs)
    if target.suffix.lower() in (".yml", ".yaml"):
        if lq is not None or scale is not None or root is not None:
            raise UsageError(f"{target}: an option file names its own data; leave out --lr, --scale and --root")
        from rgt_arch.data.inspect.options import check_options  # imports BasicSR

        return check_options(target, bicubic=bicubic, jobs=jobs)
    if target.suffix.lower() == ".txt":
        return check_meta_info(target, root, lq, scale, bicubic=bicubic, jobs=jobs)
    raise UsageError(
        f"{target}: cannot be checked; name a folder, an LMDB folder (.lmdb), a meta-info text (.txt) or an option "
        "file (.yml)"
    )


def _check_directory(target: Path, lq: Path | None, scale: int | None, bicubic: bool, jobs: int) -> list[Section]:
    for folder in (target, lq):
        if folder is not None and not is_lmdb(folder) and (folder / "data.mdb").exists():
            raise UsageError(f"{folder}: looks like an LMDB; BasicSR takes it for one if its name ends with .lmdb")
    if lq is None:
        if scale is not None or bicubic:
            raise UsageError("--scale and --bicubic need --lr, the folder of the LR images")
        return [check_lmdb(target, jobs=jobs).section if is_lmdb(target) else check_folder(target, jobs=jobs)]
    if not lq.is_dir():
        raise UsageError(f"{lq}: no such folder" if not lq.exists() else f"{lq}: is a file; name its folder")
    if lq.samefile(target):
        raise UsageError(f"{target}: is given as HR and as LR; name the folder of the LR images with --lr")
    if is_lmdb(target) != is_lmdb(lq):
        raise UsageError(f"{target} and {lq}: one is an LMDB, the other a folder; check two of a kind")
    return (check_lmdbs if is_lmdb(target) else check_folders)(target, lq, scale, bicubic=bicubic, jobs=jobs)
