"""The console command `basicsr`: BasicSR's train and test pipelines, with the current directory as their root, and the
reference of option-file keys."""

from __future__ import annotations

import argparse
import os
import re
import sys
import traceback
from collections.abc import Sequence

import torch.distributed as dist

from rgt_arch import basicsr_compat
from rgt_arch.basicsr_compat import command_line, failures, notices, registries, working_directory
from rgt_arch.basicsr_compat.distributed import environment_rank, leave, let_others_speak, lost_contact
from rgt_arch.cli import run_guarded
from rgt_arch.config import describe_options
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
        command_line.add_arguments(subparser, is_train=name == "train")
    help_text = "print every key that option files may have, as Markdown tables"
    subparsers.add_parser("options", help=help_text, description=help_text, allow_abbrev=False)
    return parser


def command_first(arguments: list[str]) -> list[str]:
    """Put `--local-rank=N`, which torch.distributed.launch writes before all arguments, behind the command."""
    if arguments and re.fullmatch(r"--local[-_]rank=\d+", arguments[0]):
        return [*arguments[1:2], arguments[0], *arguments[2:]]
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `basicsr`; returns the exit code."""
    arguments = command_first(list(sys.argv[1:] if argv is None else argv))
    args = build_parser().parse_args(arguments)
    if args.command == "options":
        return run_guarded(lambda: print(describe_options()), "basicsr options")
    prog = f"basicsr {args.command}"
    before = sys.argv
    # BasicSR reads its flags from sys.argv, and writes the line into the copy of the option file.
    sys.argv = [prog, *arguments[arguments.index(args.command) + 1 :]]
    try:
        return run_guarded(lambda: _run_and_say(args, prog), prog)
    finally:
        sys.argv = before


def _run_and_say(args: argparse.Namespace, prog: str) -> int:
    """Run, and say what still waits to be said before an error is printed: the error is to be the last line."""
    rank = environment_rank() if args.launcher != "none" else 0
    try:
        return _run(args, rank, prog)
    finally:
        for text in notices.take():
            if rank == 0:
                print(f"{prog}: warning: {text}", file=sys.stderr)


def _run(args: argparse.Namespace, rank: int, prog: str) -> int:
    working_directory.put_current_directory_last()
    basicsr_compat.install()
    registries.prefer_ours()
    from basicsr.test import test_pipeline
    from basicsr.train import train_pipeline

    pipeline = train_pipeline if args.command == "train" else test_pipeline
    try:
        pipeline(os.getcwd())
    except Exception as error:  # BasicSR raises anything; users get one line
        if args.verbose:
            traceback.print_exc()
        return _fail(error, rank, prog)
    leave()
    return 0


def _fail(error: Exception, rank: int, prog: str) -> int:
    """Raise `error` as a UserError, or say it and return its exit code.

    What all ranks find before they have met, rank 0 says for them; what is another one's end, that one says first.
    """
    known = failures.as_user_error(error)
    said = known if rank == 0 else type(known)(f"rank {rank}: {known}")
    if lost_contact(error):
        print(f"{prog}: error: {said}", file=sys.stderr, flush=True)
        let_others_speak()
        return known.exit_code
    if rank != 0 and not dist.is_initialized():
        let_others_speak()
    raise said from error
