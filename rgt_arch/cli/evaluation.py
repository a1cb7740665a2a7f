"""`rgt demo`, `table`, `figure`, `complexity` and `ablation`: measure, draw and compare results of networks."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rgt_arch.cli.commands import Command, Flag, command, flag

_OVERWRITE = flag("--overwrite", "replace an output that exists")
_OUTPUT = flag("-o --output FILE", "write to a file (default: to stdout)", Path)


_METHODS = """METHOD is one of
  RGT_S, RGT, RGT_T    published networks and the small one by name; weights are downloaded at first use
  RGT_x4               one of them at one scale
  RGT+, RGT_x4+, …     with x8 self-ensemble
  bicubic              MATLAB's imresize
  net_g_500000.pth     any RGT checkpoint; with + at its end: with self-ensemble
  results/mine         a folder of super-resolved images
NAME=METHOD gives it another name."""


def _write(text: str, output: Path | None, missing: int, what: str) -> int:
    """Write a table, and `what` to stderr if results are missing. Returns the exit code."""
    from rgt_arch.files import write_text

    write_text(text, output)
    if missing:
        print(f"{what} are missing", file=sys.stderr)
    return int(bool(missing))


@command(
    "demo",
    "train and test a small RGT on a few photographs, in minutes",
    "Train the RGT-T ×2 that ships further on photographs of scikit-image, test it on others, and compare it with "
    "bicubic in a table and in pictures. Needs no GPU and no download; takes at most 4 minutes on 2 CPU cores.",
    """examples:
  rgt demo
  rgt demo -o /tmp/demo --from-scratch --iterations 400
""",
    flag("-o --output DIR", "folder for all files (default: rgt_demo)", Path),
    flag("--iterations N", "training iterations (default: 160)", int),
    flag("--from-scratch", "start from interpolation, not from RGT_T_x2"),
)
def demo(output: Path = Path("rgt_demo"), **given: Any) -> None:
    from rgt_arch.evaluation.demo import run_demo

    run_demo(output, **given)


@command(
    "table",
    "measure benchmark sets and compare with the paper's table",
    "Measure PSNR and SSIM on the five benchmark sets with BasicSR's metrics, and print them beside the published "
    "numbers in the layout of the paper's Table 2.",
    f"""{_METHODS} A name in the paper's table (RCAN=…) is compared with the numbers there.
Folders have results in Set5/x2, x2/Set5 or visualization/Set5.

SET is Set5, Set14, B100, Urban100, Manga109, or a folder of your own beside them.

examples:
  rgt table RGT_S RGT RGT+
  rgt table bicubic RGT_T --sets Set5 Set14 --format latex -o table.tex
  rgt table mine=experiments/mine/models/net_g_latest.pth --format csv-images
  torchrun --nproc_per_node=4 -m rgt_arch.cli table RGT+

Run it again after an interruption: it continues with the first image that is not measured yet.
Exit codes: 0 all measured, 1 something is missing (the table names it, and how to get it) or failed, 2 wrong flags or
files, 130 interrupted.
""",
    flag("methods METHOD", "what to measure, see below", nargs="+"),
    flag("--scales", "(default: those that each method has)", int, nargs="+", choices=(2, 3, 4)),
    flag("--sets SET", "folders in --data (default: the paper's five)", nargs="+", dest="benchmarks"),
    flag("--metrics NAME", "of pyiqa beside PSNR and SSIM, such as lpips (pip install 'rgt-arch[metrics]')", nargs="+"),
    flag("--data DIR", "with Set5/HR/baby.png, Set5/LR_bicubic/X2/babyx2.png (default: datasets/benchmark)", Path),
    flag("--format", "(default: markdown)", choices=("markdown", "latex", "csv", "csv-images", "json")),
    _OUTPUT,
    _OVERWRITE,
    flag("--tile N", "tiles of N LR pixels, for little memory (default: 0, whole images, as in the paper)", int),
    flag("--device", "auto: the GPU, if there is one (default: auto)", choices=("auto", "cpu", "cuda")),
    flag("--keep DIR", "where the scores of single images are kept (default: results/table)", Path),
    flag("--fresh", "ignore kept scores, and measure again"),
)
def table(format: str = "markdown", **given: Any) -> int:
    """Measure and print; 1 if something is missing."""
    from rgt_arch.evaluation.tables.measuring import TableSettings, make_table

    table = make_table(TableSettings(**given))
    if table is None:  # not rank 0
        return 0
    what = f"rgt table: {len(table.missing)} of {len(table.results)} results"
    return _write(table.text(format), given.get("output"), len(table.missing), what)


figure = Command(
    "figure",
    "draw comparisons, attention and training curves",
    "Draw figures at a column's width, as PNG, PDF or SVG. Needs matplotlib: pip install 'rgt-arch[figures]'.",
    """examples:
  rgt figure compare baby.png RGT_T_x2 bicubic
  rgt figure curves experiments/train_RGT_T_x2
""",
)


def _figure_flags(output: str) -> list[Flag]:
    return [
        flag("-o --output FILE", f".png, .pdf or .svg (default: {output})", Path),
        _OVERWRITE,
        flag("--width CM", "of the figure (default: 8.5, a column)", float),
    ]


_DEVICE = flag("--device auto|cpu|cuda|mps", "where to compute (default: auto)")


def _numbers(example: str) -> Callable[[str], tuple[int, ...]]:
    """Return a converter for whole numbers in the form of `example`, such as X,Y."""

    def convert(text: str) -> tuple[int, ...]:
        parts = re.fullmatch(re.sub(r"\w", r"(\\d+)", re.escape(example)), text, re.ASCII)
        if not parts:
            raise argparse.ArgumentTypeError(f"{text!r} is not {example} in whole numbers")
        return tuple(map(int, parts.groups()))

    return convert


@command(
    "figure compare",
    "LR, bicubic, methods and HR with magnified boxes and PSNR/SSIM",
    "Draw an HR image and beside it a part of it, magnified, as LR, bicubic, methods and HR show it, with PSNR/SSIM.",
    f"""{_METHODS} LR, bicubic and HR are always there.
The result in a folder is named like HR, or with an ending: baby_x4.png, baby_mine.png.

PSNR and SSIM are BasicSR's, on Y of the whole image, border = scale; of grey images on Y of three equal channels.

examples:
  rgt figure compare datasets/benchmark/Set14/HR/barbara.png RGT_T_x4 RGT_x4 -o barbara.pdf
  rgt figure compare baby.png RGT_T_x2 mine=results/mine --box 200,120,60,40 --box 30,300,60,40
""",
    flag("hr HR", "the image; its LR is made as MATLAB's imresize makes it", Path),
    flag("methods METHOD", "what to compare, see below", nargs="+"),
    flag("--lr FILE", "LR of the image, in the place of a made one", Path),
    flag("--scale", "(default: that of the methods)", int, choices=(2, 3, 4, 8)),
    flag(
        "--box X,Y,W,H",
        "in HR pixels; repeatable (default: where methods differ most)",
        _numbers("X,Y,W,H"),
        action="append",
        dest="boxes",
    ),
    *_figure_flags("compare.png"),
    _DEVICE,
    flag("--tile N", "networks run in tiles of N LR pixels (default: auto, whole if the memory suffices)", int),
)
def compare(**given: Any) -> None:
    """Draw, and print what the figure shows."""
    from rgt_arch.evaluation.figures.compare import CompareSettings, make_comparison

    print(*make_comparison(CompareSettings(**given)), sep="\n")


@command(
    "figure features",
    "representative maps, attention of a query, HAI by depth",
    "Draw what a network does with an image: the attention of one position, the representative maps of RG-SA, and the "
    "values of HAI.",
    """Parts of the figure:
  attention   weights of one query: inside its two windows of L-SA, and over the representative map of RG-SA
  maps        the representative map of every RG-SA, by its norm over channels, each on a scale of its own
  hai         the adaptive weights of HAI, one for each channel, by depth

examples:
  rgt figure features photo.png -w RGT_x4 --query 96,40 --block 8.6
  rgt figure features --parts hai -w experiments/mine/models/net_g_latest.pth -o hai.pdf
""",
    flag("image IMAGE", "the network's input, an LR image", Path, nargs="?", default=None),
    flag("-w --weights WEIGHTS", "name or file (default: RGT_T_x4)"),
    flag("--parts", "what to draw (default: all)", nargs="+", choices=("attention", "maps", "hai")),
    flag("--query X,Y", "a pixel of IMAGE (default: its middle)", _numbers("X,Y")),
    flag("--block G.B", "group and block, from 1; drawn with its neighbour (default: the last RG-SA)", _numbers("G.B")),
    flag("--head N", "one head, from 1 (default: the mean over all)", int),
    *_figure_flags("features.png"),
    _DEVICE,
)
def features(image: Path | None, **given: Any) -> None:
    """Draw, and print what the figure shows."""
    from rgt_arch.evaluation.figures.features import FeatureSettings, make_features

    print(*make_features(FeatureSettings(image, **given)), sep="\n")


@command(
    "figure curves",
    "loss and PSNR of one or more trainings",
    "Draw losses and validation results from metrics.csv or TensorBoard files.",
    """RUN is experiments/NAME (its metrics.csv, which `logger: csv: true` writes),
tb_logger/NAME (its TensorBoard files), or one such file. LABEL=RUN gives it another name. Up to 7 runs.

examples:
  rgt figure curves experiments/train_RGT_T_x2
  rgt figure curves "with RG-SA"=experiments/a "without"=experiments/b --show loss psnr ssim -o curves.pdf
""",
    flag("runs RUN", "trainings, see below", nargs="+"),
    flag("--show NAME", "loss, psnr, ssim, lr, or another name in the file (default: loss psnr)", nargs="+"),
    flag("--smooth W", "of losses, as in TensorBoard: from 0 to below 1 (default: 0.9)", float),
    flag("--from N", "first iteration that is drawn (default: 0)", int, dest="start"),
    flag("--log", "losses on a logarithmic axis"),
    *_figure_flags("curves.png"),
)
def curves(**given: Any) -> None:
    """Draw, and print the last and best values."""
    from rgt_arch.evaluation.figures.curves import CurveSettings, make_curves

    print(*make_curves(CurveSettings(**given)), sep="\n")


@command(
    "complexity",
    "count parameters and multiply-adds, part by part",
    "Count the parameters and multiply-adds of the network in an option file, part by part, beside the paper's "
    "figures. Counting takes a second: nothing is computed. Time, memory and their growth with the resolution: "
    "benchmarks/scaling.py.",
    """examples:
  rgt complexity options/train_RGT_x4.yml                        the paper's 13.37 M and 251.07 G, part by part
  rgt complexity options/train_RGT_S_x4.yml --sizes 64x64 --json
""",
    flag("file OPTION_FILE", "an option file with an RGT"),
    flag("--sizes HxW", "height and width in input pixels (default: 128x128)", nargs="+"),
    flag("--json FILE", "JSON in place of the tables, or to FILE beside them", nargs="?", const="-"),
    _OVERWRITE,
)
def complexity(**given: Any) -> None:
    from rgt_arch.evaluation.complexity import run_complexity

    run_complexity(**given)


@command(
    "ablation",
    "train variants of the network with equal seeds and data, and compare them",
    "Train the variants of a list, each with several seeds, by `basicsr train`, and print the means of the last "
    "validations with their spread, differences to the first variant, parameters and multiply-adds.",
    """examples:
  rgt ablation options/ablation/cpu.yml
  rgt ablation options/ablation/cpu.yml --only "no CPE" --seeds 10 --force_yml train:total_iter=200 --keep quick
  rgt ablation options/ablation/cpu.yml --report --format csv -o ablation.csv

Run it again after an interruption: it resumes each training from its last checkpoint.
Exit codes: 0 all trained, 1 something is missing or failed, 2 wrong flags, options or files, 130 interrupted.
""",
    flag("file LIST", "a base option file and overrides, as in options/ablation", Path),
    flag("--only VARIANT", "these variants of the list, and the first (default: all)", nargs="+"),
    flag("--seeds N", "(default: those of the list)", int, nargs="+"),
    flag("--force_yml KEY=VALUE", "change options of all variants", nargs="+", dest="overrides"),
    flag("--report", "train nothing, print the results that exist"),
    flag("--format", "(default: markdown)", choices=("markdown", "latex", "csv", "json")),
    _OUTPUT,
    _OVERWRITE,
    flag("--keep DIR", "where trainings and their results are kept (default: experiments/ablation)", Path),
)
def ablation(format: str = "markdown", **given: Any) -> int:
    """Train and print; 1 if a training is missing."""
    from rgt_arch.evaluation.ablation import AblationSettings, run_ablation

    done = run_ablation(AblationSettings(**given))
    missing = sum(not run.scores for run in done.runs)
    what = f"rgt ablation: {missing} of {len(done.runs)} trainings"
    return _write(done.text(format), given.get("output"), missing, what)


COMMANDS = (demo, table, figure, compare, features, curves, complexity, ablation)
