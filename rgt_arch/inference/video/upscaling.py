"""One video through the upscaler, in the memory of a few frames."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream
from numpy.typing import NDArray

from rgt_arch.errors import UsageError, UserError
from rgt_arch.files import written_whole
from rgt_arch.inference.video.frames import Converter, has_alpha
from rgt_arch.inference.video.reading import Parts, estimated_frames, open_video, reason
from rgt_arch.inference.video.writing import VideoWriter, open_output

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
    progress(done, all) counts input pixels, of which all is an estimate. notify gets one line for each thing that could
    not be kept. A damaged source gives all that can be decoded, at the right times, and notices.
    Raises UsageError for sources and targets that cannot be used, UserError for what fails; the target is then not
    written, and what was there before is kept.
    """
    if target.exists() and source.exists() and target.samefile(source):
        raise UsageError(f"{target}: is the source; choose another name for the result")

    def tell(text: str) -> None:
        notify(f"{source}: {text}")

    with open_video(source) as (container, video), written_whole(target) as beside:
        upscale = partial(upscaler.upscale, outscale=outscale)
        try:
            _upscale_frames(container, video, beside, upscale, crf, progress or (lambda done, pixels: None), tell)
        except UserError as error:
            raise type(error)(f"{source}: {error}") from error
        except FFmpegError as error:
            raise UserError(f"{target}: cannot be written: {reason(error)}; nothing was changed") from error


def _upscale_frames(
    container: InputContainer,
    video: VideoStream,
    path: Path,
    upscale: Callable[..., NDArray[Any]],
    crf: int | None,
    progress: Progress,
    tell: Notify,
) -> None:
    parts, converter = Parts(container, video), Converter()
    pixels, frames = video.width * video.height, estimated_frames(container, video)
    usual_duration = max(1, round(1 / ((video.average_rate or video.guessed_rate or 25) * (video.time_base or 1))))
    writer: VideoWriter | None = None
    waiting: list[Packet] = []  # what comes before the first frame, whose size the output has to know
    done = late = 0
    last: int | None = None

    def advance(part: int, whole: int) -> None:
        progress(round((done + part / whole) * pixels), max(frames, done + 1) * pixels)

    with open_output(path, video) as output:
        for part in parts:
            if isinstance(part, Packet):
                (waiting.append if writer is None else writer.copy)(part)
                continue
            guesses = (part.pts, part.dts, 0 if last is None else last + usual_duration)
            time = next(guess for guess in guesses if guess is not None)
            if last is not None and time <= last:
                late += 1
                continue
            picture = upscale(converter.to_upright_rgb(part), progress=advance)
            if writer is None:
                if has_alpha(part):
                    tell("its transparency is lost, for the result has none")
                if part.interlaced_frame:
                    tell("it is interlaced; deinterlace it first for a clean result")
                writer = VideoWriter(output, container, video, part, picture.shape[:2], crf, tell)
                for packet in waiting:
                    writer.copy(packet)
            writer.write(picture, time, part.duration or usual_duration)
            last, done = time, done + 1
        if writer is None:
            raise UserError("none of its frames can be decoded; it is damaged")
        writer.finish()
    for text in (
        parts.damaged and f"{parts.damaged} of its frames are damaged: left out, or as far as they could be decoded",
        late and f"{late} of its frames come at the time of an earlier one and were left out",
        writer.refused and f"{writer.refused} packets of sound or subtitles have impossible times and were left out",
        parts.missing_end,
    ):
        if text:
            tell(text)
    progress(max(frames, done) * pixels, max(frames, done) * pixels)
