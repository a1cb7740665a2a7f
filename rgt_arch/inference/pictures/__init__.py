"""Read and write picture files without losing depth, alpha, colour profile, EXIF or XMP."""
