"""Upscale pictures with the flags of Real-ESRGAN's inference_realesrgan.py:

    python realesrgan_style_scripts/inference_rgt.py -n RGT_T_x4 -i inputs -o results -s 4

`rgt upscale` does the same with more choices.
"""

import argparse
import sys
from pathlib import Path

from rgt_arch.cli import ending_in_order, run_guarded
from rgt_arch.errors import UsageError
from rgt_arch.inference.jobs import run_jobs
from rgt_arch.inference.planning import Output, plan_jobs
from rgt_arch.inference.upscaler import Upscaler


def run(args: argparse.Namespace) -> int:
    """Upscale `args.input`; 1 if a file failed."""
    if args.tile < 0 or args.tile_pad < 0:
        raise UsageError(f"--tile is {args.tile} and --tile_pad {args.tile_pad}; neither can be below 0")
    output = Output(args.output, args.suffix, args.ext, args.outscale)
    upscaler = Upscaler(
        args.model_name,
        # as in Real-ESRGAN, tile_pad is what a tile sees beyond its sides, so neighbours share twice as much, and that
        # is at most half a tile
        tile=max(args.tile + 2 * args.tile_pad, 4 * args.tile_pad) if args.tile else 0,
        overlap=2 * args.tile_pad if args.tile else None,
        precision="fp32" if args.fp32 else "auto",
        alpha={"realesrgan": "rgt"}.get(args.alpha_upsampler, args.alpha_upsampler),
    )
    outcome = run_jobs(plan_jobs([args.input], output, upscaler.scale), upscaler, output)
    print(outcome.line())
    return outcome.exit_code


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-i", "--input", default="inputs", help="picture, video or folder (default: %(default)s)")
    parser.add_argument("-o", "--output", default="results", help="folder (default: %(default)s)")
    parser.add_argument("-n", "--model_name", default="RGT_T_x4", help="name or file of weights (default: %(default)s)")
    parser.add_argument("-s", "--outscale", type=float, help="final scale (default: the weights')")
    parser.add_argument("-t", "--tile", type=int, default=0, help="tile size, 0: no tiles (default: %(default)s)")
    parser.add_argument("--tile_pad", type=int, default=16, help="what a tile sees around it (default: %(default)s)")
    parser.add_argument("--suffix", default="out", help="end of output names (default: %(default)s)")
    parser.add_argument("--ext", choices=("auto", "jpg", "png"), default="auto", help="format (default: the input's)")
    parser.add_argument("--fp32", action="store_true", help="float32 inside the network (default: auto)")
    parser.add_argument(
        "--alpha_upsampler", choices=("rgt", "realesrgan", "bicubic"), default="rgt", help="(default: %(default)s)"
    )
    with ending_in_order():
        sys.exit(run_guarded(lambda: run(parser.parse_args()), Path(__file__).name))
