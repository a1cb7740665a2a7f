"""Small real videos, made with PyAV: moving pictures, a tone, chapters and a title."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
FORMATS = {".mp4": "mp4", ".mov": "mov", ".qt": "mov", ".mkv": "matroska", ".webm": "webm", ".avi": "avi"}
FORMATS |= {".ts": "mpegts", ".m2ts": "mpegts", ".flv": "flv", ".f4v": "f4v", ".3gp": "3gp", ".mpg": "mpeg"}
FORMATS |= {".wmv": "asf", ".y4m": "yuv4mpegpipe"}


def moving(number: int, width: int = 64, height: int = 48) -> Picture:
    y, x = np.mgrid[:height, :width]
    return np.stack([(x * 3 + number * 5) % 256, y * 4 % 256, np.full_like(x, number * 9 % 256)], -1).astype(np.uint8)


@pytest.fixture
def make_video(tmp_path: Path) -> Callable[..., Path]:
    def make(
        name: str = "source.mp4",
        *,
        codec: str = "libx264",
        pixel_format: str = "yuv420p",
        time_base: Fraction = Fraction(1, 1000),
        times: Sequence[int] = range(0, 1000, 40),
        picture: Callable[[int], Picture] = moving,
        colour: tuple[int, int] | None = None,  # matrix, range
        rotation: tuple[float, bool] | None = None,  # degrees, mirrored
        aspect: Fraction | None = None,
        audio: str | None = None,
        subtitles: Sequence[str] = (),
        last_duration: int | None = None,
        options: dict[str, str] | None = None,
        container_options: dict[str, str] | None = None,
        tags: dict[str, str] | None = None,
        video_tags: dict[str, str] | None = None,
    ) -> Path:
        path = tmp_path / name
        with av.open(f"file:{path}", "w", format=FORMATS[path.suffix], container_options=container_options) as output:
            output.metadata.update({"title": "Straße", **(tags or {})})
            if path.suffix in (".mp4", ".mov", ".mkv", ".webm"):
                chapter = {"id": 1, "start": 0, "end": 500, "time_base": Fraction(1, 1000)}
                output.set_chapters([{**chapter, "metadata": {"title": "one"}}])
            video: Any = output.add_stream(codec, rate=25, options=options or {}, time_base=time_base)
            video.metadata.update(video_tags or {})
            first = picture(0)
            video.height, video.width = first.shape[:2]
            video.pix_fmt = pixel_format
            video.codec_context.sample_aspect_ratio = aspect or Fraction(1)
            if colour:
                video.codec_context.colorspace, video.codec_context.color_range = colour
            if rotation:
                video.set_display_rotation(rotation[0], hflip=rotation[1])
            tone: Any = None
            if audio:
                tone = output.add_stream(audio, rate=48000)
                tone.layout = "mono"
                tone.metadata["language"] = "fra"
            words: Any = [output.add_mux_stream(name) for name in subtitles]
            if tone:
                output.mux(_tone(tone))
            for stream in words:
                packet = av.Packet(b"hello")
                packet.pts = packet.dts = 100
                packet.duration, packet.time_base, packet.stream = 200, Fraction(1, 1000), stream
                output.mux(packet)
            matrix, full = colour or (6, 1)
            for number, time in enumerate(times):
                rgb = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
                rgb.colorspace = matrix
                frame = rgb.reformat(
                    format=pixel_format, dst_colorspace={6: 5}.get(matrix, matrix), dst_color_range=full
                )
                frame.pts, frame.time_base = time, time_base
                output.mux(video.encode(frame))
            for packet in video.encode(None):
                if last_duration and packet.pts == times[-1]:
                    packet.duration = last_duration
                output.mux(packet)
        return path

    return make


def _tone(stream: Any) -> list[av.Packet]:
    wave = (np.sin(2 * np.pi * 440 * np.arange(48000) / 48000) * 8000).astype(np.int16)
    packets = []
    for start in range(0, 48000 - 1023, 1024):
        frame = av.AudioFrame.from_ndarray(wave[None, start : start + 1024], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
        packets += stream.encode(frame)
    return packets + list(stream.encode(None))
