"""The output video: an encoder for the frames, and copies of every other stream the container can hold."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import cast

import av
from av.container import Flags, InputContainer
from av.error import ArgumentError, FFmpegError, InvalidDataError
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from rgt_arch.errors import UsageError, UserError

_FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
TARGET_SUFFIXES = tuple(_FORMATS)
_QUALITY = {"libx264": 17, "libvpx-vp9": 24, "libsvtav1": 24}  # `crf`, at which no loss is seen
_OPTIONS = {
    # 20 frames ahead in place of 40: the difference cannot be seen, but frames of 8K take 50 MB each
    "libx264": {"preset": "medium", "rc-lookahead": "20"},
    "libvpx-vp9": {"deadline": "good", "cpu-used": "4", "row-mt": "1"},
    "libsvtav1": {"preset": "8"},
}
# Written by the muxers themselves, or true of the source's bytes only.
_OWN_TAGS = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration", "rotate", "software", "bps"}
_OWN_TAGS |= {"number_of_frames", "number_of_bytes", "vendor_id"}


def target_suffix(suffix: str) -> str:
    """The suffix for the result of a video with this one: the same, but .mkv for those that are only read (.avi)."""
    return suffix if suffix.lower() in TARGET_SUFFIXES else ".mkv"


def container_format(target: Path) -> str:
    """FFmpeg's name of the container by the suffix. Raises UsageError for suffixes that are not of a video."""
    try:
        return _FORMATS[target.suffix.lower()]
    except KeyError:
        raise UsageError(f"{target}: videos are written as {', '.join(TARGET_SUFFIXES)}") from None


@dataclass(frozen=True)
class Encoding:
    """How frames are coded. crf: constant quality in the encoder's own numbers, smaller is better.

    The numbers of matrix, primaries and transfer are those of ITU-T H.273.
    """

    encoder: str
    pixel_format: str
    size: tuple[int, int]
    time_base: Fraction
    rate: Fraction
    aspect: Fraction
    """Width to height of a pixel."""
    matrix: int
    primaries: int
    transfer: int
    full_range: bool
    crf: int | None


def choose_encoder(container: str, bits: int) -> tuple[str, str]:
    """The encoder for a container and its pixel format: 10 bits for more than 8 if one offers it, 4:2:0 always.

    Raises UserError if this build of PyAV has none.
    """
    encoders = ("libvpx-vp9", "libsvtav1") if container == "webm" else ("libx264",)
    for pixel_format in ("yuv420p10le", "yuv420p") if bits > 8 else ("yuv420p",):
        for encoder in encoders:
            if pixel_format in _pixel_formats(encoder):
                return encoder, pixel_format
    raise UserError(
        f"this build of PyAV cannot write {container}: it lacks {' and '.join(encoders)}; the one of "
        "`pip install --only-binary av av` has them"
    )


def _pixel_formats(encoder: str) -> set[str]:
    try:
        formats = av.Codec(encoder, "w").video_formats
    except ValueError:  # av.codec.codec.UnknownCodecError
        return set()
    return {pixel_format.name for pixel_format in formats or ()}


class VideoWriter:
    """Writes one video: frames by `write`, packets of the source's other streams by `copy`; a context manager.

    Leaving it finishes the file. Streams keep their order. Raises UserError if the encoder refuses the frames.
    """

    def __init__(
        self, path: Path, source: InputContainer, video: VideoStream, encoding: Encoding, notify: Callable[[str], None]
    ) -> None:
        """path: where to write, with one of TARGET_SUFFIXES. notify: is told what could not be kept."""
        self._container_format = container_format(path)
        # mp4 keeps time in the units of the video then, in place of multiples of them
        options = {"video_track_timescale": str(encoding.time_base.denominator)}
        self._output = av.open(
            f"file:{path.absolute()}",
            "w",
            format=self._container_format,
            container_options=options if self._container_format in ("mp4", "mov") else {},
        )
        self._output.flags |= cast(
            int, Flags.bitexact.value
        )  # the same bytes from the same frames: no random ids, no dates
        self._copies: dict[int, Stream] = {}
        self._durations: dict[int, int] = {}
        self.refused = 0
        """Packets that the container refused, for their timestamps make no sense."""
        try:
            left_out = self._add_streams(source, video, encoding)
            if left_out:
                notify(f"{path.suffix[1:]} cannot hold all of its streams; left out: {', '.join(left_out)}")
            self._output.metadata.update(_tags(source.metadata))
            self._output.set_chapters(source.chapters())
            self._start(encoding)
        except BaseException:
            self._abandon()
            raise

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._abandon()
            return
        try:
            self._mux_video(self._video.encode(None))
            self._output.close()
        except BaseException:
            self._abandon()
            raise

    def write(self, frame: VideoFrame, pts: int, duration: int) -> None:
        """Add a frame. pts, duration: in the encoding's time base; pts must grow."""
        frame.pts, frame.time_base = pts, self._video.codec_context.time_base
        self._durations[pts] = duration
        self._mux_video(self._video.encode(frame))

    def copy(self, packet: Packet) -> None:
        """Add a packet of the source as it is, unless its stream is left out."""
        stream = self._copies.get(packet.stream.index)
        if stream is None:
            return
        packet.stream = stream
        try:
            self._output.mux(packet)
        except (ArgumentError, InvalidDataError):
            self.refused += 1

    def _abandon(self) -> None:
        """Close the file, of which nothing is kept; what that fails with is not to hide why, Ctrl-C for instance."""
        with suppress(FFmpegError):
            self._output.close()

    def _start(self, encoding: Encoding) -> None:
        try:
            self._output.start_encoding()
        except (FFmpegError, ValueError) as error:
            if isinstance(error, OSError):
                raise
            width, height = encoding.size
            raise UserError(
                f"{encoding.encoder} cannot write {width}x{height} pixels ({getattr(error, 'strerror', error)}); try a "
                "smaller --outscale"
            ) from error

    def _add_streams(self, source: InputContainer, video: VideoStream, encoding: Encoding) -> list[str]:
        """All streams of the source in their order; returns those that the container cannot hold, described."""
        left_out = []
        for stream in source.streams:
            if stream is video:
                self._video = self._add_video(video, encoding)
            elif self._holds(stream):
                self._copies[stream.index] = self._add_copy(stream)
            elif not (stream.type == "data" and source.chapters()):  # mp4 keeps chapters in such a stream too
                left_out.append(_describe(stream))
        return left_out

    def _mux_video(self, packets: list[Packet]) -> None:
        for packet in packets:
            packet.duration = self._durations.pop(packet.pts or 0, 0)
            self._output.mux(packet)

    def _add_video(self, video: VideoStream, encoding: Encoding) -> VideoStream:
        if encoding.encoder == "libsvtav1":
            os.environ.setdefault("SVT_LOG", "1")  # errors only; it would print its settings to stderr
        quality = _QUALITY[encoding.encoder] if encoding.crf is None else encoding.crf
        stream = self._output.add_stream(
            encoding.encoder,
            rate=encoding.rate,
            options={**_OPTIONS[encoding.encoder], "crf": str(quality)},
            time_base=encoding.time_base,
        )
        assert isinstance(stream, VideoStream)
        context = stream.codec_context
        context.width, context.height = encoding.size
        context.pix_fmt = encoding.pixel_format
        context.sample_aspect_ratio = encoding.aspect
        context.colorspace, context.color_primaries = encoding.matrix, encoding.primaries
        context.color_trc, context.color_range = encoding.transfer, 2 if encoding.full_range else 1
        stream.metadata.update(_tags(video.metadata))
        stream.disposition = cast(Disposition, video.disposition.value)
        return stream

    def _add_copy(self, template: Stream) -> Stream:
        stream = self._output.add_stream_from_template(template)
        stream.metadata.update(_tags(template.metadata))
        stream.disposition = cast(Disposition, template.disposition.value)
        return stream

    def _holds(self, stream: Stream) -> bool:
        """Whether the container takes a copy: a header with this stream alone is written into memory."""
        if stream.type not in ("audio", "subtitle", "attachment"):
            return False
        if self._container_format == "matroska" and stream.type == "attachment":
            return True
        try:
            with av.open(io.BytesIO(), "w", format=self._container_format) as trial:
                trial.add_stream_from_template(stream).metadata.update(_tags(stream.metadata))
                trial.start_encoding()
        except (FFmpegError, ValueError):
            return False
        return True


def _tags(metadata: dict[str, str]) -> dict[str, str]:
    return {
        key: value
        for key, value in metadata.items()
        if key.lower() not in _OWN_TAGS and not key.lower().startswith("_statistics")
    }


def _describe(stream: Stream) -> str:
    if stream.disposition & Disposition.attached_pic:
        return "the cover picture"
    name = stream.codec_context.name if stream.codec_context else stream.name
    return " ".join(word for word in (stream.language, stream.type, f"({name})" if name else "") if word)
