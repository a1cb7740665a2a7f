"""Upscale pictures and videos with the flags of Real-ESRGAN's inference_realesrgan.py and its variant for videos:

    python realesrgan_style_scripts/inference_rgt.py -n RGT_T_x4 -i inputs -o results -s 4

`rgt upscale` does the same with more choices.
"""

import argparse
import sys

from rgt_arch.cli import main

NO_EFFECT = {
    ("-dn", "--denoise_strength"): "RGT has no setting for noise",
    ("--pre_pad",): "RGT takes images of any size",
    ("--ffmpeg_bin",): "videos are read and written without the program ffmpeg",
    ("--extract_frame_first",): "videos are read frame by frame",
    ("--num_process_per_gpu",): "one process does all work",
}
REFUSED = {
    ("--face_enhance",): "RGT has no network for faces",
    ("--fps",): "the frames of a video keep their times",
}
SWITCHES = ("--extract_frame_first", "--face_enhance")


def translate(args: argparse.Namespace) -> list[str]:
    """Return the equivalent arguments of `rgt upscale`."""
    alpha = {"realesrgan": "rgt"}.get(args.alpha_upsampler, args.alpha_upsampler)
    flags = ["upscale", args.input, f"--output={args.output}/", f"--alpha={alpha}"]
    flags += [f"--weights={args.model_path or args.model_name}"]
    flags += [f"--suffix={args.suffix}", f"--ext={args.ext}", f"--precision={'fp32' if args.fp32 else 'auto'}"]
    flags += [f"--outscale={args.outscale}"] if args.outscale else []
    flags += [] if args.gpu_id is None else [f"--device=cuda:{args.gpu_id}"]
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
    parser.add_argument("--model_path", help="file of weights, in place of -n")
    parser.add_argument("-g", "--gpu-id", type=int, help="number of the CUDA device (default: the first, or the CPU)")
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
    for names, why in (NO_EFFECT | REFUSED).items():
        action = "store_true" if names[-1] in SWITCHES else "store"
        parser.add_argument(*names, action=action, help=f"{'refused' if names in REFUSED else 'no effect'}: {why}")
    args = parser.parse_args()
    for names, why in (NO_EFFECT | REFUSED).items():
        if value := getattr(args, names[-1].lstrip("-")):
            given = names[-1] if value is True else f"{names[-1]} {value}"
            if names in REFUSED:
                parser.exit(2, f"{parser.prog}: error: {given}: {why}; leave the flag out\n")
            print(f"{parser.prog}: {given} has no effect: {why}", file=sys.stderr)
    if min(args.tile, args.tile_pad) < 0:
        parser.error(f"--tile is {args.tile} and --tile_pad {args.tile_pad}; neither can be below 0")
    sys.exit(main(translate(args)))
