"""Check images, pairs, LMDBs or the data of an option file, as `rgt prepare check` does.

python realesrgan_style_scripts/check_dataset.py datasets/DF2K/HR --lr datasets/DF2K/LR_bicubic/X2
python realesrgan_style_scripts/check_dataset.py options/train_RGT_x2.yml
"""

import sys

from rgt_arch.cli import main

if __name__ == "__main__":
    sys.exit(main(["prepare", "check", *sys.argv[1:]]))
