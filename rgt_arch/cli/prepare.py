"""`rgt prepare`: from a folder of photographs to data that BasicSR trains on."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rgt_arch.cli.commands import Command, command, flag
from rgt_arch.errors import UsageError


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


_JOBS = flag("-j --jobs N", "worker processes (default: as many as CPU cores)", _positive)
_OVERWRITE = flag("--overwrite", "make everything anew, also over files that this command did not make")

_HR_FOLDER = (
    flag("hr_folder HR_DIR", "folder of photographs", Path),
    flag("-o --output OUT_DIR", "the data set's folder (default: the one HR_DIR is in)", Path, dest="out_folder"),
    flag("--scale", "(default: 4)", int, nargs="+", action="extend", choices=(2, 3, 4, 8), dest="scales"),
)
_HR_OUT = flag(
    "--hr-out DIR", "also write HR cropped to exactly scale x LR there, as BasicSR's training needs it", Path
)


def _run(make: Callable[..., Any], **given: Any) -> int:
    """Call `make`, print its summary, and return the exit code: 1 if a file failed."""
    from rgt_arch.machine import cores

    summary = make(**{"jobs": cores(), **given})
    print(summary.text())
    return int(bool(summary.failures))


prepare = Command(
    "prepare",
    "make LR images, sub-images, meta-info and LMDBs, and check them",
    "From a folder of photographs to data that BasicSR trains on. Each command can be stopped and run again: complete "
    "files are kept. Files that cannot be used are named, and do not stop the others.",
    """examples:
  rgt prepare lr datasets/DF2K/HR --scale 2 4
  rgt prepare subimages datasets/DF2K/HR --lr datasets/DF2K/LR_bicubic/X2 -o datasets/DF2K_sub
""",
)


@command(
    "prepare lr",
    "make bicubic LR images of a folder of photographs",
    "Make the LR images of a folder of photographs, sub-folders included, bit for bit as MATLAB's imresize does, which "
    "made those of this field's benchmarks. HR is cropped to a multiple of the scale first.",
    """examples:
  rgt prepare lr datasets/DF2K/HR --scale 2 3 4
  rgt prepare lr photos -o datasets/photos --hr-out datasets/photos/HR
""",
    *_HR_FOLDER,
    flag("--layout LAYOUT", "places of LR files in OUT_DIR (default: LR_bicubic/X{scale}/{name}x{scale}.png)"),
    _HR_OUT,
    _JOBS,
    _OVERWRITE,
)
def lr(**given: Any) -> int:
    """Make the LR images, and print the counts."""
    from rgt_arch.data.preparing import make_lr_images

    return _run(make_lr_images, **given)


@command(
    "prepare degrade",
    "make degraded LR images, as RealRGTModel trains on",
    "Make the LR images of a folder of photographs, sub-folders included, with the degradations of RealRGTModel's "
    "training: to look at, and for validation. They go to LR_PROFILE/X{scale}/{name}x{scale}.png in OUT_DIR. The same "
    "seed gives the same images.",
    """examples:
  rgt prepare degrade datasets/benchmark/Set5/HR --profile photo
  rgt prepare degrade photos -o datasets/photos --profile real --seed 3 --scale 2
""",
    *_HR_FOLDER,
    flag("--profile", "photo is mild, real is Real-ESRGAN's", choices=("photo", "real"), required=True),
    flag("--seed N", "of the random numbers (default: 0)", int),
    _HR_OUT,
    _JOBS,
    _OVERWRITE,
)
def degrade(profile: str, seed: int = 0, **given: Any) -> int:
    """Make the LR images, and print the counts."""
    from rgt_arch.data.outputs import Degrading
    from rgt_arch.data.preparing import make_lr_images

    if seed < 0:
        raise UsageError(f"--seed is {seed}; it must be at least 0")
    return _run(make_lr_images, **given, degrading=Degrading(profile, seed))


@command(
    "prepare subimages",
    "cut photographs into overlapping crops, HR and LR together",
    "Cut HR images, and the same places out of their LR images, into overlapping crops of equal names: "
    "OUT/HR/name_s001.png and OUT/LR_bicubic/X2/name_s001.png. Training reads them faster than whole photographs. LR "
    "images are named like HR, all with the same addition, such as x2; the scale follows from their sizes.",
    """examples:
  rgt prepare subimages datasets/DF2K/HR --lr datasets/DF2K/LR_bicubic/X2 -o datasets/DF2K_sub
""",
    flag("hr_folder HR_DIR", "folder of HR images", Path),
    flag("-o --output OUT", "folder for the sub-images", Path, required=True, dest="out_folder"),
    flag("--lr LR_DIR", "folder of LR images; repeatable", Path, action="append", dest="lr_folders"),
    flag("--size N", "side of an HR crop in pixels (default: 480)", int),
    flag("--step N", "pixels from one HR crop to the next (default: 240)", int),
    flag("--threshold N", "leave out rests of at most N HR pixels at the bottom and right (default: 0)", int),
    _JOBS,
    _OVERWRITE,
)
def subimages(**given: Any) -> int:
    """Cut, and print the counts."""
    from rgt_arch.data.outputs import Cutting
    from rgt_arch.data.preparing import make_sub_images

    cutting = Cutting(**{name: given.pop(name) for name in Cutting.__dataclass_fields__ if name in given})
    return _run(make_sub_images, **given, cutting=cutting)


@command(
    "prepare meta",
    "list images for meta_info_file, or pairs of images",
    "List the images of a folder and its sub-folders: `name (h,w,c)` for BasicSR's meta_info_file; with --lr `gt, lq` "
    "pairs, and with --names-only plain names, for Real-ESRGAN's meta_info.",
    """examples:
  rgt prepare meta datasets/DF2K_sub/HR -o datasets/DF2K_sub/meta_info.txt
  rgt prepare meta datasets/DF2K_sub/HR --lr datasets/DF2K_sub/LR_bicubic/X2 -o pairs.txt
""",
    flag("folder DIR", "folder of images", Path),
    flag("-o --output FILE", "text file to write", Path, required=True, dest="file"),
    [
        flag("--lr DIR", "list pairs; LR names have one addition, such as x2, or none", Path, dest="lr_folder"),
        flag("--names-only", "list names without sizes"),
    ],
    flag("--root DIR", "the option file's dataroot_gt (default: DIR; for pairs and plain names its parent)", Path),
    flag("--lr-root DIR", "the option file's dataroot_lq (default: the parent of --lr)", Path),
    _JOBS,
    _OVERWRITE,
)
def meta(**given: Any) -> int:
    """Write the list, and print the counts."""
    from rgt_arch.data.meta_info import write_meta_info

    if given.get("lr_folder") is None and "lr_root" in given:
        raise UsageError(f"--lr-root {given['lr_root']} goes with --lr only; name the folder of LR images with --lr")
    return _run(write_meta_info, **given)


@command(
    "prepare lmdb",
    "pack a folder of images into an LMDB",
    "Pack the images of a folder and its sub-folders into an LMDB folder for BasicSR's io_backend lmdb. The keys are "
    "the names without suffix. HR and LR need the same keys, hence --ending.",
    """examples:
  rgt prepare lmdb datasets/DF2K_sub/HR
  rgt prepare lmdb datasets/DF2K/LR_bicubic/X2 --ending x2
""",
    flag("folder DIR", "folder of images", Path),
    flag("-o --output OUT.lmdb", "folder to make (default: DIR.lmdb)", Path, dest="path"),
    flag("--ending TEXT", "end of the names that is not part of the keys, such as x2"),
    flag("--compression 0-9", "of PNG, for all images (default: PNG files are stored as they are)", int),
    _JOBS,
    _OVERWRITE,
)
def lmdb(**given: Any) -> int:
    """Pack, and print the counts."""
    from rgt_arch.data.lmdb import create_lmdb_of_folder

    return _run(create_lmdb_of_folder, **given)


@command(
    "prepare check",
    "check images, pairs, LMDBs, or all data of an option file",
    "Decode every image, and report contents and problems: damaged files, equal images, HR and LR that do not "
    "fit, lists that do not agree with the files, and whether BasicSR can train on it. Nothing is changed. Exit code "
    "0: all is well; 1: something is wrong; 2: the target cannot be checked.",
    """examples:
  rgt prepare check datasets/DF2K/HR --lr datasets/DF2K/LR_bicubic/X2 --scale 2
  rgt prepare check options/train_RGT_x2.yml
""",
    flag("target TARGET", "folder, LMDB folder (.lmdb), meta-info text or option file (.yml)", Path),
    flag("--lr TARGET", "LR images (folder or LMDB) of the HR images TARGET", Path),
    flag("--scale N", "HR size divided by LR size (default: the one that most pairs have)", int),
    flag("--root FOLDER", "of the names in a meta-info text (default: its folder, or one beside it)", Path),
    flag("--bicubic", "also count LR images that are MATLAB's bicubic of HR, bit for bit"),
    flag("--all", "list everything, not the first lines of each problem"),
    _JOBS,
)
def check(target: Path, lr: Path | None = None, all: bool = False, **given: Any) -> int:
    """Print the report; 1 if there is a problem."""
    from rgt_arch.data.inspect.sections import LINES_SHOWN, summary
    from rgt_arch.data.inspect.targets import check_target
    from rgt_arch.machine import cores

    sections = check_target(target, lr, **{"jobs": cores(), **given})
    print("\n\n".join([*(section.text(None if all else LINES_SHOWN) for section in sections), summary(sections)]))
    return int(any(section.problems for section in sections))


COMMANDS = (prepare, lr, degrade, subimages, meta, lmdb, check)
