"""List images or pairs of images, as `rgt prepare meta` does; the script has BasicSR's and Real-ESRGAN's name.

python realesrgan_style_scripts/generate_meta_info.py DF2K/HR_sub -o DF2K/meta_info.txt
python realesrgan_style_scripts/generate_meta_info.py DF2K/HR_sub --lr DF2K/LR_sub -o DF2K/meta_info_pair.txt
"""

import sys

from rgt_arch.cli import main

if __name__ == "__main__":
    sys.exit(main(["prepare", "meta", *sys.argv[1:]]))
