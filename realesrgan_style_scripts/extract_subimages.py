"""Cut photographs into sub-images, as `rgt prepare subimages` does; the script has BasicSR's name.

python realesrgan_style_scripts/extract_subimages.py DF2K/HR --lr DF2K/LR_bicubic/X2 -o DF2K_sub
"""

import sys

from rgt_arch.cli import main

if __name__ == "__main__":
    sys.exit(main(["prepare", "subimages", *sys.argv[1:]]))
