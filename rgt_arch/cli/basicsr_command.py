"""The console command `basicsr`: train and test from option files, and print the reference of their keys."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from typing import Any

from rgt_arch.cli import run_guarded
from rgt_arch.cli.commands import Command, command, flag, parse
from rgt_arch.machine import set_up_threads

_EPILOG = """examples:
  basicsr train -opt options/train_RGT_x2.yml
  basicsr train -opt options/train_RGT_x2.yml --auto_resume
  basicsr train -opt options/train_RGT_x2.yml --force_yml num_gpu=0 datasets:train:batch_size_per_gpu=4
  torchrun --nproc_per_node=4 --max-restarts=3 -m rgt_arch.cli train -opt options/train_RGT_x2.yml
  basicsr test -opt options/test_RGT_x2.yml
  basicsr options

Results go to experiments/NAME (train) and results/NAME (test) in the current directory, NAME being `name` in the file.
Under torchrun every process trains on a GPU of its own; processes that --max-restarts starts again go on from the last
checkpoint.
Exit codes: 0 done, 1 failed, 2 wrong flags, options or files, 130 after Ctrl-C, 143 after SIGTERM; training
saves before both.
"""
MAIN = Command("basicsr", "", "Train and test super-resolution networks with BasicSR.", _EPILOG)

_OPTION_FILE = flag("-opt --opt FILE", "option file (YAML); see options/", os.path.expanduser, required=True)
_SHARED = (
    flag(
        "--launcher",
        "how several processes were started: pytorch = torchrun, or its variables by other ways; slurm = srun; none = "
        "this is the only process (default: pytorch in one of several processes of torchrun, else none)",
        choices=("none", "pytorch", "slurm"),
    ),
    flag(
        "--force_yml --force-yml KEY=VALUE",
        "replace values of the option file, e.g. --force_yml train:optim_g:lr=1e-4 num_gpu=0",
        nargs="+",
        action="extend",
    ),
    flag(
        "--import MODULE",
        "import a Python module that registers networks, models or data sets of your own; may be repeated",
        action="append",
        dest="modules",
    ),
    flag("--local_rank --local-rank N", argparse.SUPPRESS, int),
)


def command_first(arguments: list[str]) -> list[str]:
    """Move `--local-rank=N`, which torch.distributed.launch puts before all arguments, behind the command."""
    if arguments and re.fullmatch(r"--local[-_]rank=\d+", arguments[0]):
        return [*arguments[1:2], arguments[0], *arguments[2:]]
    return arguments


def put_current_directory_last() -> None:
    """Move the current directory to the end of sys.path, or append it, so that users' modules do not shadow others.

    Python puts it first under `python -m`, and a `basicsr/` folder of a fork in it would be imported.
    """
    here = os.path.realpath(os.getcwd())
    sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry or os.curdir) != here] + [os.getcwd()]


def main(argv: Sequence[str] | None = None) -> int:
    """Run `basicsr` and return the exit code."""
    set_up_threads()
    work, prog, verbose = parse(MAIN, COMMANDS, command_first(list(sys.argv[1:] if argv is None else argv)))
    put_current_directory_last()
    return run_guarded(work, prog, verbose, ("SIGINT",))  # SIGTERM kills: a rank that waits for others runs no Python


@command(
    "train",
    "train the network of an option file; a run does exactly its total_iter iterations",
    "Train the network of an option file; a run does exactly its total_iter iterations.",
    _EPILOG,
    _OPTION_FILE,
    [
        flag(
            "--auto_resume --auto-resume",
            "continue from the newest complete checkpoint in experiments/NAME; start when there is none",
        ),
        flag("--restart", "archive an unfinished run of the same name and begin again"),
    ],
    flag("--debug", "BasicSR's debug run: validate and save every 8 iterations"),
    *_SHARED,
)
def train(**given: Any) -> int:
    from rgt_arch.training.signals import reporting_sigterm

    if not _is_alone(given.get("launcher")):
        return _run("train", **given)
    with reporting_sigterm("basicsr train"):
        return _run("train", **given)


@command(
    "test",
    "run a trained network over the data sets of an option file",
    "Run a trained network over the data sets of an option file.",
    _EPILOG,
    _OPTION_FILE,
    flag("--auto_resume", argparse.SUPPRESS),  # BasicSR takes both here, too
    flag("--debug", argparse.SUPPRESS),
    *_SHARED,
)
def test(**given: Any) -> int:
    return _run("test", **given)


@command(
    "options",
    "print every key that option files may have, as Markdown tables",
    "Print every key that option files may have, as Markdown tables.",
    "examples:\n  basicsr options > keys.md\n",
)
def options() -> None:
    from rgt_arch.config.tables import describe_options

    print(describe_options())


COMMANDS = (train, test, options)


def _is_alone(launcher: str | None) -> bool:
    """Whether this process is the only one of its run."""
    return launcher in (None, "none") and os.environ.get("WORLD_SIZE", "1") == "1"


def _run(name: str, launcher: str | None = None, **given: Any) -> int:
    """Train or test. Prints the warnings that are not in a log, then raises UserError for any failure.

    Errors raised before the process group exists are printed by rank 0 only. If contact to another rank is lost, that
    rank reports its error first.
    """
    if _is_alone(launcher) and not os.path.exists(given["opt"]):
        from rgt_arch.config.loading import read_written

        read_written(given["opt"])  # raises, before the imports, which take seconds
    import torch.distributed as dist

    from rgt_arch import launchers
    from rgt_arch.basicsr_compat.patches import prefer_ours
    from rgt_arch.training import loop, ranks
    from rgt_arch.training.failures import as_user_error
    from rgt_arch.training.options import Flags
    from rgt_arch.training.signals import StopRequest

    failure: Exception | None
    given.pop("local_rank", None)  # torch.distributed.launch sets LOCAL_RANK too
    flags = Flags(launcher=launcher or launchers.launcher_here(), **given)
    rank = launchers.environment_rank() if flags.launcher != "none" else 0
    notices, stop, failure = [*prefer_ours(), *_folder_not_used()], StopRequest(), None
    try:
        if name == "train":
            loop.train(flags, os.getcwd(), notices, stop)
        else:
            loop.test(flags, os.getcwd(), notices)
    except ImportError as error:
        if (error.name or "").startswith("basicsr"):  # of a fork; `run_guarded` names its folder
            raise
        failure = error
    except Exception as error:  # BasicSR and users' modules can raise any exception; users get one line
        failure = error
    for text in notices if rank == 0 else ():
        print(f"basicsr {name}: warning: {text}", file=sys.stderr)
    if failure is None:
        ranks.leave()
        return 0
    known = as_user_error(failure)
    said = known if rank == 0 else type(known)(f"rank {rank}: {known}")
    if ranks.lost_contact(failure):
        print(f"basicsr {name}: error: {said}", file=sys.stderr, flush=True)
        ranks.let_others_speak(stop)
        return known.exit_code
    if rank != 0 and not dist.is_initialized():
        ranks.let_others_speak()
    raise said from failure


def _folder_not_used() -> list[str]:
    """Return a line if the current directory has a `basicsr/` that is not the imported BasicSR."""
    import basicsr

    here, used = os.path.realpath("basicsr"), os.path.realpath(basicsr.__path__[0])
    if here == used or not os.path.isfile(os.path.join(here, "__init__.py")):
        return []
    return [f"{here} is not used; this command uses the BasicSR in {used}"]
