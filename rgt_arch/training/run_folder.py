"""The run directory: lock, archive and create it, and protect an unfinished run.

BasicSR (utils/misc.py:24-49) renames the directory of an unfinished run and of a test's earlier results, and makes a
directory for every unknown `path:` key.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import sys
import time
from pathlib import Path

from rgt_arch.config.loading import Options
from rgt_arch.errors import UsageError
from rgt_arch.files import written_whole
from rgt_arch.training.metrics_csv import has_rows

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_FOLDER_KEYS = ("experiments_root", "results_root", "models", "training_states", "log", "visualization")
_WORKERS_LAST = 10.0  # seconds that data workers may outlive a killed process, and hold its lock


class FolderLock:
    """Lock of a run directory: two processes in it would mix, and delete, each other's checkpoints.

    The lock ends with the process and leaves no file. Windows and some network file systems have no such locks.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor: int | None = None

    def take(self) -> None:
        """Lock the folder that is now at the path, if any. Raises UsageError if another process has the lock."""
        self.close()
        if fcntl is None or not os.path.isdir(self._path):
            return
        self._descriptor = os.open(self._path, os.O_RDONLY)
        patience = time.monotonic() + _WORKERS_LAST
        with contextlib.suppress(OSError):  # a file system without locks
            while True:
                try:
                    fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return
                except BlockingIOError:
                    if time.monotonic() > patience:
                        self.close()
                        raise UsageError(
                            f"{self._path}: another process is training this run; wait until it ends, end it, or "
                            "choose another name"
                        ) from None
                    time.sleep(0.2)

    def close(self) -> None:
        """Give the lock back, if this process has it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def leave_to_parent(self) -> None:
        """In a data worker: close a forked copy of the lock, which would outlive a killed parent."""
        with contextlib.suppress(OSError):  # a spawned worker has no copy
            if self._descriptor is not None and os.path.samestat(os.fstat(self._descriptor), os.stat(self._path)):
                os.close(self._descriptor)


def prepare_run(opt: Options, *, goes_on: bool) -> None:
    """Make the folders of a training run. A new run archives an earlier one of the same name, as BasicSR does."""
    if goes_on:  # delete temporary files of `files.written_whole` that a killed run left, some as large as a checkpoint
        for left in Path(opt["path"]["experiments_root"]).rglob(".*.part*"):
            if re.fullmatch(r"\..+\.\d+\.part(\.\w+)?", left.name) and left.is_file():
                left.unlink(missing_ok=True)
    else:
        _archive(opt["path"]["experiments_root"])
        if opt["logger"].get("use_tb_logger") and "debug" not in opt["name"]:
            _archive(os.path.join(opt["root_path"], "tb_logger", opt["name"]))
    _make_folders(opt)


def prepare_results(opt: Options, notices: list[str]) -> None:
    """Make the folders of a test run. Existing files stay, except pictures of the same name."""
    pictures = Path(opt["path"]["visualization"])
    if pictures.is_dir() and any(pictures.iterdir()):
        notices.append(
            f"{pictures}: holds the pictures of an earlier test; those of the same name are replaced; "
            "give the test another name to keep them"
        )
    _make_folders(opt)


def _archive(folder: str) -> None:
    """Append the time to the name of an existing folder."""
    if os.path.exists(folder):
        new_name = f"{folder}_archived_{time.strftime('%Y%m%d_%H%M%S')}"
        while os.path.exists(new_name):
            new_name += "_2"
        print(f"Path already exists. Rename it to {new_name}", flush=True)
        os.rename(folder, new_name)


def _make_folders(opt: Options) -> None:
    for folder in (opt["path"][key] for key in _FOLDER_KEYS if key in opt["path"]):
        try:
            os.makedirs(folder, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{folder}: cannot be created ({error.strerror}); run in another folder") from error


def copy_option_file(file: str, folder: str) -> None:
    """Copy the option file into the run directory byte for byte, under a heading with time and command.

    An option file that is itself the copy is not changed.
    """
    copy = Path(folder, os.path.basename(file))
    if copy.exists() and copy.samefile(file):
        return
    command = " ".join(" ".join(sys.argv).splitlines())
    heading = f"# GENERATE TIME: {time.asctime()}\n# CMD:\n# {command}\n\n"
    content = Path(file).read_bytes().removeprefix(codecs.BOM_UTF8)
    with written_whole(copy) as beside:
        beside.write_bytes(heading.encode(errors="backslashreplace") + content)


def saved_iterations(training_states: str | os.PathLike[str]) -> list[int]:
    """Return the iterations with a training state in the folder, newest first."""
    try:
        names = os.listdir(training_states)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UsageError(f"{training_states}: cannot be read ({error.strerror}); check its permissions") from error
    return sorted((int(name[:-6]) for name in names if re.fullmatch(r"\d+\.state", name)), reverse=True)


def refuse_unfinished(opt: Options) -> None:
    """Raise UsageError if the run directory holds an unfinished run.

    A run with `path: resume_state` in this directory is not refused: that also means to continue the run.
    """
    root, models = Path(opt["path"]["experiments_root"]), Path(opt["path"]["models"])
    if belongs_to_run(opt, opt["path"].get("resume_state")):
        return
    total, iterations = opt["train"]["total_iter"], saved_iterations(opt["path"]["training_states"])
    newest = (root / "training_states" / f"{iterations[0]}.state").stat().st_mtime if iterations else 0
    ended = any(newest <= file.stat().st_mtime for file in models.glob("net_*_latest.pth"))
    if ended or (iterations and iterations[0] >= total):
        return
    if iterations or any(models.glob("*.pth")) or has_rows(root):
        reached, ways = "it saved nothing to resume from", "pass "
        if iterations:
            reached = f"it was saved at iteration {iterations[0]} of {total}"
            ways = "pass --auto_resume to continue it, "
        raise UsageError(
            f"{root}: an unfinished run has this name ({reached}); {ways}--restart to archive it and begin again, or "
            "choose another name"
        )


def begun_since(opt: Options, moment: float) -> bool:
    """Return whether this run began or was resumed after `moment` (seconds since the epoch), by its logs' names."""
    begun = time.strftime("%Y%m%d_%H%M%S", time.localtime(moment))
    names = [log.name for log in Path(opt["path"]["experiments_root"]).glob("train_*.log")]
    return any(found[1] > begun for name in names if (found := re.search(r"_(\d{8}_\d{6})(?:_\d+)?\.log$", name)))


def belongs_to_run(opt: Options, state: str | None) -> bool:
    """Return whether a training state is in the directory of this run."""
    return state is not None and Path(opt["path"]["experiments_root"]).resolve() in Path(state).resolve().parents
