"""`rgt ablation`: variants of the network, trained and compared."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from rgt_arch.evaluation.ablation.formats import FORMATS
from rgt_arch.evaluation.ablation.running import AblationSettings, run_ablation
from rgt_arch.files import write_text

_EPILOG = """examples:
  rgt ablation options/ablation/cpu.yml
  rgt ablation options/ablation/cpu.yml --only "no CPE" --seeds 10 --force_yml train:total_iter=200 --keep quick
  rgt ablation options/ablation/cpu.yml --report --format csv -o ablation.csv

Run it again after an interruption: it goes on with the training where that was saved last.
Exit codes: 0 all trained, 1 something is missing or failed, 2 wrong flags, options or files, 130 interrupted.
"""


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """The parser of `rgt ablation`."""
    defaults = AblationSettings(Path())
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "ablation",
        help="train variants of the network with equal seeds and data, and compare them",
        description="Train the variants that a list names, each with several seeds, by `basicsr train`, and print the "
        "last validations' means with their spread, differences to the first variant, parameters and multiply-adds.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "file", metavar="LIST", type=Path, help="a base option file and overrides, as in options/ablation"
    )
    parser.add_argument(
        "--only", metavar="VARIANT", nargs="+", help="these variants of the list, and the first (default: all)"
    )
    parser.add_argument("--seeds", metavar="N", type=int, nargs="+", help="(default: those of the list)")
    parser.add_argument(
        "--force_yml",
        metavar="KEY=VALUE",
        nargs="+",
        default=(),
        help="change options of all variants, such as train:total_iter=200",
    )
    parser.add_argument("--report", action="store_true", help="train nothing, print what is there")
    parser.add_argument("--format", choices=tuple(FORMATS), default="markdown", help="(default: %(default)s)")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="write to a file (default: to stdout)")
    parser.add_argument("--overwrite", action="store_true", help="replace an output that exists")
    parser.add_argument(
        "--keep",
        metavar="DIR",
        type=Path,
        default=defaults.keep,
        help="where trainings and their results are kept (default: %(default)s)",
    )
    return parser


def run(args: argparse.Namespace) -> int:
    """Train and print; 1 if a training is missing."""
    plan, runs = run_ablation(
        AblationSettings(
            args.file, args.seeds, args.only, args.force_yml, args.keep, args.report, args.output, args.overwrite
        )
    )
    write_text(FORMATS[args.format](plan, runs), args.output)
    missing = sum(run.scores is None for run in runs)
    if missing:
        print(f"rgt ablation: {missing} of {len(runs)} trainings are missing", file=sys.stderr)
    return int(bool(missing))
