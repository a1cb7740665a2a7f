"""What a result carries besides its frames: kept, or reported in one line for each kind."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image

from rgt_arch.inference.video.frames import extras
from rgt_arch.inference.video.reading import contents, open_video

from .test_upscaling import first_frame, rgb, run

Make = Callable[..., Path]
PHONE = {
    "com.apple.quicktime.make": "Maker",
    "com.apple.quicktime.creationdate": "2020-01-02T03:04:05+0100",
    "com.apple.quicktime.location.ISO6709": "+47.0000+008.0000/",
}


def lost(notices: list[str]) -> list[str]:
    start = "the result does not carry its "
    assert all(notice.startswith(start) for notice in notices)
    return [notice.removeprefix(start) for notice in notices]


@pytest.mark.parametrize("suffix", [".mov", ".mp4"])
@pytest.mark.parametrize("tags", [PHONE, {"com.android.version": "14", "location": "+47.0000+008.0000/"}])
def test_keys_of_phones_are_kept(make_video: Make, suffix: str, tags: dict[str, str]) -> None:
    source = make_video(f"source{suffix}", tags=tags, container_options={"movflags": "use_metadata_tags"})
    target, notices = run(source, f"out{suffix}")
    with av.open(str(target)) as container:
        assert container.metadata.items() >= {"title": "Straße", **tags}.items()
    assert not notices


@pytest.mark.parametrize(("suffix", "expected"), [(".mkv", []), (".mp4", ["tags camera, lens"])])
def test_tags_that_a_container_cannot_hold_are_named(make_video: Make, suffix: str, expected: list[str]) -> None:
    _, notices = run(make_video("source.mkv", tags={"Camera": "a", "lens": "b"}), f"out{suffix}")
    assert lost(notices) == expected


@pytest.mark.parametrize("suffix", [".mov", ".mp4", ".mkv"])
def test_a_time_code_is_kept_without_a_notice(make_video: Make, suffix: str) -> None:
    source = make_video("source.mov", video_tags={"timecode": "01:00:00:00"}, audio="aac")
    target, notices = run(source, f"out{suffix}")
    with open_video(target) as (container, video):
        assert ("tags", "timecode") in contents(container, video, set())
    assert not notices


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize(
    ("before", "after", "is_kept"),
    [
        (".mkv", ".mkv", True),
        (".mp4", ".mp4", True),
        (".mp4", ".mkv", True),
        (".mkv", ".mp4", True),
        (".mkv", ".webm", False),
    ],
)
def test_cover_picture_is_kept_or_reported(
    make_video: Make, tmp_path: Path, kind: str, before: str, after: str, is_kept: bool
) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (60, 60), (200, 30, 30)).save(picture, kind)
    path = tmp_path / f"covered{before}"
    with av.open(str(make_video("plain.mkv"))) as source, av.open(str(path), "w") as output:
        copy = output.add_stream_from_template(source.streams.video[0])
        if before == ".mkv":
            output.add_attachment(f"cover.{kind.lower()}", f"image/{kind.lower()}", picture.getvalue())
        else:
            cover = output.add_mux_stream({"JPEG": "mjpeg", "PNG": "png"}[kind], width=60, height=60)
            cover.disposition = 1 << 10  # attached_pic
            packet = av.Packet(picture.getvalue())
            packet.stream = cover
            output.mux(packet)
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = copy
                output.mux(packet)
    target, notices = run(path, f"out{after}")
    assert lost(notices) == ([] if is_kept else ["cover picture"])
    with av.open(str(target)) as container:
        covers = [bytes(packet) for packet in container.demux(container.streams.video[-1]) if packet.size]
    assert (picture.getvalue() in covers) == is_kept


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
def test_transparency_of_webm_is_reported_and_the_result_is_not_marked(make_video: Make, codec: str) -> None:
    tags = {"alpha_mode": "1"}
    source = make_video(
        "source.webm", codec=codec, pixel_format="yuva420p", options={"auto-alt-ref": "0"}, video_tags=tags
    )
    target, notices = run(source, "out.webm")
    assert lost(notices) == ["transparency (alpha channel)"]
    with av.open(str(target)) as container:
        assert "alpha_mode" not in container.streams.video[0].metadata


def test_transparency_of_prores_is_reported(make_video: Make) -> None:
    source = make_video("source.mov", codec="prores_ks", pixel_format="yuva444p10le", times=[0, 40])
    assert lost(run(source)[1][1:]) == ["transparency (alpha channel)"]  # after that of 12 bits


def with_message(source: Path, target: Path, kind: int, payload: bytes, *, start: int = 0) -> Path:
    """Put an SEI message of H.264 before every frame from the time `start`."""
    message = bytes([6, kind, len(payload)]) + payload + b"\x80"
    with av.open(str(source)) as before, av.open(str(target), "w") as after:
        stream = after.add_stream_from_template(before.streams.video[0])
        for packet in before.demux(video=0):
            if packet.size:
                added = len(message).to_bytes(4, "big") + message if packet.pts >= start else b""
                changed: Any = av.Packet(added + bytes(packet))
                changed.pts, changed.dts, changed.time_base = packet.pts, packet.dts, packet.time_base
                changed.is_keyframe, changed.stream = packet.is_keyframe, stream
                after.mux(changed)
    return target


MESSAGES = {
    "closed captions": (4, b"\xb5\x00\x31GA94\x03\xc1\xff\xfc\x94\x2c\xff"),
    "mastering display metadata": (137, b"\x21\x34" * 8 + b"\x11\x11\x11\x11" + b"\x01\x01\x01\x01"),
    "content light level": (144, b"\x03\xe8\x01\x90"),
}


@pytest.mark.parametrize("name", MESSAGES)
@pytest.mark.parametrize("after", [".mp4", ".mkv"])
def test_each_kind_of_side_data_is_reported(make_video: Make, tmp_path: Path, name: str, after: str) -> None:
    source = with_message(make_video("plain.mkv"), tmp_path / "source.mkv", *MESSAGES[name])
    assert extras(first_frame(source)) == {name}
    assert lost(run(source, f"out{after}")[1]) == [name]


def test_side_data_that_the_container_carries_is_not_reported(make_video: Make) -> None:
    source = make_video("source.mkv", video_tags={"stereo_mode": "left_right"})
    assert lost(run(source, "out.mkv")[1]) == []
    assert lost(run(source, "out.mp4")[1]) == ["marks of a 3D video"]


def test_marks_of_a_360_degree_video_are_reported(make_video: Make) -> None:
    source = make_video()
    content = source.read_bytes()
    xml = b"<rdf:SphericalVideo><GSpherical:Spherical>true</GSpherical:Spherical><GSpherical:Stitched>true"
    xml += b"</GSpherical:Stitched><GSpherical:StitchingSoftware>x</GSpherical:StitchingSoftware>"
    xml += b"<GSpherical:ProjectionType>equirectangular</GSpherical:ProjectionType>"
    body = b"uuid" + bytes.fromhex("ffcc8263f8554a938814587a02521fdd") + xml + b"</rdf:SphericalVideo>"
    box = (len(body) + 4).to_bytes(4, "big") + body
    for name in (b"trak", b"moov"):  # the index is at the end of the file: no offsets change
        at = content.index(name) - 4
        size = int.from_bytes(content[at : at + 4], "big")
        content = content[:at] + (size + len(box)).to_bytes(4, "big") + content[at + 4 :]
        if name == b"trak":
            content = content[: at + size] + box + content[at + size :]
    source.write_bytes(content)
    assert lost(run(source)[1]) == ["marks of a 360° video"]


def test_frames_that_turn_within_the_stream_stay_upright_and_are_fitted(make_video: Make, tmp_path: Path) -> None:
    source = with_message(make_video("plain.mkv"), tmp_path / "turned.mkv", 47, b"\x08\x00\x10", start=500)
    target, notices = run(source)
    with av.open(str(target)) as container:
        frames = [rgb(frame) for frame in container.decode(video=0)]
    assert {frame.shape for frame in frames} == {(96, 128, 3)}
    assert [bool(frame[:, :16].max() < 40) for frame in frames] == [False] * 13 + [True] * 12  # bars
    assert notices == ["its frame size changes: 12 frames were fitted into 128x96, with bars where needed"]
