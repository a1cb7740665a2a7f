"""One video through the upscaler, in the memory of a few frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from rgt_arch.errors import UsageError, UserError
from rgt_arch.files import written_whole
from rgt_arch.inference.video import frames
from rgt_arch.inference.video.reading import Parts, open_video, video_info
from rgt_arch.inference.video.writing import Encoding, VideoWriter, choose_encoder, container_format

Progress = Callable[[int, int], None]
Notify = Callable[[str], None]


class FrameUpscaler(Protocol):
    """What is asked of an upscaler: `rgt_arch.inference.upscaler.Upscaler` has it."""

    def upscale(
        self, image: NDArray[Any], outscale: float | None = None, progress: Progress | None = None
    ) -> NDArray[Any]:
        """(H, W, 3) RGB of uint8 or uint16, to a larger picture of the same kind."""


def upscale_video(
    source: Path,
    target: Path,
    upscaler: FrameUpscaler,
    *,
    outscale: float | None = None,
    crf: int | None = None,
    progress: Progress | None = None,
    notify: Notify,
) -> None:
    """Enlarge a video. The target's suffix chooses container and codec: H.264, in webm VP9 (10 bits: AV1).

    Every frame keeps its own time, and sound, subtitles, chapters, tags, pixel shape and colour coding stay as they
    are. Frames are turned upright. More than 8 bits become 10. crf: the encoder's quality, smaller is better.
    progress(done, all) counts input pixels, of which all is an estimate. notify is told in one line each what could
    not be kept. A damaged source gives all that can be decoded, at the right times, and notices.
    Raises UsageError for sources and targets that cannot be used, UserError for what fails; the target is then not
    written, and what was there before is kept.
    """
    format_name = container_format(target)
    if target.exists() and source.exists() and target.samefile(source):
        raise UsageError(f"{target}: is the source; choose another name for the result")

    def tell(text: str) -> None:
        notify(f"{source}: {text}")

    with open_video(source) as (container, video), written_whole(target) as beside:
        job = _Job(container, video, beside, format_name, upscaler, outscale, crf, progress, tell)
        try:
            job.run()
        except UserError as error:
            raise type(error)(f"{source}: {error}") from error
        except FFmpegError as error:
            raise UserError(f"{target}: cannot be written: {error.strerror or error}; nothing was changed") from error


@dataclass
class _Job:
    """The state of one video between its frames."""

    _container: InputContainer
    _video: VideoStream
    _path: Path
    _format: str
    _upscaler: FrameUpscaler
    _outscale: float | None
    _crf: int | None
    _progress: Progress | None
    _tell: Notify
    _done: int = 0
    _late: int = 0
    _last_pts: int | None = None

    def __post_init__(self) -> None:
        self._parts = Parts(self._container, self._video)
        self._converter = frames.Converter()

    def run(self) -> None:
        """Read, upscale and write everything."""
        parts = iter(self._parts)
        waiting: list[Packet] = []  # what comes before the first frame, whose size the output has to know
        for part in parts:
            if isinstance(part, VideoFrame):
                break
            waiting.append(part)
        else:
            raise UserError("none of its frames can be decoded; it is damaged")
        self._start(part)
        picture = self._enlarged(part)
        self._encoding = self._choose_encoding(part, picture)
        with VideoWriter(self._path, self._container, self._video, self._encoding, self._tell) as writer:
            for packet in waiting:
                writer.copy(packet)
            waiting.clear()
            self._write(writer, part, picture)
            for part in parts:
                if isinstance(part, Packet):
                    writer.copy(part)
                elif self._is_later(part):
                    self._write(writer, part, self._enlarged(part))
        self._tell_losses(writer)
        if self._progress:
            self._progress(self._all_pixels, self._all_pixels)

    def _start(self, first: VideoFrame) -> None:
        self._info = video_info(self._container, self._video, first)
        self._pixels = self._info.width * self._info.height
        self._all_pixels = max(1, self._info.frames) * self._pixels
        assert self._video.time_base is not None
        self._rate = self._info.rate or Fraction(25)
        self._usual_duration = max(1, round(1 / (self._rate * self._video.time_base)))
        if frames.has_alpha(first):
            self._tell("its transparency is lost, for the result has none")
        if first.interlaced_frame:
            self._tell("it is interlaced; deinterlace it first for a clean result")

    def _enlarged(self, frame: VideoFrame) -> NDArray[Any]:
        picture = self._converter.to_upright_rgb(frame)
        advance = self._progress and self._advance
        return self._upscaler.upscale(picture, outscale=self._outscale, progress=advance)

    def _advance(self, done: int, pixels: int) -> None:
        assert self._progress is not None
        reached = round((self._done + done / pixels) * self._pixels)
        self._all_pixels = max(self._all_pixels, reached)
        self._progress(reached, self._all_pixels)

    def _choose_encoding(self, frame: VideoFrame, picture: NDArray[Any]) -> Encoding:
        bits = frames.bit_depth(frame)
        encoder, pixel_format = choose_encoder(self._format, bits)
        kept = 10 if pixel_format.endswith("10le") else 8
        if kept < bits:
            self._tell(f"its {bits} bits per channel become {kept}, as {encoder} offers no more")
        height, width = picture.shape[:2]
        aspect = Fraction(self._video.sample_aspect_ratio or 1)
        if frames.is_turned(frame):
            aspect = 1 / aspect
        if aspect != 1 and self._format == "webm":  # its muxer cannot be told of other shapes
            width, height = (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))
            self._tell(f"its pixels of shape {aspect} become square, as in webm they have to")
            aspect = Fraction(1)
        size = max(2, width // 2 * 2), max(2, height // 2 * 2)
        if size != (width, height):
            self._tell(f"{width}x{height} became {size[0]}x{size[1]}: video has even sizes")
        assert self._video.time_base is not None
        return Encoding(
            encoder=encoder,
            pixel_format=pixel_format,
            size=size,
            time_base=Fraction(self._video.time_base),
            rate=self._rate,
            aspect=aspect,
            matrix=frames.colour_matrix(frame),
            primaries=frame.color_primaries,
            transfer=frame.color_trc,
            full_range=frames.full_range(frame),
            crf=self._crf,
        )

    def _is_later(self, frame: VideoFrame) -> bool:
        later = self._last_pts is None or self._pts(frame) > self._last_pts
        self._late += not later
        return later

    def _pts(self, frame: VideoFrame) -> int:
        if frame.pts is not None:
            return frame.pts
        if frame.dts is not None:
            return frame.dts
        return 0 if self._last_pts is None else self._last_pts + self._usual_duration

    def _write(self, writer: VideoWriter, frame: VideoFrame, picture: NDArray[Any]) -> None:
        encoding = self._encoding
        height, width = picture.shape[:2]
        # one row or column too many is cut off: resizing for it would blur the whole
        if 0 <= width - encoding.size[0] <= 1 and 0 <= height - encoding.size[1] <= 1:
            picture = np.ascontiguousarray(picture[: encoding.size[1], : encoding.size[0]])
        yuv = self._converter.from_rgb(
            picture, encoding.size, encoding.pixel_format, encoding.matrix, full=encoding.full_range
        )
        self._last_pts = self._pts(frame)
        writer.write(yuv, self._last_pts, frame.duration or self._usual_duration)
        self._done += 1

    def _tell_losses(self, writer: VideoWriter) -> None:
        if self._parts.damaged:
            self._tell(f"{self._parts.damaged} of its frames are damaged: left out, or as far as they could be decoded")
        if self._late:
            self._tell(f"{self._late} of its frames come at the time of an earlier one and were left out")
        if writer.refused:
            self._tell(f"{writer.refused} packets of sound or subtitles have impossible times and were left out")
        if self._parts.missing_end:
            self._tell(self._parts.missing_end)
