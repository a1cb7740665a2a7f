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
from rgt_arch.inference.planning import Output, plan_jobs
from rgt_arch.inference.video.reading import is_video, video_pixels
from rgt_arch.inference.video.writing import target_suffix

from .test_upscaling import Repeat, run

Make = Callable[..., Path]


@pytest.mark.parametrize("name", ["source.mp4", "source.mkv"])
def test_pixels_of_all_frames_are_known_from_the_headers(make_video: Make, name: str) -> None:
    assert video_pixels(make_video(name, rotation=(90, False), audio="aac")) == 25 * 64 * 48


KINDS = {  # name, codec, and sound of a file; suffix of its result
    "a.ts": ("libx264", "aac", ".ts"),
    "a.m2ts": ("libx264", "ac3", ".m2ts"),
    "a.flv": ("libx264", "aac", ".flv"),
    "a.f4v": ("libx264", "aac", ".f4v"),
    "a.3gp": ("libx264", "aac", ".3gp"),
    "a.qt": ("libx264", "aac", ".qt"),
    "a.mpg": ("mpeg2video", "ac3", ".mkv"),
    "a.avi": ("mpeg4", "ac3", ".mkv"),
    "a.wmv": ("wmv2", "ac3", ".mkv"),
    "a.y4m": ("wrapped_avframe", None, ".mkv"),
}


def sounds(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(container.streams.audio) if packet.size]


@pytest.mark.parametrize("name", KINDS)
def test_every_common_kind_is_read_and_written_again_if_it_can_be(make_video: Make, name: str) -> None:
    codec, audio, suffix = KINDS[name]
    source = make_video(name, codec=codec, audio=audio, time_base=Fraction(1, 25), times=range(25))
    assert is_video(source)
    assert target_suffix(source) == suffix
    target, notices = run(source, f"out{suffix}", Repeat(1))
    with av.open(str(source)) as before, av.open(str(target)) as after:
        assert len(list(before.decode(video=0))) == len(list(after.decode(video=0))) == 25
    if audio:
        assert len(sounds(target)) == len(sounds(source))
    is_same_kind = suffix == source.suffix
    assert notices == ([] if is_same_kind else [f"{source.suffix[1:]} is a kind that is only read: the result is mkv"])


@pytest.mark.parametrize(
    ("name", "suffix"), [("clip", ".mp4"), ("clip.dat", ".mp4"), ("clip.avi", ".mp4"), ("a.jpg", ".mp4")]
)
def test_videos_are_recognised_by_content(make_video: Make, name: str, suffix: str) -> None:
    source = make_video().rename(make_video().with_name(name))
    assert is_video(source)
    assert target_suffix(source) == suffix


@pytest.mark.parametrize("name", ["code.ts", "notes.txt", "picture.mp4", "photo.heic", "moving.gif"])
def test_other_files_are_not_videos(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith(("ts", "txt")):
        path.write_text("export const a = 1;\n" * 100)
    elif name.endswith("gif"):
        frames = [Image.new("L", (8, 8), shade) for shade in (0, 99)]
        frames[0].save(path, save_all=True, append_images=frames[1:])
    else:
        Image.new("RGB", (16, 16)).save(path, "AVIF" if name.endswith("heic") else "PNG")
    assert not is_video(path)


def test_videos_in_folders_are_found_by_content(make_video: Make, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("a.ts", "b.flv"):
        make_video(name).rename(folder / name)
    make_video("c.mp4", times=[0, 40]).rename(folder / "clip")
    Image.new("RGB", (16, 16)).save(folder / "picture.mp4", "PNG")
    (folder / "code.ts").write_text("export const a = 1;\n" * 100)
    jobs = plan_jobs([folder], Output(place=tmp_path / "out"), 2).jobs
    names = {job.source.name: (job.target.name, job.is_video) for job in jobs}
    assert names.pop("picture.mp4") == ("picture_x2.png", False)
    assert names == {"a.ts": ("a_x2.ts", True), "b.flv": ("b_x2.flv", True), "clip": ("clip_x2.mp4", True)}


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
    for use in (video_pixels, run):
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
    target, notices = run(Path(name), f"{name}.out.mp4", Repeat(1))
    assert video_pixels(target) == 25 * 64 * 48
    assert not notices
