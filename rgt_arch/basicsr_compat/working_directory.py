"""The current directory goes last on sys.path in our commands, so that a `basicsr/` folder in it shadows nothing.

Where: no line of BasicSR; Python puts the current directory first under `python -m` (and `torchrun -m`). What goes
wrong: in a checkout of a BasicSR fork, `python -m rgt_arch.cli train` would run the fork's code. It must happen
before BasicSR is first imported, and that is while Python still resolves the name behind `-m`. Delete it once we need
no folder of the user's on sys.path.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

COMMANDS = ("basicsr", "rgt")  # as pyproject.toml names the console scripts


def _is_own_command() -> bool:
    """Whether this process was started as `basicsr …`, `rgt …` or `python -m rgt_arch…`."""
    if not sys.argv:
        return False
    if sys.argv[0] == "-m":  # so it reads while `python -m` imports the packages around its target
        arguments = " ".join(sys.orig_argv[1:])
        return re.search(r"(^| )-m ?rgt_arch\b", arguments) is not None
    return Path(sys.argv[0]).stem in COMMANDS


def put_current_directory_last() -> None:
    """Move the current directory to the end of sys.path, or append it: users' own modules are found, but shadow
    none."""
    here = os.path.realpath(os.getcwd())
    sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry or os.curdir) != here] + [os.getcwd()]


def install() -> None:
    if _is_own_command():
        put_current_directory_last()
