"""Upscale pictures with the flags of Real-ESRGAN's inference_realesrgan.py:

    python realesrgan_style_scripts/inference_rgt.py -n RGT_T_x4 -i inputs -o results -s 4

`rgt upscale` does the same with more choices.
"""

import argparse
import sys

from rgt_arch.cli import main


def translate(args: argparse.Namespace) -> list[str]:
    """Return the equivalent arguments of `rgt upscale`."""
    alpha = {"realesrgan": "rgt"}.get(args.alpha_upsampler, args.alpha_upsampler)
    flags = ["upscale", args.input, f"--output={args.output}/", f"--weights={args.model_name}", f"--alpha={alpha}"]
    flags += [f"--suffix={args.suffix}", f"--ext={args.ext}", f"--precision={'fp32' if args.fp32 else 'auto'}"]
    flags += [f"--outscale={args.outscale}"] if args.outscale else []
    if not args.tile:
        return [*flags, "--tile=0"]
    # As in Real-ESRGAN, a tile is padded by tile_pad on each side. Neighbours share 2 * tile_pad pixels, which is at
    # most half a tile in `rgt upscale`.
    return [*flags, f"--tile={max(args.tile + 2 * args.tile_pad, 4 * args.tile_pad)}", f"--overlap={2 * args.tile_pad}"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-i", "--input", default="inputs", help="picture, video or folder (default: %(default)s)")
    parser.add_argument("-o", "--output", default="results", help="folder (default: %(default)s)")
    parser.add_argument("-n", "--model_name", default="RGT_T_x4", help="name or file of weights (default: %(default)s)")
    parser.add_argument("-s", "--outscale", help="final scale (default: the weights')")
    parser.add_argument("-t", "--tile", type=int, default=0, help="tile size, 0: no tiles (default: %(default)s)")
    parser.add_argument(
        "--tile_pad", type=int, default=16, help="pixels of padding around a tile (default: %(default)s)"
    )
    parser.add_argument("--suffix", default="out", help="end of output names (default: %(default)s)")
    parser.add_argument("--ext", choices=("auto", "jpg", "png"), default="auto", help="format (default: the input's)")
    parser.add_argument("--fp32", action="store_true", help="float32 inside the network (default: auto)")
    parser.add_argument(
        "--alpha_upsampler", choices=("rgt", "realesrgan", "bicubic"), default="rgt", help="(default: %(default)s)"
    )
    args = parser.parse_args()
    if min(args.tile, args.tile_pad) < 0:
        parser.error(f"--tile is {args.tile} and --tile_pad {args.tile_pad}; neither can be below 0")
    sys.exit(main(translate(args)))
