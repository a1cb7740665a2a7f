"""Convert decoded frames to upright RGB arrays, and RGB back to YUV with the same colours."""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import suppress
from fractions import Fraction
from typing import Any, cast

import numpy as np
from av.sidedata.sidedata import SideData
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from numpy.typing import NDArray

from rgt_arch.errors import UserError

# Numbers of AVColorSpace (ITU-T H.273, table 4), as in the tags of streams.
_BT709, _BT601 = 1, 6
_RGB, _UNSPECIFIED, _RESERVED = 0, 2, 3
# AVColorSpace to SWS_CS_ of swscale.h, which PyAV expects; PyAV 17 has no name for BT.2020.
_MATRICES = {_BT709: 1, 4: 4, 5: 5, _BT601: 5, 7: 7, 9: 9}
# SWS_FULL_CHR_H_INT, SWS_FULL_CHR_H_INP and SWS_ACCURATE_RND of swscale.h: PyAV 17 has no names for them.
_SCALING = int(Interpolation.BICUBIC) | 0x2000 | 0x4000 | 0x40000
# Side data that is applied to the pixels, or that only decoders and encoders need.
_TECHNICAL = {"DISPLAYMATRIX", "PANSCAN", "SEI_UNREGISTERED", "GOP_TIMECODE", "MOTION_VECTORS", "VIDEO_ENC_PARAMS"}
_TECHNICAL |= {"SKIP_SAMPLES", "VIDEO_HINT", "REGIONS_OF_INTEREST", "DETECTION_BBOXES", "FILM_GRAIN_PARAMS"}
_PLAIN_NAMES = {"A53_CC": "closed captions", "SPHERICAL": "marks of a 360° video", "STEREO3D": "marks of a 3D video"}
_PLAIN_NAMES |= {"DOVI_RPU_BUFFER": "Dolby Vision data", "DOVI_METADATA": "Dolby Vision data"}


def colour_matrix(frame: VideoFrame) -> int:
    """Return the H.273 number of a frame's YUV matrix.

    Untagged frames are read as players read them: BT.709 from HD up, else BT.601. The output must be tagged, because
    players would judge its larger size differently. RGB frames get BT.709.
    Raises UserError for colours that are not supported, such as YCgCo and ICtCp.
    """
    number = frame.colorspace
    if frame.format.is_rgb or number == _RGB:
        return _BT709
    if number in (_UNSPECIFIED, _RESERVED):
        return _BT709 if frame.width >= 1280 or frame.height > 576 else _BT601
    if number not in _MATRICES:
        raise UserError(f"its colours are coded by matrix {number} of H.273, which is not supported; use BT.709 first")
    return number


def full_range(frame: VideoFrame) -> bool:
    """Check whether YUV values span 0 to 255 (in 8 bits), not 16 to 235."""
    if frame.color_range != ColorRange.UNSPECIFIED:
        return frame.color_range == ColorRange.JPEG
    return frame.format.name.startswith("yuvj")


def bit_depth(frame: VideoFrame) -> int:
    """Return the bits per channel; 8 for palettes."""
    return 8 if frame.format.has_palette else max(component.bits for component in frame.format.components)


def extras(frame: VideoFrame) -> set[str]:
    """Return the names of what a frame carries besides its colours: transparency, and side data such as captions."""
    alpha = (
        {"transparency (alpha channel)"} if any(component.is_alpha for component in frame.format.components) else set()
    )
    try:
        kinds = {item.type.name for item in cast(Iterable[SideData], frame.side_data)} - _TECHNICAL
    except ValueError:  # before PyAV 19, side data without a name in PyAV hides all side data
        return alpha | {"side data of a kind that PyAV does not know"}
    return alpha | {_PLAIN_NAMES.get(kind, kind.lower().replace("_", " ")) for kind in kinds}


class Converter:
    """Converts between the frames of one video and RGB arrays.

    It reuses swscale's state; with `VideoFrame.reformat` each frame would hold megabytes of state of its own.
    """

    def __init__(self) -> None:
        self._to_rgb = VideoReformatter()
        self._to_yuv = VideoReformatter(), VideoReformatter()

    def to_upright_rgb(self, frame: VideoFrame) -> NDArray[Any]:
        """Return (H, W, 3) uint8, or uint16 for more than 8 bits; turned and mirrored as players show it."""
        matrix = _MATRICES[colour_matrix(frame)]
        rgb = self._to_rgb.reformat(
            frame,
            format="rgb48le" if bit_depth(frame) > 8 else "rgb24",
            src_colorspace=matrix,
            dst_colorspace=matrix,
            src_color_range=ColorRange.JPEG if frame.format.is_rgb or full_range(frame) else ColorRange.MPEG,
            dst_color_range=ColorRange.JPEG,
            interpolation=_SCALING,
        ).to_ndarray()
        a, b, c, d = _display_matrix(frame)
        if is_turned(frame):
            rgb, a, d = rgb.swapaxes(0, 1), c, b
        return np.ascontiguousarray(rgb[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])

    def from_rgb(
        self, rgb: NDArray[Any], size: tuple[int, int], pixel_format: str, matrix: int, *, full: bool
    ) -> VideoFrame:
        """Convert (H, W, 3) uint8 or uint16 to a YUV frame of `size` (width, height); other sizes are resized."""
        frame = VideoFrame.from_ndarray(rgb, format="rgb48le" if rgb.dtype == np.uint16 else "rgb24")
        frame.colorspace = matrix  # PyAV 17 reads BT.2020 only from the frame
        # swscale rounds 8-bit full-range chroma down, by half a level on average; a step of 12 bits avoids that
        steps = ["yuv444p12le", pixel_format] if full and rgb.dtype == np.uint8 else [pixel_format]
        for step, reformatter in zip(steps, self._to_yuv, strict=False):
            frame = reformatter.reformat(
                frame,
                *size,
                format=step,
                src_colorspace=_MATRICES[matrix],
                dst_colorspace=_MATRICES[matrix],
                src_color_range=ColorRange.JPEG,
                dst_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
                interpolation=_SCALING,
            )
        return frame


def is_turned(frame: VideoFrame) -> bool:
    """Check whether width and height swap; other angles count as the nearest quarter turn."""
    a, b, _, _ = _display_matrix(frame)
    return abs(b) > abs(a)


def upright_size(frame: VideoFrame) -> tuple[int, int]:
    """Return the (height, width) of `to_upright_rgb`."""
    return (frame.width, frame.height) if is_turned(frame) else (frame.height, frame.width)


def upright_aspect(frame: VideoFrame, aspect: Fraction) -> Fraction:
    """Return the shape of a pixel of `to_upright_rgb`. aspect: of the stored frame, width over height."""
    return 1 / aspect if is_turned(frame) else aspect


def _display_matrix(frame: VideoFrame) -> tuple[float, float, float, float]:
    """(a, b, c, d), by which a point (p, q) is shown at (ap + cq, bp + dq)."""
    with suppress(ValueError):  # before PyAV 19, side data without a name in PyAV hides all side data
        if matrix := frame.side_data.get("DISPLAYMATRIX"):
            a, b, _, c, d = np.frombuffer(bytes(cast(SideData, matrix)), np.int32)[:5].tolist()
            return a, b, c, d
    angle = math.radians(frame.rotation)
    return math.cos(angle), -math.sin(angle), math.sin(angle), math.cos(angle)
