"""Upscale one video in the memory of a few frames."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from av.error import FFmpegError
from av.packet import Packet

from rgt_arch.errors import UserError
from rgt_arch.files import written_whole
from rgt_arch.inference.upscaler import Progress, Upscaler
from rgt_arch.inference.video.frames import Converter, has_alpha
from rgt_arch.inference.video.reading import Parts, estimated_frames, open_video, reason
from rgt_arch.inference.video.writing import VideoWriter, open_output


def upscale_video(
    source: Path,
    target: Path,
    upscaler: Upscaler,
    *,
    outscale: float | None = None,
    crf: int | None = None,
    progress: Progress | None = None,
    notify: Callable[[str], None],
) -> None:
    """Enlarge a video. The target's suffix chooses container and codec: H.264, in webm VP9 (10 bits: AV1).

    Every frame keeps its own time, and sound, subtitles, chapters, tags, pixel shape and colour coding stay as they
    are. Frames are turned upright. More than 8 bits become 10. crf: the encoder's quality, smaller is better.
    progress(done, all) counts input pixels; `all` is an estimate. notify gets one line for each loss, without the
    file's name. From a damaged source all decodable frames are kept, at the right times, with notices. target: not the
    source.
    Raises UsageError for a source or target that cannot be used, UserError for other failures; an existing target then
    stays unchanged.
    """
    with open_video(source) as (container, video), written_whole(target) as beside:
        parts, converter = Parts(container, video), Converter()
        pixels, frames = video.width * video.height, estimated_frames(container, video)
        usual_duration = max(1, round(1 / ((video.average_rate or video.guessed_rate or 25) * (video.time_base or 1))))
        writer: VideoWriter | None = None
        waiting: list[Packet] = []  # packets before the first frame, whose size the output needs
        done = late = 0
        last: int | None = None

        def advance(part: int, whole: int) -> None:
            if progress:
                progress(round((done + part / whole) * pixels), max(frames, done + 1) * pixels)

        try:
            with open_output(beside, video) as output:
                for part in parts:
                    if isinstance(part, Packet):
                        (waiting.append if writer is None else writer.copy)(part)
                        continue
                    guesses = (part.pts, part.dts, 0 if last is None else last + usual_duration)
                    time = next(guess for guess in guesses if guess is not None)
                    if last is not None and time <= last:
                        late += 1
                        continue
                    picture = upscaler.upscale(converter.to_upright_rgb(part), outscale=outscale, progress=advance)
                    if writer is None:
                        if has_alpha(part):
                            notify("its transparency is lost: the result has no alpha channel")
                        if part.interlaced_frame:
                            notify("it is interlaced; deinterlace it first for a clean result")
                        writer = VideoWriter(output, container, video, part, picture.shape[:2], crf, notify)
                        for packet in waiting:
                            writer.copy(packet)
                    writer.write(picture, time, part.duration or usual_duration)
                    last, done = time, done + 1
                if writer is None:
                    raise UserError("none of its frames can be decoded; it is damaged")
                writer.finish()
        except FFmpegError as error:
            raise UserError(f"{target}: cannot be written: {reason(error)}; nothing was changed") from error
        if parts.damaged:
            notify(f"{parts.damaged} of its frames are damaged: left out, or as far as they could be decoded")
        if late:
            notify(f"{late} of its frames were left out, because their times do not increase")
        if writer.refused:
            notify(f"{writer.refused} packets of sound or subtitles have impossible times and were left out")
        if parts.missing_end:
            notify(parts.missing_end)
        if progress:
            progress(max(frames, done) * pixels, max(frames, done) * pixels)
