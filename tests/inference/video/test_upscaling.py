"""Videos through `upscale_video`, read back with PyAV."""

from __future__ import annotations

import os
import resource
import weakref
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rgt_arch.archs.rgt_arch import RGT
from rgt_arch.errors import UsageError, UserError
from rgt_arch.inference.upscaler import Upscaler
from rgt_arch.inference.video.frames import Converter
from rgt_arch.inference.video.upscaling import upscale_video

from ..conftest import Enlarge

Make = Callable[..., Path]


class Repeat:
    """Repeats pixels."""

    def __init__(self, scale: int = 2) -> None:
        self.scale = scale

    def output_size(self, height: int, width: int, outscale: float | None = None) -> tuple[int, int]:
        return round(height * (outscale or self.scale)), round(width * (outscale or self.scale))

    def upscale(
        self, image: NDArray[Any], outscale: float | None = None, progress: Callable[[int, int], None] | None = None
    ) -> NDArray[Any]:
        if progress:
            progress(1, 1)
        height, width = self.output_size(*image.shape[:2], outscale)
        return image.repeat(self.scale, 0).repeat(self.scale, 1)[:height, :width]

    def upscale_many(self, images: Sequence[NDArray[Any]], *args: Any) -> list[NDArray[Any]]:
        return [self.upscale(image, *args) for image in images]

    def pictures_at_once(self, height: int, width: int) -> int:
        return 1


def run(source: Path, name: str = "out.mp4", upscaler: Any = None, **options: Any) -> tuple[Path, list[str]]:
    target, notices = source.with_name(name), []
    upscale_video(source, target, upscaler or Repeat(), notify=notices.append, **options)
    assert not list(source.parent.glob(".*")), "left something beside"
    return target, notices


def times(path: Path) -> list[Fraction]:
    with av.open(f"file:{path}") as container:
        return [frame.pts * frame.time_base for frame in container.decode(video=0)]


def packets(path: Path, kind: str) -> list[tuple[Fraction, bytes]]:
    with av.open(f"file:{path}") as container:
        streams = [stream for stream in container.streams if stream.type == kind]
        return [(p.pts * p.time_base, bytes(p)) for p in (container.demux(streams) if streams else ()) if p.size]


def rgb(frame: av.VideoFrame) -> NDArray[Any]:
    return Converter().to_upright_rgb(frame)


def first_frame(path: Path) -> av.VideoFrame:
    with av.open(f"file:{path}") as container:
        return next(container.decode(video=0))


IRREGULAR = [500, 517, 533, 601, 655, 900, 902, 1500]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
def test_frames_keep_irregular_times_that_do_not_start_at_0(make_video: Make, suffix: str) -> None:
    source = make_video("source.mkv", times=IRREGULAR, audio="libopus")
    target, notices = run(source, f"out{suffix}")
    assert times(target) == times(source) == [Fraction(time, 1000) for time in IRREGULAR]
    if suffix != ".mov":  # .mov cannot hold Opus
        assert packets(target, "audio") == packets(source, "audio")
        assert not notices


def test_the_time_base_is_kept(make_video: Make) -> None:
    options = {"video_track_timescale": "90"}
    target, _ = run(make_video(time_base=Fraction(1, 90), times=[3, 7, 8, 20, 50], container_options=options))
    with av.open(str(target)) as container:
        assert container.streams.video[0].time_base == Fraction(1, 90)
    base = Fraction(1001, 30000)
    ntsc, _ = run(make_video("ntsc.mp4", time_base=base, times=range(9)), "ntsc_out.mp4")
    assert times(ntsc) == [number * base for number in range(9)]


def test_duration_of_the_last_frame_is_kept(make_video: Make) -> None:
    target, _ = run(make_video(times=[0, 100, 110], last_duration=70))
    with av.open(str(target)) as container:
        assert container.streams.video[0].duration * container.streams.video[0].time_base == Fraction(180, 1000)


def test_frames_with_the_time_of_an_earlier_one_are_left_out(make_video: Make) -> None:
    source = make_video("source.mkv", codec="ffv1", times=[0, 40, 40, 80])
    target, notices = run(source)
    assert times(target) == [0, Fraction(40, 1000), Fraction(80, 1000)]
    assert "1 of its frames" in notices[0]


def test_a_size_the_encoder_cannot_write_ends_in_one_line(make_video: Make) -> None:
    class Wide(Repeat):
        def output_size(self, *args: Any) -> tuple[int, int]:
            return 16, 20000

        def upscale(self, *args: Any, **options: Any) -> NDArray[Any]:
            return np.zeros((16, 20000, 3), np.uint8)

    with pytest.raises(UserError, match="libx264 cannot write 20000x16 pixels"):
        run(make_video(), upscaler=Wide())


def test_sound_tags_and_chapters_are_kept(make_video: Make) -> None:
    source = make_video(audio="aac")
    target, notices = run(source)
    assert packets(target, "audio") == packets(source, "audio")
    with av.open(str(target)) as container:
        assert container.metadata["title"] == "Straße"
        assert [chapter["metadata"]["title"] for chapter in container.chapters()] == ["one"]
        assert container.streams.audio[0].language == "fra"
        assert (container.streams.video[0].width, container.streams.video[0].height) == (128, 96)
    assert not notices


def test_sound_stays_in_sync_in_a_container_that_shifts_times(make_video: Make) -> None:
    source = make_video(audio="aac")  # starts before 0, because of the encoder's delay
    target, _ = run(source, "out.mkv")

    def distance(path: Path) -> Fraction:
        return times(path)[0] - packets(path, "audio")[0][0]

    assert abs(distance(source) - distance(target)) < Fraction(1, 500)


@pytest.mark.parametrize(
    ("source", "target", "lost"),
    [
        ({"name": "a.mkv", "subtitles": ["subrip"]}, "out.mkv", None),
        ({"name": "a.mkv", "subtitles": ["subrip"]}, "out.mp4", "subtitle (srt)"),
        ({"name": "a.mp4", "audio": "aac"}, "out.webm", "audio (aac)"),
    ],
)
def test_sound_and_subtitles_are_kept_or_named_if_the_container_cannot_hold_them(
    make_video: Make, source: dict[str, Any], target: str, lost: str | None
) -> None:
    before = make_video(**source)
    after, notices = run(before, target)
    for kind in ("audio", "subtitle"):
        assert packets(after, kind) == ([] if lost else packets(before, kind))
    assert len(notices) == bool(lost)
    assert (lost or "") in "".join(notices)


COLOURS = [(255, 255, 255), (255, 255, 0), (0, 255, 255), (0, 255, 0), (255, 0, 255), (255, 0, 0), (0, 0, 255)]
COLOURS += [(0, 0, 0), (128, 128, 128), (200, 120, 60), (60, 130, 200), (90, 200, 90)]


def chart(_number: int) -> NDArray[np.uint8]:
    return np.array(COLOURS, np.uint8).reshape(3, 4, 3).repeat(32, 0).repeat(32, 1)


def patch_means(path: Path) -> NDArray[np.float64]:
    shown = rgb(first_frame(path))
    side = shown.shape[0] // 3
    inner = shown.reshape(3, side, 4, side, 3)[:, side // 4 : -side // 4, :, side // 4 : -side // 4]
    return inner.mean((1, 3)).reshape(12, 3) / (257 if shown.dtype == np.uint16 else 1)


@pytest.mark.parametrize(
    ("colour", "pixel_format"),
    [
        ((1, 1), "yuv420p"),
        ((6, 1), "yuv420p"),
        ((1, 2), "yuvj420p"),
        ((6, 2), "yuvj420p"),
        ((9, 1), "yuv420p10le"),
        (None, "yuv420p"),
        ((1, 1), "yuv444p"),
    ],
)
def test_colours_are_kept_for_every_matrix_and_range(
    make_video: Make, colour: tuple[int, int] | None, pixel_format: str
) -> None:
    # 2 frames of lossless video: all differences come from the conversions
    options = {"crf": "0"} if pixel_format != "yuv420p10le" else {"crf": "4"}
    source = make_video(picture=chart, times=[0, 40], colour=colour, pixel_format=pixel_format, options=options)
    target, notices = run(source)
    assert np.abs(patch_means(source) - chart(0)[16::32, 16::32].reshape(12, 3)).max() < 2.5, "the source itself"
    assert np.abs(patch_means(target) - patch_means(source)).max() < 1.5
    frame = first_frame(target)
    # without a tag, players would assume another matrix for the larger result
    assert (frame.colorspace, frame.color_range) == (colour or (6, 1))
    assert ("10" in frame.format.name) == ("10" in pixel_format)
    assert not notices


@pytest.mark.parametrize(("bits", "target"), [(10, "out.webm"), (12, "out.mp4")])
def test_more_than_8_bits_become_10_and_a_loss_is_reported(make_video: Make, bits: int, target: str) -> None:
    source = make_video("source.mkv", codec="ffv1", pixel_format=f"yuv420p{bits}le", times=[0, 40])
    result, notices = run(source, target)
    assert first_frame(result).format.name == "yuv420p10le"
    assert notices == (["its 12 bits per channel become 10"] if bits == 12 else [])


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("angle", [0, 90, 180, 270])
def test_rotated_and_mirrored_videos_become_upright(make_video: Make, angle: int, mirrored: bool) -> None:
    corners = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [0, 0, 0]]], np.uint8).repeat(32, 0).repeat(48, 1)
    source = make_video(picture=lambda _: corners, times=[0, 40], rotation=(angle, mirrored), aspect=Fraction(4, 3))
    target, _ = run(source)
    turned = np.rot90(corners, angle // 90)  # the display matrix rotates counter-clockwise, then mirrors
    expected = (turned[:, ::-1] if mirrored else turned).repeat(2, 0).repeat(2, 1)
    frame = first_frame(target)
    shown = frame.to_ndarray(format="rgb24")  # as stored, without rotation
    assert shown.shape == expected.shape
    assert np.abs(shown.astype(int) - expected).mean() < 8
    assert frame.rotation == 0
    with av.open(str(target)) as container:
        aspect = container.streams.video[0].sample_aspect_ratio
    assert aspect == (Fraction(3, 4) if angle % 180 else Fraction(4, 3))


def test_pixels_become_square_in_webm(make_video: Make) -> None:
    target, notices = run(make_video(aspect=Fraction(3, 2), times=[0, 40]), "out.webm")
    frame = first_frame(target)
    assert (frame.width, frame.height) == (192, 96)
    assert "square" in notices[0]


def disc(width: int, height: int, aspect: Fraction) -> Callable[[int], NDArray[np.uint8]]:
    """Return a function for a bright disc, round as shown, on dark grey."""
    y, x = np.mgrid[:height, :width]
    inside = ((x - width / 2) * float(aspect)) ** 2 + (y - height / 2) ** 2 < 12**2
    return lambda _number: np.where(inside[..., None], np.uint8([250, 220, 40]), np.uint8([60, 60, 60]))


def joined(target: Path, parts: list[Path]) -> Path:
    """Join the videos of files in one stream."""
    with av.open(str(target), "w") as output:
        stream: Any = None
        for part in parts:
            with av.open(str(part)) as source:
                stream = stream or output.add_stream_from_template(source.streams.video[0])
                for packet in source.demux(video=0):
                    if packet.size:
                        packet.stream = stream
                        output.mux(packet)
    return target


SQUARE, WIDE, TALL = Fraction(1), (64, 48), (48, 64)
# Codec, suffix of the parts and of the whole; size and pixel shape of the parts; size of the result; a frame with bars.
CHANGES = {
    "vp8": ("libvpx", ".webm", ".webm", [(WIDE, SQUARE), (TALL, SQUARE)], (128, 96), -1),
    "vp9": ("libvpx-vp9", ".webm", ".mkv", [(TALL, SQUARE), (WIDE, SQUARE)], (96, 128), -1),
    "h264 in ts": ("libx264", ".ts", ".ts", [(WIDE, SQUARE), (TALL, SQUARE)], (128, 96), -1),
    "h264 in mkv": ("libx264", ".ts", ".mkv", [(WIDE, SQUARE), (TALL, SQUARE), (WIDE, SQUARE)], (128, 96), 15),
    "the largest is not the first": ("libx264", ".ts", ".ts", [(WIDE, SQUARE), ((90, 80), SQUARE)], (180, 160), 0),
    "pixel shape in h264": ("libx264", ".ts", ".ts", [(WIDE, SQUARE), (WIDE, Fraction(4, 3))], (128, 96), 0),
    "pixel shape in mpeg2": ("mpeg2video", ".ts", ".ts", [(WIDE, Fraction(4, 3)), (WIDE, SQUARE)], (128, 96), -1),
}


@pytest.mark.parametrize("change", CHANGES)
def test_frames_of_another_size_or_shape_are_fitted_and_never_stretched(
    make_video: Make, tmp_path: Path, change: str
) -> None:
    codec, suffix, whole, shapes, (width, height), narrow = CHANGES[change]
    parts = [
        make_video(
            f"{number}{suffix}",
            codec=codec,
            time_base=Fraction(1, 25),  # as MPEG-2 needs it
            times=range(25 * number, 25 * number + 10),
            picture=disc(*size, aspect),
            aspect=aspect,
            options={"g": "10"},
        )
        for number, (size, aspect) in enumerate(shapes)
    ]
    target, notices = run(joined(tmp_path / f"whole{whole}", parts), f"out{whole}")
    with av.open(str(target)) as container:
        video = container.streams.video[0]
        shape = float(video.sample_aspect_ratio or 1)
        frames = [rgb(frame) for frame in container.decode(video)]
    assert len(frames) == 10 * len(shapes)
    for frame in frames:
        bright = np.argwhere(frame[..., 0] > 150)
        disc_height, disc_width = np.ptp(bright, axis=0) + 1
        assert frame.shape == (height, width, 3)
        assert disc_width * shape / disc_height == pytest.approx(1, abs=0.1)
    with_bars = frames[narrow]
    assert min(with_bars[:2].max(), with_bars[:, :2].max()) < 40, "no black bars"
    assert len(notices) == 1
    assert "frame size changes: 10 frames" in notices[0]


def test_odd_sizes_are_cut_to_even_ones_and_reported(make_video: Make) -> None:
    target, notices = run(make_video(times=[0, 40]), outscale=1.39)
    frame = first_frame(target)
    assert (frame.width, frame.height) == (88, 66)
    assert "89x67 became 88x66" in notices[0]


def test_progress_counts_input_pixels(make_video: Make) -> None:
    seen: list[tuple[int, int]] = []
    run(make_video(), progress=lambda done, whole: seen.append((done, whole)))
    assert seen[-1] == (25 * 64 * 48, 25 * 64 * 48)
    assert len(seen) == 26
    assert seen == sorted(seen)


def test_a_second_run_gives_the_same_bytes(make_video: Make) -> None:
    # VP9, because a build of x264 gave other bytes about once in ten runs
    source = make_video("source.mkv", audio="libopus")
    one, _ = run(source, "one.webm")
    two, _ = run(source, "two.webm")
    assert one.read_bytes() == two.read_bytes()


def test_a_real_network_enlarges_frames_as_it_enlarges_pictures(make_video: Make) -> None:
    torch.manual_seed(0)
    network = RGT(upscale=2, img_size=16, embed_dim=12, depth=[2], num_heads=[2], split_size=[8, 8], mlp_ratio=2)
    upscaler, converter = Upscaler(network, device="cpu"), Converter()
    source = make_video("source.mkv", codec="ffv1", times=[0, 40, 80])
    target, _ = run(source, upscaler=upscaler, crf=1)
    with av.open(str(source)) as before, av.open(str(target)) as after:
        for small, large in zip(before.decode(video=0), after.decode(video=0), strict=True):
            expected = converter.from_rgb(upscaler.upscale(rgb(small)), (128, 96), "yuv420p", 6, full=False)
            assert np.abs(rgb(large).astype(int) - rgb(expected)).mean() < 2


def test_frames_in_batches_give_the_same_file(make_video: Make, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    options = {"time_base": Fraction(1, 25), "options": {"g": "10"}}  # as MPEG-TS needs it
    wide = make_video("wide.ts", times=range(10), picture=disc(*WIDE, SQUARE), **options)
    tall = make_video("tall.ts", times=range(25, 28), picture=disc(*TALL, SQUARE), **options)
    changing = joined(tmp_path / "changing.ts", [wide, tall]), [(4, 64), (4, 64), (2, 64), (3, 48)]
    with_sound = make_video("sound.mp4", audio="aac", times=range(0, 360, 40)), [(4, 64), (4, 64), (1, 64)]
    for source, expected in (changing, with_sound):
        results = []
        for batch in (1, 4):
            calls.clear()
            upscaler = Upscaler(network := Enlarge(), device="cpu")  # type: ignore[arg-type]
            upscaler.batch = batch  # as on a GPU
            target, notices = run(
                source, f"{batch}{source.suffix}", upscaler, progress=lambda *call: calls.append(call)
            )
            assert all(before[0] <= after[0] for before, after in pairwise(calls))
            results.append((target.read_bytes(), notices))
        assert [(count, width) for count, _, width in network.seen] == expected
        assert results[0] == results[1]


def test_truncated_video_gives_its_remaining_frames(make_video: Make) -> None:
    source = make_video(container_options={"movflags": "faststart"}, times=range(0, 3000, 40))
    whole = times(source)
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    target, notices = run(source)
    kept = times(target)
    assert 2 < len(kept) < 75
    assert set(kept) < set(whole)
    assert "ends after" in notices[-1]
    assert "of 3.0 seconds" in notices[-1]


def test_damaged_frames_are_left_out_and_the_others_keep_their_times(make_video: Make) -> None:
    source = make_video("source.mkv", times=range(0, 2000, 40))
    whole = times(source)
    with av.open(str(source)) as container:
        positions = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    content = bytearray(source.read_bytes())
    for position, size in positions[20:24]:
        content[position + 12 : position + size] = os.urandom(size - 12)
    source.write_bytes(content)
    target, notices = run(source)
    assert set(times(target)) <= set(whole)
    assert len(times(target)) >= 40
    assert "damaged" in notices[0]


@pytest.mark.parametrize("error", [UserError, KeyboardInterrupt])
def test_failing_upscaler_leaves_no_new_file_and_keeps_the_old_result(
    make_video: Make, tmp_path: Path, error: type[BaseException]
) -> None:
    class Fails(Repeat):
        count = 0

        def upscale(self, *args: Any, **options: Any) -> NDArray[Any]:
            self.count += 1
            if self.count == 10:
                raise error("no memory")
            return super().upscale(*args, **options)

    source = make_video()
    (tmp_path / "out.mp4").write_bytes(b"before")
    with pytest.raises(error, match="no memory"):
        run(source, upscaler=Fails())
    assert (tmp_path / "out.mp4").read_bytes() == b"before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mp4", "source.mp4"]


def test_a_full_disk_ends_in_one_line(make_video: Make, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (25, 48, 64, 3)).astype(np.uint8)
    source = make_video(picture=lambda number: noise[number])
    # writing beyond the limit raises OSError, because Python ignores SIGXFSZ
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(UserError, match=r"out\.mp4: cannot be written: .*nothing was changed"):
            run(source)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)  # before pytest writes, perhaps to a long file
    assert [path.name for path in tmp_path.iterdir()] == ["source.mp4"]


def test_pictures_are_released_after_writing(make_video: Make) -> None:
    pictures: list[weakref.ref[NDArray[Any]]] = []

    class Counting(Repeat):
        def upscale(self, *args: Any, **options: Any) -> NDArray[Any]:
            result = super().upscale(*args, **options).copy()
            pictures.append(weakref.ref(result))
            assert sum(picture() is not None for picture in pictures) <= 3
            return result

    run(make_video(), upscaler=Counting())
    assert len(pictures) == 25


def test_targets_that_are_not_videos_are_refused(make_video: Make) -> None:
    with pytest.raises(UsageError, match=r"videos are written as \.mp4"):
        run(make_video(), "out.avi")
