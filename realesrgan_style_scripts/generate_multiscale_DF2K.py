"""Make smaller HR images with the flags of Real-ESRGAN's script of this name:

python realesrgan_style_scripts/generate_multiscale_DF2K.py --input DF2K/HR --output DF2K/multiscale

nameT0.png, T1 and T2 have 0.75, 0.5 and 1/3 of the size, T3 has a shortest side of 400 pixels. Existing files are kept.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rgt_arch.cli import run_guarded

if TYPE_CHECKING:
    from rgt_arch.data.parallel import Task


def shrink(task: "Task[Path]") -> int:
    """Return the number of files made; their paths begin with the name of the task."""
    from PIL import Image, ImageOps

    from rgt_arch.files import written_whole

    targets = [task.name.with_name(f"{task.name.name}T{number}.png") for number in range(4)]
    missing = [target for target in targets if not target.exists()]
    if missing:
        with Image.open(task.source) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
        for target, factor in zip(targets, (0.75, 0.5, 1 / 3, 400 / min(upright.size)), strict=True):
            if target in missing:
                size = [max(1, int(round(side * factor, 6))) for side in upright.size]
                task.name.parent.mkdir(parents=True, exist_ok=True)
                with written_whole(target) as beside:
                    upright.resize(size, Image.Resampling.LANCZOS).save(beside)
    return len(missing)


def make(args: argparse.Namespace) -> int:
    """Make the images, and print the counts; 1 if one failed."""
    from rgt_arch.data.outputs import images_by_name, refuse_overlap
    from rgt_arch.data.parallel import Summary, Task, successes
    from rgt_arch.machine import cores

    refuse_overlap([args.input], [args.output])
    summary = Summary()
    tasks = [Task((file,), args.output / name) for name, file in images_by_name(args.input, summary).items()]
    jobs = args.num_threads or cores()
    for _, made in successes(shrink, tasks, summary, jobs=jobs, title="smaller images"):
        summary.made, summary.kept = summary.made + bool(made), summary.kept + (not made)
    print(summary.text())
    return int(bool(summary.failures))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", type=Path, required=True, help="folder of HR images")
    parser.add_argument("--output", type=Path, required=True, help="folder for the smaller images")
    parser.add_argument("--num_threads", type=int, help="worker processes (default: as many as CPU cores)")
    args = parser.parse_args()
    sys.exit(run_guarded(lambda: make(args), parser.prog))
