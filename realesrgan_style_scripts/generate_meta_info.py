"""List images with the flags of Real-ESRGAN's script of this name, or with those of `rgt prepare meta`:

python realesrgan_style_scripts/generate_meta_info.py --input DF2K/HR DF2K/multiscale --root DF2K DF2K --meta_info a.txt
python realesrgan_style_scripts/generate_meta_info.py DF2K/HR_sub -o DF2K/meta_info.txt
"""

import argparse
import sys
import tempfile
from pathlib import Path

from rgt_arch.cli import main, run_guarded
from rgt_arch.errors import UsageError


def list_folders(args: argparse.Namespace) -> int:
    """Write one list of all folders, and print the counts of each; 1 if an image failed."""
    from rgt_arch.data.meta_info import write_meta_info
    from rgt_arch.data.outputs import refuse_overlap
    from rgt_arch.files import write_text
    from rgt_arch.machine import cores

    roots = args.root or [Path(folder, "..") for folder in args.input]
    if len(roots) != len(args.input):
        raise UsageError(f"--root names {len(roots)} folders and --input {len(args.input)}; name a root for each")
    refuse_overlap(args.input, [args.meta_info])
    text, failed = "", False
    for folder, root in zip(args.input, roots, strict=True):
        with tempfile.TemporaryDirectory() as place:
            part = Path(place, args.meta_info.name)
            summary = write_meta_info(folder, part, root=root, names_only=True, jobs=cores())
            text += part.read_text("utf-8")
        print(f"{folder}: {summary.text()}")
        failed |= bool(summary.failures)
    if args.meta_info.exists() and args.meta_info.read_bytes() != text.encode() and not args.overwrite:
        raise UsageError(f"{args.meta_info}: exists with other content; choose another --meta_info, or --overwrite it")
    args.meta_info.parent.mkdir(parents=True, exist_ok=True)
    write_text(text, args.meta_info)
    return int(failed)


if __name__ == "__main__":
    if not any(word.startswith("--input") for word in sys.argv):
        sys.exit(main(["prepare", "meta", *sys.argv[1:]]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", type=Path, nargs="+", help="folders of images")
    parser.add_argument("--root", type=Path, nargs="+", help="one for each folder (default: its parent)")
    parser.add_argument("--meta_info", type=Path, required=True, help="text file to write")
    parser.add_argument("--check", action="store_true", help="no effect: damaged images are always left out")
    parser.add_argument("--overwrite", action="store_true", help="replace a list with other content")
    args = parser.parse_args()
    sys.exit(run_guarded(lambda: list_folders(args), parser.prog))
