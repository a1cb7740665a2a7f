"""Make bicubic LR images as MATLAB does, with `rgt prepare lr`.

python realesrgan_style_scripts/generate_bicubic_lr.py DF2K/HR --scale 2 4
"""

import sys

from rgt_arch.cli import main

if __name__ == "__main__":
    sys.exit(main(["prepare", "lr", *sys.argv[1:]]))
