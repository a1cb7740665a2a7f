"""Folders of a run: what is archived, what is kept, and a run that must not be thrown away by mistake.

Where: basicsr/utils/misc.py:24-49 (used at train.py:103, test.py:19) and utils/options.py:181 (used at train.py:108).
What goes wrong: starting a run again renames the folder of an unfinished one away; `test` renames earlier results
away; every unknown `path:` key becomes a directory; a run started from the copy of its option file in its own folder
dies of SameFileError, and any with a letter that the locale cannot read (×, say) of UnicodeDecodeError. Two archives
within a second are an OSError. Delete it once BasicSR asks before it archives, creates known folders only and copies
the option file as UTF-8.
"""

from __future__ import annotations

import codecs
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.distributed as dist

from rgt_arch.basicsr_compat.notices import notice
from rgt_arch.errors import UsageError
from rgt_arch.files import written_whole

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

Options = dict[str, Any]

_WORKERS_LAST = 10.0  # seconds that data workers may outlive a process that was killed, and keep what it held
_claimed: int | None = None  # descriptor of the folder of the run

FOLDER_KEYS = ("experiments_root", "results_root", "models", "training_states", "log", "visualization")
_ITERATION = re.compile(r", iter: *[\d,]+, lr:")


def with_known_folders(original: Callable[[Options], None]) -> Callable[[Options], None]:
    """make_exp_dirs that archives and creates as BasicSR does for training, and keeps what is there for testing."""

    def make_exp_dirs(opt: Options) -> None:
        folders = {key: opt["path"][key] for key in FOLDER_KEYS if key in opt["path"]}
        if opt["is_train"]:
            original({**opt, "path": folders})
            if opt.get("rank", 0) == 0:
                claim(folders["experiments_root"])
        elif opt.get("rank", 0) == 0:
            pictures = Path(folders["visualization"])
            if pictures.is_dir() and any(pictures.iterdir()):
                notice(
                    f"{pictures}: holds the pictures of an earlier test; those of the same name are replaced; "
                    "give the test another name to keep them"
                )
            create(folders)

    return make_exp_dirs


def archiving_apart(original: Callable[[str], None]) -> Callable[[str], None]:
    """mkdir_and_rename that waits when the archive's name, which holds the second, is taken by one just made."""

    def mkdir_and_rename(path: str) -> None:
        from basicsr.utils.misc import get_time_str

        while os.path.exists(f"{path}_archived_{get_time_str()}"):
            time.sleep(0.1)
        original(path)

    return mkdir_and_rename


def create(folders: dict[str, str]) -> None:
    """Create the folders that are missing. Raises UsageError for one that cannot be created."""
    for key in FOLDER_KEYS:
        if key in folders:
            try:
                os.makedirs(folders[key], exist_ok=True)
            except OSError as error:
                raise UsageError(
                    f"{folders[key]}: cannot be created ({error.strerror}); run in another folder"
                ) from error


def copy_opt_file(opt_file: str, experiments_root: str) -> None:
    """Copy the option file into the run's folder, under a heading with time and command, on rank 0.

    Byte for byte, so that neither locale nor line ends matter. A file that is the copy already is left alone.
    """
    copy = Path(experiments_root, os.path.basename(opt_file))
    if (dist.is_initialized() and dist.get_rank()) or (copy.exists() and copy.samefile(opt_file)):
        return
    command = " ".join(" ".join(sys.argv).splitlines())
    heading = f"# GENERATE TIME: {time.asctime()}\n# CMD:\n# {command}\n\n"
    content = Path(opt_file).read_bytes().removeprefix(codecs.BOM_UTF8)
    with written_whole(copy) as beside:
        beside.write_bytes(heading.encode(errors="backslashreplace") + content)


def saved_iterations(training_states: str | os.PathLike[str]) -> list[int]:
    """Iterations that have a training state in the folder, newest first."""
    try:
        names = os.listdir(training_states)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UsageError(f"{training_states}: cannot be read ({error.strerror}); check its permissions") from error
    return sorted((int(name[:-6]) for name in names if re.fullmatch(r"\d+\.state", name)), reverse=True)


def claim(experiments_root: str) -> None:
    """Lock a run's folder, if it exists, until this process ends or claims another one.

    Two processes in one folder would mix their checkpoints, and delete each other's. Raises UsageError where another
    process has the lock. Nothing is left on the disk. Does nothing where folders cannot be locked (Windows, some NFS).
    """
    global _claimed
    release()
    if fcntl is None or not os.path.isdir(experiments_root):
        return
    folder = os.open(experiments_root, os.O_RDONLY)
    patience = time.monotonic() + _WORKERS_LAST
    while True:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > patience:
                os.close(folder)
                raise UsageError(
                    f"{experiments_root}: another process is training this run; wait until it ends, end it, or choose "
                    "another name"
                ) from None
            time.sleep(0.2)
        except OSError:
            os.close(folder)
            return
        else:
            _claimed = folder
            return


def release() -> None:
    """Give back the folder that this process claimed last, if any."""
    global _claimed
    if _claimed is not None:
        os.close(_claimed)
        _claimed = None


def leave_claim() -> None:
    """Called in a forked child, which has its parent's lock too and would keep it when the parent is killed."""
    if _claimed is not None:
        os.close(_claimed)


def refuse_unfinished(opt: Options, total_iter: int) -> None:
    """Raise UsageError when the run's folder holds training that has not come to its end.

    Naming a state of it in `path: resume_state` says as clearly as --auto_resume that it goes on.
    """
    root = Path(opt["path"]["experiments_root"])
    if not root.is_dir() or belongs_to_run(opt, opt["path"].get("resume_state")):
        return
    iterations = saved_iterations(opt["path"]["training_states"])
    models = Path(opt["path"]["models"])
    ended = any(not _has_newer_state(root, iterations, latest) for latest in models.glob("net_*_latest.pth"))
    if ended or (iterations and iterations[0] >= total_iter):
        return
    if iterations or any(models.glob("*.pth")) or any(_has_iterations(log) for log in root.glob("train_*.log")):
        reached = f"it was saved at iteration {iterations[0]}" if iterations else "nothing to resume from is saved yet"
        raise UsageError(
            f"{root}: an unfinished run has this name ({reached} of {total_iter}); pass --auto_resume to continue it, "
            "--restart to archive it and begin again, or choose another name"
        )


def was_begun_since(opt: Options, moment: float) -> bool:
    """Whether a training of this run began, or went on, after `moment`, in seconds since the epoch, by its logs'
    names."""
    begun = time.strftime("%Y%m%d_%H%M%S", time.localtime(moment))
    names = [log.name for log in Path(opt["path"]["experiments_root"]).glob("train_*.log")]
    return any(found[1] > begun for name in names if (found := re.search(r"_(\d{8}_\d{6})(?:_\d+)?\.log$", name)))


def belongs_to_run(opt: Options, state: str | None) -> bool:
    """Whether a training state lies in the folder of this run."""
    return state is not None and Path(opt["path"]["experiments_root"]).resolve() in Path(state).resolve().parents


def _has_newer_state(root: Path, iterations: list[int], latest: Path) -> bool:
    """Whether the newest state was written after `latest`, which BasicSR writes when a run ends."""
    if not iterations:
        return False
    return (root / "training_states" / f"{iterations[0]}.state").stat().st_mtime > latest.stat().st_mtime


def _has_iterations(log: Path) -> bool:
    with log.open(encoding="utf-8", errors="replace") as file:
        return any(_ITERATION.search(line) for line in file)
