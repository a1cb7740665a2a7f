"""The console command `basicsr`: train and test from option files, and print the reference of their keys."""

from __future__ import annotations

import argparse
import os
import re
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from rgt_arch.cli import run_guarded
from rgt_arch.version import __version__

_EPILOG = """examples:
  basicsr train -opt options/train_RGT_x2.yml
  basicsr train -opt options/train_RGT_x2.yml --auto_resume
  basicsr train -opt options/train_RGT_x2.yml --force_yml num_gpu=0 datasets:train:batch_size_per_gpu=4
  torchrun --nproc_per_node=4 --max-restarts=3 -m rgt_arch.cli train -opt options/train_RGT_x2.yml
  basicsr test -opt options/test_RGT_x2.yml
  basicsr options

Results go to experiments/NAME (train) and results/NAME (test) in the current directory, NAME being `name` in the file.
Under torchrun every process trains on a GPU of its own; what --max-restarts starts again goes on where it was.
Exit codes: 0 done, 1 failed, 2 wrong flags, options or files, 130 after Ctrl-C, 143 after SIGTERM; training
saves before both.
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of `basicsr`."""
    parser = argparse.ArgumentParser(
        prog="basicsr",
        description="Train and test super-resolution networks with BasicSR.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"rgt-arch {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="train|test|options")
    for name, help_text in (
        ("train", "train the network of an option file; a run does exactly its total_iter iterations"),
        ("test", "run a trained network over the data sets of an option file"),
    ):
        subparser = subparsers.add_parser(
            name,
            help=help_text,
            description=help_text,
            epilog=_EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        _add_flags(subparser, is_train=name == "train")
    help_text = "print every key that option files may have, as Markdown tables"
    subparsers.add_parser("options", help=help_text, description=help_text, allow_abbrev=False)
    return parser


def _add_flags(parser: argparse.ArgumentParser, is_train: bool) -> None:
    """BasicSR's flags (utils/options.py:83-92), and --restart, --import, --verbose, and torchrun's --local-rank."""
    parser.add_argument(
        "-opt", "--opt", required=True, metavar="FILE", type=os.path.expanduser, help="option file (YAML); see options/"
    )
    parser.add_argument(
        "--launcher",
        choices=("none", "pytorch", "slurm"),
        help="how several processes were started: pytorch = torchrun, or its variables by other ways; slurm = srun; "
        "none = this is a process of its own (default: pytorch in one of several processes of torchrun, else none)",
    )
    if is_train:
        again = parser.add_mutually_exclusive_group()
        again.add_argument(
            "--auto_resume",
            "--auto-resume",
            action="store_true",
            help="continue from the newest complete checkpoint in experiments/NAME; start when there is none",
        )
        again.add_argument(
            "--restart", action="store_true", help="archive an unfinished run of the same name and begin again"
        )
    else:
        parser.add_argument("--auto_resume", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument(
        "--force_yml",
        "--force-yml",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="replace values of the option file, e.g. --force_yml train:optim_g:lr=1e-4 num_gpu=0",
    )
    parser.add_argument(
        "--import",
        dest="modules",
        action="append",
        default=[],
        metavar="MODULE",
        help="import a Python module that registers networks, models or data sets of your own; may be repeated",
    )
    parser.add_argument(
        "--debug",
        action="store_true",
        help="BasicSR's debug run: validate and save every 8 iterations" if is_train else argparse.SUPPRESS,
    )
    parser.add_argument("--local_rank", "--local-rank", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--verbose", action="store_true", help="show a traceback when something fails")


def command_first(arguments: list[str]) -> list[str]:
    """Put `--local-rank=N`, which torch.distributed.launch writes before all arguments, behind the command."""
    if arguments and re.fullmatch(r"--local[-_]rank=\d+", arguments[0]):
        return [*arguments[1:2], arguments[0], *arguments[2:]]
    return arguments


def put_current_directory_last() -> None:
    """Move the current directory to the end of sys.path, or append it: users' modules are found, but shadow none.

    Python puts it first under `python -m`, and a `basicsr/` folder of a fork in it would be imported.
    """
    here = os.path.realpath(os.getcwd())
    sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry or os.curdir) != here] + [os.getcwd()]


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `basicsr`; returns the exit code."""
    arguments = command_first(list(sys.argv[1:] if argv is None else argv))
    args = build_parser().parse_args(arguments)
    if args.command == "options":
        return run_guarded(_print_options, "basicsr options")
    prog = f"basicsr {args.command}"
    before = sys.argv
    sys.argv = [prog, *arguments[arguments.index(args.command) + 1 :]]  # as the copy of the option file has it
    put_current_directory_last()
    try:
        return run_guarded(lambda: _run(args, prog), prog)
    finally:
        sys.argv = before


def _print_options() -> None:
    from rgt_arch.config import describe_options

    print(describe_options())


def _run(args: argparse.Namespace, prog: str) -> int:
    """Train or test. Warnings that no log has taken are printed before an error: the error is to be the last line."""
    from rgt_arch.basicsr_compat.registration import prefer_ours
    from rgt_arch.training import loop, ranks
    from rgt_arch.training.options import Flags
    from rgt_arch.training.signals import StopRequest

    values = {name: value for name, value in vars(args).items() if name not in ("command", "verbose", "launcher")}
    flags = Flags(launcher=args.launcher or ranks.launcher_here(), **values)
    rank = ranks.environment_rank() if flags.launcher != "none" else 0
    notices, stop = prefer_ours(), StopRequest()
    try:
        if args.command == "train":
            loop.train(flags, os.getcwd(), notices, stop)
        else:
            loop.test(flags, os.getcwd(), notices)
    except Exception as error:  # BasicSR and users' modules raise anything; users get one line
        if args.verbose:
            traceback.print_exc()
        _print_notices(notices, rank, prog)
        return _fail(error, rank, prog, stop)
    _print_notices(notices, rank, prog)
    ranks.leave()
    return 0


def _print_notices(notices: list[str], rank: int, prog: str) -> None:
    for text in notices if rank == 0 else ():
        print(f"{prog}: warning: {text}", file=sys.stderr)


def _fail(error: Exception, rank: int, prog: str, stop: Any) -> int:
    """Raise `error` as a UserError, or print it and return its exit code.

    Errors raised before the process group exists are printed by rank 0 only; a lost contact is another rank's end,
    which that one reports first.
    """
    import torch.distributed as dist

    from rgt_arch.training import ranks
    from rgt_arch.training.failures import as_user_error

    known = as_user_error(error)
    said = known if rank == 0 else type(known)(f"rank {rank}: {known}")
    if ranks.lost_contact(error):
        print(f"{prog}: error: {said}", file=sys.stderr, flush=True)
        ranks.let_others_speak(stop)
        return known.exit_code
    if rank != 0 and not dist.is_initialized():
        ranks.let_others_speak()
    raise said from error
