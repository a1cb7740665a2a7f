"""Cut images into sub-images with the flags of Real-ESRGAN's script of this name, or of `rgt prepare subimages`:

python realesrgan_style_scripts/extract_subimages.py --input DF2K/HR --output DF2K/HR_sub --crop_size 400 --step 200
python realesrgan_style_scripts/extract_subimages.py DF2K/HR --lr DF2K/LR_bicubic/X2 -o DF2K_sub
"""

import argparse
import re
import sys
from pathlib import Path

from rgt_arch.cli import main, run_guarded
from rgt_arch.errors import UsageError


def extract(args: argparse.Namespace) -> int:
    """Cut, and print the counts; 1 if an image failed. As in Real-ESRGAN, x2 in DIV2K's LR names is left out."""
    from rgt_arch.data.outputs import Cutting, Target, images_by_name, make_all
    from rgt_arch.data.parallel import Summary, Task
    from rgt_arch.machine import cores

    target = Target(
        args.output, "{name}_s{number:03d}.png", args.input, 1,
        cutting=Cutting(args.crop_size, args.step, args.thresh_size),
    )  # fmt: skip
    summary, tasks = Summary(), {}
    for name, file in images_by_name(args.input, summary).items():
        task = Task((file,), name.with_name(re.sub("x[2348]$", "", name.name)))
        if (other := tasks.setdefault(task.name, task)) is not task:
            raise UsageError(f"{other.source} and {file} would have the same output name; move one of them away")
    jobs = args.n_thread or cores()
    make_all([*tasks.values()], [target], summary, "sub-images", jobs=jobs, overwrite=args.overwrite)
    print(summary.text())
    return int(bool(summary.failures))


if __name__ == "__main__":
    if not any(word.startswith("--input") for word in sys.argv):
        sys.exit(main(["prepare", "subimages", *sys.argv[1:]]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", type=Path, help="folder of images")
    parser.add_argument("--output", type=Path, required=True, help="folder for the sub-images")
    parser.add_argument("--crop_size", type=int, default=480, help="side in pixels (default: %(default)s)")
    parser.add_argument("--step", type=int, default=240, help="pixels between sub-images (default: %(default)s)")
    parser.add_argument("--thresh_size", type=int, default=0, help="leave out smaller rests (default: %(default)s)")
    parser.add_argument("--n_thread", type=int, help="worker processes (default: as many as CPU cores)")
    parser.add_argument("--compression_level", type=int, help="no effect: PNG has no loss at any level")
    parser.add_argument("--overwrite", action="store_true", help="make everything anew")
    args = parser.parse_args()
    sys.exit(run_guarded(lambda: extract(args), parser.prog))
