"""Option files are read as plain data, checked before anything is created, and handed to BasicSR's own post-processing.

Where: basicsr/utils/options.py:83-178 (used at train.py:93, test.py:13). What goes wrong: its YAML loader executes
`!!python/object/apply`; --force_yml uses exec and eval, splits on every '=' and comes after the seed is set; a
missing file, flag or key is a traceback; without `manual_seed` every rank seeds its data differently. Delete it once
BasicSR loads safely and validates; basicsr-fixed does neither.
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rgt_arch.basicsr_compat import command_line, devices, distributed, run_folders, validation
from rgt_arch.basicsr_compat.notices import notice
from rgt_arch.config import apply_overrides, load_options
from rgt_arch.data.option_checks import validate_options
from rgt_arch.errors import UsageError

Options = dict[str, Any]
ParseOptions = Callable[..., tuple[Options, argparse.Namespace]]


def parsing_safely(original: ParseOptions) -> ParseOptions:
    """parse_options around BasicSR's own, which still adds paths, phases, scales and the seed."""

    def parse_options(root_path: str, is_train: bool = True) -> tuple[Options, argparse.Namespace]:
        args = command_line.parse(sys.argv[1:], is_train)
        opt = _read(args, root_path, is_train)
        distributed_run = args.launcher != "none"
        if distributed_run:
            settings = {"cpu": opt["num_gpu"] == 0, "local_rank": args.local_rank, **(opt.get("dist_params") or {})}
            distributed.init_dist(args.launcher, **settings)
        seed_is_drawn = opt.get("manual_seed") is None
        if seed_is_drawn:
            opt["manual_seed"] = distributed.on_rank_zero(lambda: random.randint(1, 10000))
        with _basicsr_reads(opt, args):
            opt, basicsr_args = original(root_path, is_train=is_train)
        if is_train and distributed.on_rank_zero(lambda: _is_second_try(opt)):
            notice("torchrun started this run anew; it goes on from its last checkpoint")
            args.restart, args.auto_resume = False, True
        opt["restart"], opt["auto_resume"] = args.restart, args.auto_resume
        opt["seed_is_drawn"] = seed_is_drawn
        if is_train:
            distributed.on_rank_zero(lambda: run_folders.claim(opt["path"]["experiments_root"]))
        if is_train and not (args.auto_resume or args.restart or args.debug):
            distributed.on_rank_zero(lambda: run_folders.refuse_unfinished(opt, opt["train"]["total_iter"]))
        return opt, basicsr_args

    return parse_options


def _read(args: argparse.Namespace, root_path: str, is_train: bool) -> Options:
    """The option file with overrides, validated and settled for this machine.

    Raises UsageError with everything that is wrong.
    """
    for module in args.modules:  # first, so that its classes' keys are known
        import_module(module)
    opt = load_options(args.opt)
    apply_overrides(opt, args.force_yml)
    if args.launcher != "none":
        devices.one_gpu_each(opt)
    # BasicSR opens what an option file names from the current directory; its own folders are below root_path.
    resume_root = root_path if args.auto_resume else None
    for warning in validate_options(opt, file=args.opt, is_train=is_train, root=os.getcwd(), resume_root=resume_root):
        notice(warning)
    validation.settle_loading(opt)
    return opt


def _is_second_try(opt: Options) -> bool:
    """Whether torchrun's `--max-restarts` started this run anew after it had begun; not where the first try was
    refused, or ended before it did what --restart asks for."""
    since = distributed.trying_since()
    return since is not None and run_folders.was_begun_since(opt, since)


def import_module(name: str) -> None:
    """Import a module of the user's, which registers with BasicSR. Raises UsageError when that fails."""
    try:
        importlib.import_module(name)
    except Exception as error:  # a user's module can raise anything
        raise UsageError(
            f"--import {name}: {type(error).__name__}: {error}; it must be importable from the current directory"
        ) from error


@contextmanager
def _basicsr_reads(opt: Options, args: argparse.Namespace) -> Iterator[None]:
    """While BasicSR parses: its YAML loader returns `opt`, and sys.argv has only flags that it knows."""
    import basicsr.utils.options

    class AlreadyLoaded:
        """Stands for a YAML loader class: yaml.load calls get_single_data and dispose."""

        def __init__(self, _stream: object) -> None:
            pass

        def get_single_data(self) -> Options:
            return opt

        def dispose(self) -> None:
            pass

    ordered_yaml, argv = basicsr.utils.options.ordered_yaml, sys.argv
    basicsr.utils.options.ordered_yaml = lambda: (AlreadyLoaded, None)
    sys.argv = [argv[0], *command_line.for_basicsr(args)]
    try:
        yield
    finally:
        basicsr.utils.options.ordered_yaml = ordered_yaml
        sys.argv = argv
