"""Pillow's many kinds of images as grey or RGB with or without alpha; inks and Lab become sRGB."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

_CONVERSIONS = {"1": "L", "La": "LA", "PA": "RGBA", "RGBa": "RGBA", "RGBX": "RGB", "YCbCr": "RGB", "HSV": "RGB"}
_KEPT = ("L", "LA", "RGB", "RGBA")


def pixels_of(image: Image.Image, icc: bytes | None) -> tuple[NDArray[np.uint8], bytes | None, list[str]]:
    """Pixels as in `Picture`, the ICC profile that belongs to them, and notices of what was lost.

    icc: the profile in the file. Raises ValueError for samples of more than 8 bits, and what Pillow raises for damage.
    """
    image.load()
    if image.mode in ("CMYK", "LAB"):
        return _to_srgb(image, icc)
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    elif image.mode in ("1", "L", "RGB") and "transparency" in image.info:
        image = image.convert("RGBA" if image.mode == "RGB" else "LA")
    image = image.convert(_CONVERSIONS.get(image.mode, image.mode))
    if image.mode not in _KEPT:
        raise ValueError(f"its samples are of a kind that is not read ({image.mode}); convert it to 8 or 16 bits")
    return np.array(image), icc, []


def _to_srgb(image: Image.Image, icc: bytes | None) -> tuple[NDArray[np.uint8], None, list[str]]:
    """Relative colorimetric with black point compensation, as editors convert; by rule of thumb without a profile."""
    srgb = ImageCms.createProfile("sRGB")
    try:
        if image.mode == "LAB":
            source: ImageCms.ImageCmsProfile | ImageCms.core.CmsProfile = ImageCms.createProfile("LAB")
        elif icc is not None:
            source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        else:
            return np.array(image.convert("RGB")), None, ["CMYK without a colour profile: its colours are a guess"]
        converted = ImageCms.profileToProfile(
            image,
            source,
            srgb,
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError) as error:
        guessed = f"its CMYK profile cannot be used ({error}): its colours are a guess"
        return np.array(image.convert("RGB")), None, [guessed]
    return np.array(converted), None, []
