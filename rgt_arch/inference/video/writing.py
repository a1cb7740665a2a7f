"""The output video: an encoder for the pictures, and copies of every other stream that the container can hold."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.container import Flags, InputContainer, OutputContainer
from av.error import ArgumentError, FFmpegError, InvalidDataError
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from rgt_arch.errors import UsageError, UserError
from rgt_arch.inference.video.frames import Converter, bit_depth, colour_matrix, full_range, upright_aspect
from rgt_arch.inference.video.reading import Survey, is_cover, open_video, tags

_FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".qt": "mov", ".mkv": "matroska", ".webm": "webm"}
_FORMATS |= {".flv": "flv", ".f4v": "f4v", ".3gp": "3gp", ".3g2": "3g2"}
_FORMATS |= dict.fromkeys((".ts", ".m2ts", ".mts"), "mpegts")
TARGET_SUFFIXES = tuple(_FORMATS)
_MOV_FAMILY = ("mp4", "mov", "f4v", "3gp", "3g2")
WRITTEN_KINDS = {"mov,mp4,m4a,3gp,3g2,mj2": ".mp4", "matroska,webm": ".mkv", "flv": ".flv", "mpegts": ".ts"}
"""Suffixes by FFmpeg's names of what was read; all others become .mkv, which holds nearly every codec."""
# With these values of `crf` no loss is visible.
_OPTIONS = {
    # 20 frames ahead instead of 40: no visible difference, and an 8K frame takes 50 MB
    "libx264": {"crf": "17", "preset": "medium", "rc-lookahead": "20"},
    "libvpx-vp9": {"crf": "24", "deadline": "good", "cpu-used": "4", "row-mt": "1"},
    "libsvtav1": {"crf": "24", "preset": "8"},
}


def target_suffix(source: Path) -> str:
    """Return the suffix of a result: the source's if it can be written, else that of the kind of its content."""
    if source.suffix.lower() in TARGET_SUFFIXES:
        return source.suffix
    try:
        with open_video(source) as (container, _):
            return WRITTEN_KINDS.get(container.format.name, ".mkv")
    except UsageError:
        return ".mkv"


def open_output(path: Path, source: InputContainer, video: VideoStream) -> OutputContainer:
    """Open a file in the container of its suffix, in the time base of `video`. Raises UsageError for other suffixes."""
    container = _FORMATS.get(path.suffix.lower())
    if container is None:
        raise UsageError(f"{path}: videos are written as {', '.join(TARGET_SUFFIXES)}")
    options = {}
    if container in _MOV_FAMILY:
        # so that time is kept in the units of the video, not in multiples of them
        options["video_track_timescale"] = str(Fraction(video.time_base or 1).denominator)
        if any("." in key for key in source.metadata):  # com.apple.quicktime.make: only the keys of QuickTime hold it
            options["movflags"] = "use_metadata_tags"
    elif container == "mpegts":
        options = {"mpegts_copyts": "1", "mpegts_m2ts_mode": str(int(path.suffix.lower() != ".ts"))}
    output = av.open(f"file:{path.absolute()}", "w", format=container, container_options=options)
    output.flags |= cast(int, Flags.bitexact.value)  # the same bytes from the same frames: no random ids, no dates
    return output


class VideoWriter:
    """Writes one video: pictures by `write`, packets of the source's other streams by `copy`; `finish` ends it."""

    def __init__(
        self,
        output: OutputContainer,
        source: InputContainer,
        video: VideoStream,
        survey: Survey,
        size: tuple[int, int],
        crf: int | None,
        tell: Callable[[str], None],
    ) -> None:
        """survey: of `source`. size: (height, width) of the largest picture. tell: called with a line for each loss.

        Raises UserError if the encoder refuses the pictures.
        """
        first = survey.largest
        self._output = output
        self._converter = Converter()
        self._matrix, self._full_range = colour_matrix(first), full_range(first)
        bits = bit_depth(first)
        self._pixel_format = "yuv420p10le" if bits > 8 else "yuv420p"
        if bits > 10:
            tell(f"its {bits} bits per channel become 10")
        self._copies: dict[int, Stream] = {}
        self._durations: dict[int, int] = {}
        self.refused = 0
        """Number of packets that the container refused because of impossible timestamps."""
        self.fitted = 0
        """Number of pictures with another size or shape of pixels than the largest."""
        self._main = size, upright_aspect(first, survey.aspect)
        aspect = self._choose_size(*self._main, tell)
        encoder = "libx264" if output.format.name != "webm" else "libsvtav1" if bits > 8 else "libvpx-vp9"
        try:
            for stream in source.streams:
                if stream is video:
                    self._add_video(video, first, encoder, aspect, crf)
                elif is_cover(stream) and output.format.name == "matroska":
                    kind = {"mjpeg": "jpeg"}.get(stream.codec_context.name, stream.codec_context.name)
                    name = stream.metadata.get("filename", f"cover.{kind}")
                    mime = stream.metadata.get("mimetype", f"image/{kind}")
                    output.add_attachment(name, mime, survey.covers.get(stream.index, b""))
                elif self._holds(stream):
                    self._copies[stream.index] = _described_as(output.add_stream_from_template(stream), stream)
            output.metadata.update(tags(source.metadata))
            output.set_chapters(source.chapters())
            output.start_encoding()
        except (FFmpegError, ValueError) as error:
            if isinstance(error, OSError):
                raise
            raise UserError(
                f"this PyAV's {encoder} cannot write {self.size[0]}x{self.size[1]} pixels "
                f"({getattr(error, 'strerror', error)}); try a smaller --outscale, or `pip install --only-binary av av`"
            ) from error

    def _choose_size(self, size: tuple[int, int], aspect: Fraction, tell: Callable[[str], None]) -> Fraction:
        """Set the (width, height) of the result; returns the pixel aspect ratio, width over height."""
        height, width = size
        if aspect != 1 and self._output.format.name == "webm":  # its muxer cannot store other shapes
            width, height = (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))
            tell(f"its pixels of shape {aspect} become square, as in webm they have to")
            aspect = Fraction(1)
        self.size = max(2, width // 2 * 2), max(2, height // 2 * 2)
        if self.size != (width, height):
            tell(f"{width}x{height} became {self.size[0]}x{self.size[1]}: video has even sizes")
        return aspect

    def _add_video(
        self, video: VideoStream, first: VideoFrame, encoder: str, aspect: Fraction, crf: int | None
    ) -> None:
        os.environ.setdefault("SVT_LOG", "1")  # errors only: libsvtav1 would print its settings to stderr
        self._video = cast(
            VideoStream,
            self._output.add_stream(
                encoder,
                rate=video.average_rate or video.guessed_rate or 25,
                options=_OPTIONS[encoder] if crf is None else {**_OPTIONS[encoder], "crf": str(crf)},
                time_base=video.time_base,
            ),
        )
        context = self._video.codec_context
        context.width, context.height = self.size
        context.pix_fmt = self._pixel_format
        context.sample_aspect_ratio = aspect
        context.colorspace, context.color_primaries = self._matrix, first.color_primaries
        context.color_trc, context.color_range = first.color_trc, 2 if self._full_range else 1
        _described_as(self._video, video)

    def _holds(self, stream: Stream) -> bool:
        """Whether the container takes a copy; tested by writing a header with only this stream into memory."""
        container = self._output.format.name
        if stream.type == "attachment":
            return container == "matroska"
        if stream.type not in ("audio", "subtitle") and not is_cover(stream):
            return False
        try:
            with av.open(io.BytesIO(), "w", format=container) as trial:
                trial.add_stream_from_template(stream)
                trial.start_encoding()
        except (FFmpegError, ValueError):
            return False
        return True

    def write(self, picture: NDArray[Any], aspect: Fraction, pts: int, duration: int) -> None:
        """Add a picture, (H, W, 3) uint8 or uint16; one of another shape than the largest gets black bars.

        aspect: width over height of a pixel. pts, duration: in the source's time base; pts must grow.
        """
        height, width = picture.shape[:2]
        # cut off one surplus row or column: resizing would blur the whole picture
        if ((height, width), aspect) != self._main:
            picture = self._with_bars(picture, aspect)
            self.fitted += 1
        elif 0 <= width - self.size[0] <= 1 and 0 <= height - self.size[1] <= 1:
            picture = np.ascontiguousarray(picture[: self.size[1], : self.size[0]])
        frame = self._converter.from_rgb(picture, self.size, self._pixel_format, self._matrix, full=self._full_range)
        frame.pts, frame.time_base = pts, self._video.codec_context.time_base
        self._durations[pts] = duration
        self._mux(self._video.encode(frame))

    def _with_bars(self, picture: NDArray[Any], aspect: Fraction) -> NDArray[Any]:
        (full_height, full_width), full_aspect = self._main
        height, width = picture.shape[:2]
        shape = full_width * full_aspect / (full_height * aspect)  # of the result, in pixels of this picture
        missing = max(0, round(width / shape) - height), max(0, round(height * shape) - width), 0
        return np.pad(picture, [(side // 2, side - side // 2) for side in missing])

    def copy(self, packet: Packet) -> None:
        """Add a packet of the source as it is, unless its stream is left out."""
        if packet.stream.index not in self._copies:
            return
        packet.stream = self._copies[packet.stream.index]
        try:
            self._output.mux(packet)
        except (ArgumentError, InvalidDataError):
            self.refused += 1

    def finish(self) -> None:
        """Write the frames that the encoder still holds. The caller closes the output."""
        self._mux(self._video.encode(None))

    def _mux(self, packets: list[Packet]) -> None:
        for packet in packets:
            packet.duration = self._durations.pop(packet.pts or 0, 0)
            self._output.mux(packet)


def _described_as(stream: Any, template: Stream) -> Any:
    """Give `stream` the tags and the disposition of `template`, and return it."""
    stream.metadata.update(tags(template.metadata))
    stream.disposition = cast(Disposition, template.disposition.value)
    return stream
