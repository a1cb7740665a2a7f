"""Open local video files without opening files that they name, and read past damaged parts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from rgt_arch.errors import UsageError

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")
# Playlists and scripts with a video's suffix (HLS, concat) could name other files and addresses: only these demuxers
# are allowed, and they open only files.
_OPTIONS = {"format_whitelist": "mov,matroska,webm,avi", "protocol_whitelist": "file"}
_KINDS = "mp4, mov, mkv, webm and avi files can be read, if they are complete"
_SECONDS_MISSING_AT_END = 0.5


@contextmanager
def open_video(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a local video; yields the container and its first video stream that is not a cover.

    Raises a one-line UsageError for files that are missing, are not a video, or have no stream that can be decoded.
    """
    if not path.is_file():
        raise UsageError(f"{path}: is not a file")
    try:
        # With `file:` in front no part of the name is taken for a protocol, such as `concat:`.
        container = av.open(f"file:{path.absolute()}", "r", container_options=_OPTIONS, metadata_errors="replace")
    except FFmpegError as error:
        raise UsageError(f"{path}: cannot be read as a video ({reason(error)}); {_KINDS}") from error
    with container:
        for stream in container.streams.video:
            if stream.codec_context is not None and not stream.disposition & Disposition.attached_pic:
                yield container, stream
                return
    raise UsageError(f"{path}: has no video in it that can be decoded; {_KINDS}")


def video_pixels(path: Path) -> int:
    """Return the pixels of all frames according to the headers. Raises UsageError as `open_video` does."""
    with open_video(path) as (container, video):
        return estimated_frames(container, video) * video.width * video.height


def estimated_frames(container: InputContainer, video: VideoStream) -> int:
    """Return the number of frames, estimated from the duration if the container lacks it; 1 if both are unknown."""
    rate = video.average_rate or video.guessed_rate or 0
    return video.frames or max(1, round((container.duration or 0) * rate / av.time_base))


class Parts:
    """Iterates once over a video: the frames of `video`, decoded, and the packets of all other streams.

    Packets that cannot be decoded are left out and counted. An error of the container ends the iteration.
    """

    def __init__(self, container: InputContainer, video: VideoStream) -> None:
        self._container, self._video = container, video
        self._reached = 0.0
        self._error: str | None = None
        self.damaged = 0
        """Packets that could not be decoded, and frames that the decoder could mend only in part."""

    def __iter__(self) -> Iterator[VideoFrame | Packet]:
        try:
            for packet in self._container.demux():
                if packet.pts is not None:
                    end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                    self._reached = max(self._reached, end)
                if packet.stream is self._video:
                    yield from self._decoded(packet)
                elif packet.size:  # the empty ones at the end only flush decoders
                    yield packet
        except FFmpegError as error:
            self._error = reason(error)

    def _decoded(self, packet: Packet) -> Iterator[VideoFrame]:
        try:
            frames = [frame for frame in packet.decode() if isinstance(frame, VideoFrame)]
        except FFmpegError:
            self.damaged += 1
            return
        self.damaged += sum(frame.is_corrupt for frame in frames)
        yield from frames

    @property
    def missing_end(self) -> str | None:
        """One line if the file's end is missing, as after a broken download; None if it is whole."""
        length = (self._container.duration or 0) / av.time_base
        if length - self._reached > _SECONDS_MISSING_AT_END:
            return f"ends after {self._reached:.1f} of {length:.1f} seconds; the rest is missing"
        return f"could not be read to its end ({self._error})" if self._error else None


def reason(error: FFmpegError) -> str:
    """Return the reason without FFmpeg's number and the file's name."""
    return error.strerror or str(error)
