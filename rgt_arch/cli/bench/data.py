"""`rgt bench data`: reading rates and waiting times of training data, next to plain BasicSR's loader."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path
from typing import Any

from rgt_arch.evaluation.data_benchmark import BenchSettings, run_data_benchmark


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """The parser of `rgt bench data`."""
    defaults = BenchSettings()
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "data",
        help="how fast training data is read, and how long training waits for it",
        description="Make 2K images, sub-images and LMDBs in a temporary folder, and measure (1) the images that one "
        "core reads in a second, (2) the share of RGT-T's training time that is spent waiting for data, epoch ends "
        "included. Each is measured with the loader of `basicsr train` and with that of plain BasicSR, in turns. Takes "
        "some minutes; other programs should not be running.",
    )
    parser.add_argument(
        "--images",
        metavar="DIR",
        type=Path,
        help="photographs to make the data of; from those smaller than 2040×1356, mosaics are made (default: the "
        "photographs that scikit-image ships)",
    )
    for flag, text in (
        ("scale", "HR pixels for an LR pixel"),
        ("full-images", "2K images to make"),
        ("size", "HR pixels along a side of a sub-image"),
        ("batch", "images in a training step"),
        ("workers", "worker processes that read data while training"),
        ("steps", "training steps of a run"),
        ("samples", "sub-images read in a run"),
        ("rounds", "runs with each loader"),
        ("seed", "for the choice of pixels, patches and weights"),
    ):
        default = getattr(defaults, flag.replace("-", "_"))
        parser.add_argument(f"--{flag}", metavar="N", type=int, default=default, help=f"{text} (default: %(default)s)")
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default=defaults.device,
        help="where to train (default: the GPU, if there is one)",
    )
    parser.add_argument(
        "--step-ms",
        metavar="MS",
        type=float,
        help="sleep so many milliseconds instead of training: what a machine with a faster GPU would wait",
    )
    parser.add_argument(
        "--work-dir", metavar="DIR", type=Path, help="where the temporary folder is made (default: the system's place)"
    )
    return parser


def run(args: argparse.Namespace) -> None:
    """Measure and print."""
    run_data_benchmark(BenchSettings(**{field.name: getattr(args, field.name) for field in fields(BenchSettings)}))
