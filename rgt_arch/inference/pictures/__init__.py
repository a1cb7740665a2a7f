"""Picture files of every kind, read and written so that nothing is lost: depth, alpha, profile, EXIF, XMP."""

from rgt_arch.inference.pictures.picture import Picture
from rgt_arch.inference.pictures.reading import picture_pixels, read_picture
from rgt_arch.inference.pictures.writing import WRITABLE_SUFFIXES, check_writable, write_picture

# Of files that are taken for pictures where a folder is searched.
PICTURE_SUFFIXES = frozenset({*WRITABLE_SUFFIXES, ".gif", ".jp2", ".pnm", ".ppm", ".pgm", ".pbm"})

__all__ = [
    "PICTURE_SUFFIXES",
    "WRITABLE_SUFFIXES",
    "Picture",
    "check_writable",
    "picture_pixels",
    "read_picture",
    "write_picture",
]
