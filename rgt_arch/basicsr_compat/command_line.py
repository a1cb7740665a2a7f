"""The flags of `basicsr train` and `basicsr test`: BasicSR's own and ours, one parser for the command and for
parse_options.

Where: basicsr/utils/options.py:83-92. What is missing there: --restart, --import, --verbose, torchrun's spelling of
--local-rank.
"""

from __future__ import annotations

import argparse
import os

from rgt_arch.basicsr_compat.distributed import launcher_here


def add_arguments(parser: argparse.ArgumentParser, is_train: bool) -> None:
    """Add the flags of `train` or of `test` to `parser`."""
    parser.add_argument("-opt", "--opt", required=True, metavar="FILE", help="option file (YAML); see options/")
    parser.add_argument(
        "--launcher",
        choices=("none", "pytorch", "slurm"),
        default=launcher_here(),
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
        parser.set_defaults(restart=False)
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


def parse(arguments: list[str], is_train: bool) -> argparse.Namespace:
    """Parse what follows `basicsr train` or a host's own `train.py`. Exits with 2, as argparse does, on wrong flags."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_arguments(parser, is_train)
    args = parser.parse_args(arguments)
    args.opt = os.path.expanduser(args.opt)  # shells leave a quoted ~ alone, and one after --opt=
    return args


def for_basicsr(args: argparse.Namespace) -> list[str]:
    """The flags again, as far as BasicSR's own parser knows them; --force_yml is applied before it reads the
    options."""
    arguments = ["-opt", args.opt, "--launcher", args.launcher, "--local_rank", str(args.local_rank or 0)]
    return arguments + ["--auto_resume"] * args.auto_resume + ["--debug"] * args.debug
