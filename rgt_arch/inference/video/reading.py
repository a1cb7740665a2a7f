"""Local video files opened without following anything they name, and read past their damaged parts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.error import ArgumentError, FFmpegError
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from rgt_arch.errors import UsageError, UserError
from rgt_arch.inference.video.frames import upright_size

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")
# Playlists and scripts under a video's name (HLS, concat) could name other files and addresses: only these demuxers
# are let in, and they open nothing but files.
_OPTIONS = {"format_whitelist": "mov,matroska,webm,avi", "protocol_whitelist": "file"}
_SECONDS_MISSING_AT_END = 0.5


@dataclass(frozen=True)
class VideoInfo:
    """What is known before a video is read.

    width, height: of a frame as it is shown upright, in its own pixels. frames: estimated where the container does not
    say, 0 if it cannot be. duration: seconds, if known.
    """

    width: int
    height: int
    frames: int
    rate: Fraction | None
    duration: float | None
    has_audio: bool


@contextmanager
def open_video(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a local video; gives it with the stream that is shown, which is never a cover picture.

    Raises UsageError in one line for files that are missing, are no video, or have no stream that can be decoded.
    """
    if not path.is_file():
        raise UsageError(f"{path}: is not a file" if path.exists() else f"{path}: does not exist")
    if path.stat().st_size == 0:
        raise UsageError(f"{path}: is empty")
    try:
        # With `file:` in front no part of the name is taken for a protocol, such as `concat:`.
        container = av.open(f"file:{path.absolute()}", "r", container_options=_OPTIONS, metadata_errors="replace")
    except FFmpegError as error:
        # what FFmpeg says of kinds that are not let in is "Invalid argument"
        reason = "it is of another kind" if isinstance(error, ArgumentError) else _reason(error)
        raise UsageError(f"{path}: cannot be read as a video ({reason}); {_KINDS}") from error
    with container:
        streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
        if not streams:
            raise UsageError(f"{path}: has no video in it; {_KINDS}")
        best = container.streams.best("video")
        video = best if isinstance(best, VideoStream) and best in streams else streams[0]
        if video.codec_context is None:
            raise UsageError(f"{path}: PyAV has no decoder for its video; convert it to H.264 first")
        yield container, video


_KINDS = "mp4, mov, mkv, webm and avi files can be read, if they are complete"


def probe_video(path: Path) -> VideoInfo:
    """What a video says about itself, and its first frame. Raises UsageError or UserError in one line."""
    with open_video(path) as (container, video):
        for part in Parts(container, video):
            if isinstance(part, VideoFrame):
                return video_info(container, video, part)
    raise UserError(f"{path}: none of its frames can be decoded; it is damaged")


def video_info(container: InputContainer, video: VideoStream, first: VideoFrame) -> VideoInfo:
    """As `probe_video`, of an open video and its first frame."""
    rate = video.average_rate or video.guessed_rate or None
    duration: float | None = None
    if video.duration and video.time_base:
        duration = float(video.duration * video.time_base)
    elif container.duration:
        duration = container.duration / av.time_base
    frames = video.frames or (round(duration * rate) if duration and rate else 0)
    width, height = upright_size(first)
    return VideoInfo(width, height, frames, rate, duration, bool(container.streams.audio))


class Parts:
    """Iterates once over a video: the frames of `video`, decoded, and the packets of all other streams.

    Damaged frames are left out and counted. An error of the container ends the iteration as the file's end does.
    """

    def __init__(self, container: InputContainer, video: VideoStream) -> None:
        self._container, self._video = container, video
        self.damaged = 0
        """Packets that could not be decoded, and frames that the decoder could mend only in part."""
        self.error: str | None = None
        """Why reading ended before the end of the file."""
        self._reached = 0.0

    def __iter__(self) -> Iterator[VideoFrame | Packet]:
        packets = self._container.demux()
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except FFmpegError as error:
                self.error = _reason(error)
                return
            if packet.pts is not None:
                self._reached = max(self._reached, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            if packet.stream is self._video:
                yield from self._decoded(packet)
            elif packet.size:  # the empty ones at the end only flush decoders
                yield packet

    def _decoded(self, packet: Packet) -> Iterator[VideoFrame]:
        try:
            frames = packet.decode()
        except FFmpegError:
            self.damaged += 1
            return
        for frame in frames:
            if isinstance(frame, VideoFrame):
                self.damaged += frame.is_corrupt
                yield frame

    @property
    def missing_end(self) -> str | None:
        """What to say of a file whose end is missing, such as a download that broke off; None if it is whole."""
        said = (self._container.duration or 0) / av.time_base
        if said - self._reached > _SECONDS_MISSING_AT_END:
            return f"ends after {self._reached:.1f} of {said:.1f} seconds: what is there was kept"
        return f"could not be read to its end ({self.error}): what could was kept" if self.error else None


def _reason(error: FFmpegError) -> str:
    """The reason alone, without FFmpeg's number and the file's name."""
    return error.strerror or str(error)
