"""List pairs of images with the flags of Real-ESRGAN's script of this name, as `rgt prepare meta --lr` does:

python realesrgan_style_scripts/generate_meta_info_pairdata.py --input DF2K/HR_sub DF2K/LR_sub --meta_info pairs.txt
"""

import argparse
import sys

from rgt_arch.cli import main

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", nargs=2, required=True, metavar=("GT", "LQ"), help="folders of images")
    parser.add_argument("--root", nargs=2, metavar=("GT", "LQ"), help="dataroot_gt and dataroot_lq (default: parents)")
    parser.add_argument("--meta_info", required=True, help="text file to write")
    parser.add_argument("--overwrite", action="store_true", help="replace a list with other content")
    args = parser.parse_args()
    gt, lq = args.input
    roots = ["--root", args.root[0], "--lr-root", args.root[1]] if args.root else []
    flags = [*roots, *(["--overwrite"] if args.overwrite else [])]
    sys.exit(main(["prepare", "meta", gt, "--lr", lq, "-o", args.meta_info, *flags]))
