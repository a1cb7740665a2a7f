"""Pack a folder of images into an LMDB, as `rgt prepare lmdb` does; the script has BasicSR's name.

python realesrgan_style_scripts/create_lmdb.py DF2K/HR
python realesrgan_style_scripts/create_lmdb.py DF2K/LR_bicubic/X2 --ending x2
"""

import sys

from rgt_arch.cli import main

if __name__ == "__main__":
    sys.exit(main(["prepare", "lmdb", *sys.argv[1:]]))
