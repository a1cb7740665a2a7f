"""Upscale one video in the memory of a few frames."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

from av.error import FFmpegError
from av.packet import Packet
from numpy.typing import NDArray

from rgt_arch.errors import UserError
from rgt_arch.files import written_whole
from rgt_arch.inference.upscaler import Advance, Outscale, Upscaler
from rgt_arch.inference.video.frames import Converter, extras, upright_aspect, upright_size
from rgt_arch.inference.video.reading import (
    VIDEO_SUFFIXES,
    Parts,
    contents,
    estimated_frames,
    open_video,
    reason,
    survey_video,
)
from rgt_arch.inference.video.writing import WRITTEN_KINDS, VideoWriter, open_output


def upscale_video(
    source: Path,
    target: Path,
    upscaler: Upscaler,
    *,
    outscale: Outscale = None,
    crf: int | None = None,
    progress: Advance | None = None,
    notify: Callable[[str], None],
) -> None:
    """Enlarge a video. The target's suffix chooses container and codec: H.264, in webm VP9 (10 bits: AV1).

    Every frame keeps its own time (in ts and flv, all streams may start later), and sound, subtitles, chapters, tags,
    pixel shape and colour coding stay as they are. Frames are turned upright; where their size changes, the others are
    fitted into the largest, with bars. More than 8 bits become 10. crf: the encoder's quality, smaller is better.
    progress(done, all) counts input pixels; `all` is an estimate. notify gets one line for each kind of data that the
    source carries and the finished result does not, without the file's name. From a damaged source all decodable frames
    are kept, at the right times, with notices. target: not the source.
    Raises UsageError for a source or target that cannot be used, UserError for other failures; an existing target then
    stays unchanged.
    """
    survey = survey_video(source)
    with open_video(source) as (container, video), written_whole(target) as beside:
        parts, converter = Parts(container, video), Converter()
        pixels, frames = video.width * video.height, estimated_frames(container, video)
        usual_duration = max(1, round(1 / ((video.average_rate or video.guessed_rate or 25) * (video.time_base or 1))))
        done = late = 0
        last: int | None = None
        waiting: list[tuple[NDArray[Any], tuple[Fraction, int, int]]] = []  # frames of one size, and how to write them
        at_once = 1

        def advance(part: int, whole: int) -> None:
            if progress:
                count = len(waiting)
                progress(round((done + count * part / whole) * pixels), max(frames, done + count) * pixels)

        def flush() -> None:
            nonlocal done
            pictures = upscaler.upscale_many([picture for picture, _ in waiting], outscale, advance)
            done += len(waiting)
            for picture, (_, place) in zip(pictures, waiting, strict=True):
                writer.write(picture, *place)
            waiting.clear()

        if (kind := container.format.name) not in WRITTEN_KINDS:
            kind = source.suffix[1:].lower() if source.suffix.lower() in VIDEO_SUFFIXES else kind
            notify(f"{kind} is a kind that is only read: the result is {target.suffix[1:]}")
        try:
            with open_output(beside, container, video) as output:
                if survey.largest.interlaced_frame:
                    notify("it is interlaced; deinterlace it first for a clean result")
                if callable(outscale):
                    outscale = outscale(*upright_size(survey.largest))
                size = upscaler.output_size(*upright_size(survey.largest), outscale)
                writer = VideoWriter(output, container, video, survey, size, crf, notify)
                for part in parts:
                    if isinstance(part, Packet):
                        writer.copy(part)
                        continue
                    guesses = (part.pts, part.dts, 0 if last is None else last + usual_duration)
                    time = next(guess for guess in guesses if guess is not None)
                    if last is not None and time <= last:
                        late += 1
                        continue
                    last = time
                    picture = converter.to_upright_rgb(part)
                    if waiting and (picture.shape, picture.dtype) != (waiting[0][0].shape, waiting[0][0].dtype):
                        flush()
                    if not waiting:
                        at_once = upscaler.pictures_at_once(*picture.shape[:2])
                    place = upright_aspect(part, parts.aspect), time, part.duration or usual_duration
                    waiting.append((picture, place))
                    if len(waiting) >= at_once:
                        flush()
                flush()
                writer.finish()
            for text in _losses(contents(container, video, survey.extras), beside):
                notify(text)
        except FFmpegError as error:
            raise UserError(f"{target}: cannot be written: {reason(error)}; nothing was changed") from error
        if writer.fitted:
            into = "{}x{}".format(*writer.size)
            notify(f"its frame size changes: {writer.fitted} frames were fitted into {into}, with bars where needed")
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


def _losses(source: set[tuple[str, str]], result: Path) -> list[str]:
    """One line for each kind of thing that the source has and the result lacks."""
    with open_video(result) as (container, video):
        frame = next(container.decode(video), None)
        kept = contents(container, video, extras(frame) if frame else set())
    lost = sorted(source - kept)
    names = {kind: ", ".join(name for other, name in lost if other == kind) for kind, _ in lost}
    return [f"the result does not carry its {kind} {text}".rstrip() for kind, text in names.items()]
