"""Decoded frames as upright RGB arrays, and back to YUV with the same colours."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any, cast

import numpy as np
from av.sidedata.sidedata import SideData
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from numpy.typing import NDArray

from rgt_arch.errors import UserError

# Numbers of AVColorSpace (ITU-T H.273, table 4), in which streams are tagged.
_BT709, _BT601 = 1, 6
_RGB, _UNSPECIFIED, _RESERVED = 0, 2, 3
# To SWS_CS_ of swscale.h, in which PyAV wants them; 17 has no name for BT.2020.
_MATRICES = {_BT709: 1, 4: 4, 5: 5, _BT601: 5, 7: 7, 9: 9}
# SWS_FULL_CHR_H_INT, SWS_FULL_CHR_H_INP and SWS_ACCURATE_RND of swscale.h: PyAV 17 has no names for them.
_SCALING = int(Interpolation.BICUBIC) | 0x2000 | 0x4000 | 0x40000


def colour_matrix(frame: VideoFrame) -> int:
    """The number of the YUV matrix of a frame, in H.273's counting.

    Frames that do not say are taken as players do: BT.709 from HD up, else BT.601. The output has to say it, for being
    larger it would be taken for something else. RGB frames get BT.709.
    Raises UserError for the few that cannot be converted to RGB by a matrix, such as YCgCo and ICtCp.
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
    """Whether YUV values go from 0 to 255 (of 8 bits), not from 16 to 235."""
    if frame.color_range != ColorRange.UNSPECIFIED:
        return frame.color_range == ColorRange.JPEG
    return frame.format.name.startswith("yuvj")


def bit_depth(frame: VideoFrame) -> int:
    """Bits per channel, 8 for palettes."""
    return 8 if frame.format.has_palette else max(component.bits for component in frame.format.components)


def has_alpha(frame: VideoFrame) -> bool:
    """Whether its pixels can be transparent."""
    return any(component.is_alpha for component in frame.format.components)


class Converter:
    """Between the frames of one video and RGB arrays.

    It keeps swscale's state from frame to frame: by `VideoFrame.reformat` each would hold megabytes of its own.
    """

    def __init__(self) -> None:
        self._to_rgb = VideoReformatter()
        self._to_yuv = VideoReformatter(), VideoReformatter()

    def to_upright_rgb(self, frame: VideoFrame) -> NDArray[Any]:
        """(H, W, 3) uint8, or uint16 if the frame has more than 8 bits; turned and mirrored as players show it."""
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
        """(H, W, 3) uint8 or uint16 to a YUV frame of `size` (width, height), resized where it is not already."""
        frame = VideoFrame.from_ndarray(rgb, format="rgb48le" if rgb.dtype == np.uint16 else "rgb24")
        frame.colorspace = matrix  # for PyAV 17, which knows BT.2020 by the frame alone
        # swscale rounds full-range chroma of 8 bits down, by half a level on average: 12 bits are in between
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
    """Whether width and height change places; angles other than quarter turns are taken for the nearest of them."""
    a, b, _, _ = _display_matrix(frame)
    return abs(b) > abs(a)


def _display_matrix(frame: VideoFrame) -> tuple[float, float, float, float]:
    """(a, b, c, d), by which a point (p, q) is shown at (ap + cq, bp + dq)."""
    with suppress(ValueError):  # side data that this PyAV has no name for (before 19) hides all of it
        if matrix := frame.side_data.get("DISPLAYMATRIX"):
            a, b, _, c, d = np.frombuffer(bytes(cast(SideData, matrix)), np.int32)[:5].tolist()
            return a, b, c, d
    angle = math.radians(frame.rotation)
    return math.cos(angle), -math.sin(angle), math.sin(angle), math.cos(angle)
