"""Read and write picture files without losing depth, alpha, colour profile, EXIF or XMP."""

from rgt_arch.inference.pictures.picture import Picture
from rgt_arch.inference.pictures.reading import is_lossy, picture_pixels, read_picture
from rgt_arch.inference.pictures.writing import WRITABLE_SUFFIXES, check_writable, write_picture

# Files with these suffixes are pictures when a folder is searched.
PICTURE_SUFFIXES = frozenset({*WRITABLE_SUFFIXES, ".gif", ".jp2", ".pnm", ".ppm", ".pgm", ".pbm"})

__all__ = [
    "PICTURE_SUFFIXES",
    "WRITABLE_SUFFIXES",
    "Picture",
    "check_writable",
    "is_lossy",
    "picture_pixels",
    "read_picture",
    "write_picture",
]
