"""The console command `rgt`: one module per sub-command, each with `add_parser(subparsers)` and `run(args)`."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rgt_arch.errors import UserError
from rgt_arch.version import __version__

# In the order `rgt --help` lists them; each is a module of this package.
COMMANDS = (
    "upscale",
    "demo",
    "table",
    "figure",
    "prepare",
    "complexity",
    "ablation",
    "info",
    "convert",
    "weights",
)


def run_guarded(work: Callable[[], int | None], prog: str, verbose: bool = False) -> int:
    """Call `work` and return its exit code; a UserError becomes its text on stderr and its exit code.

    With `verbose` the traceback is let through. Ctrl-C gives 130. Where nobody reads stdout any more, as behind
    `| head`, that is no failure. Streams that the process was started without are opened on nothing.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # from a file manager, or with `2>&-`: else a file of ours would get its number
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
    try:
        code = work() or 0
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        try:
            print(flush=True)  # to flush alone would try nothing where stdout is unbuffered
        except BrokenPipeError:  # else Python would complain of it at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        raise
    except UserError as error:
        if verbose:
            raise
        print(f"{prog}: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"{prog}: interrupted", file=sys.stderr)
        return 130


def build_parser() -> argparse.ArgumentParser:
    """The parser of `rgt` with all sub-commands."""
    parser = argparse.ArgumentParser(prog="rgt", description="Image super-resolution with RGT.")
    parser.add_argument("--version", action="version", version=f"rgt-arch {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        module = importlib.import_module(f"rgt_arch.cli.{name}")
        subparser = module.add_parser(subparsers)
        subparser.add_argument("--verbose", action="store_true", help="show a traceback when something fails")
        subparser.set_defaults(run=module.run, prog=subparser.prog)
    return parser


@contextmanager
def ending_in_order() -> Iterator[None]:
    """Let SIGTERM and a closed terminal run what removes half-written files, as Ctrl-C does; exit 143 and 129."""
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        numbers = []  # no other thread may say so
    taken = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, lambda received, _frame: sys.exit(128 + received))
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `rgt`; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names and signs that a terminal's encoding lacks
    args = build_parser().parse_args(argv)
    with ending_in_order():
        return run_guarded(lambda: args.run(args), args.prog, args.verbose)
