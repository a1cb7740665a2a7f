"""Open local video files without opening files that they name, and read past damaged parts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Discard, Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from rgt_arch.data.images import image_size
from rgt_arch.errors import UsageError, UserError
from rgt_arch.inference.video.frames import extras

# A file with such a suffix is a video even if it cannot be opened. Others, as the .ts of TypeScript, must be opened.
_NAMES = "mp4 m4v mov qt mkv webm avi wmv asf flv f4v 3gp 3g2 m2ts mts mpg mpeg vob ogv y4m mxf"
VIDEO_SUFFIXES = tuple(f".{name}" for name in _NAMES.split())
# Playlists and scripts with a video's suffix (HLS, concat) could name other files and addresses: only these demuxers
# are allowed, and they open only files.
_DEMUXERS = "mov,matroska,webm,avi,asf,flv,mpegts,mpeg,mpegvideo,ogg,yuv4mpegpipe,mxf,dv,ivf,h264,hevc"
_OPTIONS = {"format_whitelist": _DEMUXERS, "protocol_whitelist": "file"}
_PICTURE_BRANDS = ("avif", "avis", "mif1", "msf1", "hei", "hevc", "hevx", "crx")  # AVIF, HEIF, CR3: mov opens them
_KINDS = "mp4, mov, mkv, webm, avi, wmv, flv, ts, mpg, 3gp, ogv and y4m files can be read, if they are complete"
_SECONDS_MISSING_AT_END = 0.5
# Tags that muxers write themselves, or that describe only the source's bytes.
_OWN_TAGS = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration", "rotate", "software", "bps"}
_OWN_TAGS |= {"number_of_frames", "number_of_bytes", "vendor_id", "alpha_mode"}


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
        is_picture = container.metadata.get("major_brand", "").startswith(_PICTURE_BRANDS)
        for stream in () if is_picture else container.streams.video:
            if stream.codec_context is not None and not is_cover(stream):
                yield container, stream
                return
    raise UsageError(f"{path}: has no video in it that can be decoded; {_KINDS}")


def is_video(path: Path) -> bool:
    """Check whether a file is a video: by its content, or by its suffix if no picture or video can be opened."""
    if image_size(path) is not None:
        return False
    try:
        with open_video(path):
            return True
    except UsageError:
        return path.suffix.lower() in VIDEO_SUFFIXES


def is_cover(stream: Stream) -> bool:
    """Check whether a video stream is a cover picture."""
    return bool(stream.disposition & Disposition.attached_pic)


def video_pixels(path: Path) -> int:
    """Return the pixels of all frames according to the headers. Raises UsageError as `open_video` does."""
    with open_video(path) as (container, video):
        return estimated_frames(container, video) * video.width * video.height


def estimated_frames(container: InputContainer, video: VideoStream) -> int:
    """Return the number of frames, estimated from the duration if the container lacks it; 1 if both are unknown."""
    rate = video.average_rate or video.guessed_rate or 0
    return video.frames or max(1, round((container.duration or 0) * rate / av.time_base))


def tags(metadata: dict[str, str]) -> dict[str, str]:
    """Return the tags that a result can have too."""
    return {
        key: value
        for key, value in metadata.items()
        if key.lower() not in _OWN_TAGS and not key.lower().startswith("_statistics")
    }


def contents(container: InputContainer, video: VideoStream, names: set[str]) -> set[tuple[str, str]]:
    """Return (kind, name) of all that a file has besides the frames of `video`. names: of its frames' extras."""
    found = {("tags", key.lower()) for key in tags(container.metadata)} | {(name, "") for name in names}
    found |= {("chapters", "")} if container.chapters() else set()
    for stream in container.streams:
        keys = {key.lower() for key in stream.metadata}
        if "timecode" in keys:  # a stream of its own in some containers, a tag in others
            found.add(("tags", "timecode"))
        if stream is video:
            found |= {("transparency (alpha channel)", "")} if "alpha_mode" in keys else set()
        elif is_cover(stream):
            found.add(("cover picture", ""))
        elif stream.discard != Discard.all and not (stream.type == "data" and "timecode" in keys):
            name = stream.codec_context.name if stream.codec_context else stream.name
            found.add(("streams", f"{stream.type} ({name})" if name else stream.type))
    return found


class Parts:
    """Iterates once over a video: the frames of `video`, decoded, and the packets of all other streams.

    Packets that cannot be decoded are left out and counted. An error of the container ends the iteration.
    """

    aspect: Fraction
    """Width over height of a pixel of the last frame, as stored."""

    def __init__(self, container: InputContainer, video: VideoStream) -> None:
        self._container, self._video = container, video
        of_container = video.sample_aspect_ratio or Fraction(1)
        is_fixed = of_container != (video.codec_context.sample_aspect_ratio or Fraction(1))
        self._fixed_aspect = of_container if is_fixed else None
        self._aspects: dict[int | None, Fraction] = {}
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
        # frames have no pixel shape in PyAV: the decoder's is that of this packet, whose frame may come later
        coded = self._aspects[packet.pts] = self._video.codec_context.sample_aspect_ratio or Fraction(1)
        for frame in frames:
            self.aspect = self._fixed_aspect or self._aspects.pop(frame.pts, coded)
            yield frame

    @property
    def missing_end(self) -> str | None:
        """One line if the file's end is missing, as after a broken download; None if it is whole."""
        length = (self._container.duration or 0) / av.time_base
        if length - self._reached > _SECONDS_MISSING_AT_END:
            return f"ends after {self._reached:.1f} of {length:.1f} seconds; the rest is missing"
        return f"could not be read to its end ({self._error})" if self._error else None


@dataclass(frozen=True)
class Survey:
    """Facts about a whole video, from a first pass that decodes every frame."""

    largest: VideoFrame
    """The first of the frames with the most pixels as shown."""
    aspect: Fraction
    """Width over height of its pixels, as stored."""
    extras: set[str]
    """Of all frames, as in `frames.extras`."""
    covers: dict[int, bytes]
    """Cover pictures by the index of their stream."""


def survey_video(path: Path) -> Survey:
    """Decode a video once: headers do not tell the sizes of all frames.

    Raises UsageError as `open_video` does, UserError if no frame can be decoded.
    """
    best, names, covers = None, set(), {}
    with open_video(path) as (container, video):
        parts = Parts(container, video)
        for part in parts:
            if isinstance(part, Packet):
                if is_cover(part.stream):
                    covers[part.stream.index] = bytes(part)
                continue
            names |= extras(part)
            pixels = part.width * part.height * parts.aspect
            if best is None or pixels > best[0]:
                best = pixels, part, parts.aspect
    if best is None:
        raise UserError("none of its frames can be decoded; it is damaged")
    return Survey(*best[1:], names, covers)


def reason(error: FFmpegError) -> str:
    """Return the reason without FFmpeg's number and the file's name."""
    return error.strerror or str(error)
