"""Which files are videos, how many pixels they have, and which stream is the video."""

from __future__ import annotations

import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from rgt_arch.errors import UserError
from rgt_arch.inference.video import target_suffix, upscale_video, video_pixels

Make = Callable[..., Path]


class Same:
    """Returns pictures unchanged."""

    def upscale(self, image: np.ndarray, outscale: object = None, progress: object = None) -> np.ndarray:
        return image


@pytest.mark.parametrize("name", ["source.mp4", "source.mkv"])
def test_pixels_of_all_frames_are_known_from_the_headers(make_video: Make, name: str) -> None:
    assert video_pixels(make_video(name, rotation=(90, False), audio="aac")) == 25 * 64 * 48


def test_avi_is_read_and_becomes_mkv(make_video: Make) -> None:
    source = make_video("source.avi", codec="mpeg4", time_base=Fraction(1, 25), times=range(25))
    assert target_suffix(".avi") == ".mkv"
    upscale_video(source, source.with_suffix(".mkv"), Same(), notify=pytest.fail)
    assert video_pixels(source.with_suffix(".mkv")) >= 25 * 64 * 48


def _sound(path: Path) -> None:
    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
        frame.sample_rate = 48000
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


PLAYLIST = b"#EXTM3U\n#EXTINF:1,\nother.mp4\n#EXT-X-ENDLIST\n"
NO_VIDEOS: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.write_bytes(b""), "cannot be read as a video"),
    "text": (lambda path: path.write_bytes(b"hello" * 1000), "cannot be read as a video"),
    "picture": (lambda path: Image.new("RGB", (20, 20)).save(path, "PNG"), "cannot be read as a video"),
    "sound": (_sound, "has no video in it"),
    "pipe": (os.mkfifo, "is not a file"),
    "link that leads nowhere": (lambda path: path.symlink_to("nothing"), "is not a file"),
    "playlist": (lambda path: path.write_bytes(PLAYLIST), "cannot be read as a video"),
    "script": (lambda path: path.write_bytes(b"ffconcat version 1.0\nfile other.mp4\n"), "cannot be read as a video"),
}


@pytest.mark.parametrize("kind", NO_VIDEOS)
def test_files_that_are_not_videos_end_in_one_line(make_video: Make, tmp_path: Path, kind: str) -> None:
    make_video("other.mp4")
    path = tmp_path / "x.mp4"
    NO_VIDEOS[kind][0](path)
    for use in (video_pixels, lambda path: upscale_video(path, tmp_path / "out.mp4", Same(), notify=pytest.fail)):
        with pytest.raises(UserError, match=NO_VIDEOS[kind][1]) as caught:
            use(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.mp4").exists()


def test_a_video_without_its_index_ends_in_one_line(make_video: Make) -> None:
    source = make_video()
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    with pytest.raises(UserError, match=r"cannot be read as a video.*if they are complete"):
        video_pixels(source)


@pytest.mark.parametrize("name", ["concat:a.mp4", "-i.mp4", "ü ä %03d.v1.mp4"])
def test_file_names_are_never_read_as_urls(
    make_video: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    make_video(name)
    monkeypatch.chdir(tmp_path)
    upscale_video(Path(name), Path(f"{name}.out.mp4"), Same(), notify=pytest.fail)
    assert video_pixels(Path(f"{name}.out.mp4")) == 25 * 64 * 48


def test_cover_picture_is_not_treated_as_the_video(make_video: Make, tmp_path: Path) -> None:
    plain, path = make_video("plain.mp4"), tmp_path / "covered.mp4"
    cover = tmp_path / "cover.jpg"
    Image.new("RGB", (600, 600)).save(cover)
    with av.open(str(plain)) as source, av.open(str(path), "w") as output:
        picture = output.add_mux_stream("mjpeg", width=600, height=600)
        picture.disposition = 1 << 10  # attached_pic
        copy = output.add_stream_from_template(source.streams.video[0])
        packet = av.Packet(cover.read_bytes())
        packet.stream = picture
        output.mux(packet)
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = copy
                output.mux(packet)
    notices: list[str] = []
    upscale_video(path, tmp_path / "out.mp4", Same(), notify=notices.append)
    assert video_pixels(tmp_path / "out.mp4") == 25 * 64 * 48
    assert "the cover picture" in notices[0]
