"""Which files are upscaled, where results are written, and that no file of the user is lost."""

import os
import signal
import sys
import time
import warnings
import zlib
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from rgt_arch.errors import UsageError
from rgt_arch.inference import batches, sharing
from rgt_arch.inference import jobs as jobs_module
from rgt_arch.inference.jobs import Outcome, run_jobs, upscale_files
from rgt_arch.inference.pictures import writing
from rgt_arch.inference.planning import Job, Output, Plan, plan_jobs
from rgt_arch.inference.upscaler import Upscaler

from .conftest import Enlarge, nan, never


@pytest.fixture
def photos(tmp_path):
    """A folder with pictures, a sub-folder, a text file and a hidden file."""
    folder = tmp_path / "photos"
    (folder / "süb").mkdir(parents=True)
    Image.fromarray(data.chelsea()[:20, :30]).save(folder / "cat.jpg")
    Image.fromarray(data.chelsea()[:12, :16]).save(folder / "süb/katze 1.png")
    (folder / "notes.txt").write_text("not a picture")
    (folder / ".hidden.png").write_bytes(b"")
    return folder


def targets(plan, folder):
    return sorted(str(job.target.relative_to(folder)) for job in plan.jobs)


def upscale(inputs, output=None, network=None, batch=1):
    """batch: as on a GPU; on a CPU it would be 1."""
    output = output or Output()
    upscaler = Upscaler(network or Enlarge(), device="cpu")
    upscaler.batch = batch
    return run_jobs(plan_jobs(inputs, output, 2, "net.pth"), lambda _: upscaler, output)


def counts(outcome):
    return len(outcome.made), len(outcome.there), len(outcome.failures)


# --- planning ---


def test_results_go_beside_a_file_and_into_a_new_folder_beside_a_folder(photos):
    assert targets(plan_jobs([photos / "cat.jpg"], Output(), 4), photos) == ["cat_x4.jpg"]
    assert targets(plan_jobs([photos], Output(), 4), photos.parent) == [
        "photos_x4/cat_x4.jpg",
        "photos_x4/süb/katze 1_x4.png",
    ]


@pytest.mark.parametrize(
    ("output", "name"),
    [
        ({"place": "o", "suffix": "out"}, "o/cat_out.jpg"),
        ({"place": "o", "suffix": ""}, "o/cat.jpg"),
        ({"place": "o", "extension": "png"}, "o/cat_x4.png"),
        ({"place": "o", "outscale": 2.5}, "o/cat_x2.5.jpg"),
        ({"place": "o", "width": 70}, "o/cat_width70.jpg"),
        ({"place": "o", "height": 70}, "o/cat_height70.jpg"),
        ({"place": "o", "long_side": 70}, "o/cat_long70.jpg"),
        ({"place": "big.webp"}, "big.webp"),
        ({"place": "out.new/"}, "out.new/cat_x4.jpg"),
        ({"place": "there.old"}, "there.old/cat_x4.jpg"),
        ({"place": "v1.5"}, "v1.5/cat_x4.jpg"),
    ],
)
def test_names_follow_place_suffix_extension_and_scale(photos, tmp_path, monkeypatch, output, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.old").mkdir()
    assert targets(plan_jobs([photos / "cat.jpg"], Output(**output), 4), Path()) == [name]


@pytest.mark.parametrize(
    ("inputs", "output", "text"),
    [
        (["photos"], {"place": "big.webp"}, "there are several inputs"),
        (["photos/cat.jpg"], {"place": "big.pgn"}, r"-o big.pgn: a picture can be written as .*\.webp.*; name one of"),
        (["photos/cat.jpg"], {"place": "big.gif"}, "-o big.gif: a picture can be written as"),
        (["photos/cat.jpg"], {"place": "b.png", "extension": "jpg"}, "names the format, and so does --ext"),
        (["photos/cat.jpg"], {"suffix": ""}, "is an input"),
        (["photos/cat.jpg"], {"place": "link", "suffix": ""}, "is an input"),
        (["photos/cat.jpg"], {"place": "photos/CAT_x2.jpg", "overwrite": True}, "is an input"),
        (["photos/cat.png", "photos/süb/cat.png"], {"place": "o"}, "would both become"),
        (["no such.png"], {}, "no such file or folder"),
        (["*.nothing"], {}, "no such file or folder"),
        (["~nobody of that name/cat.jpg"], {}, "no such file or folder"),
        ([""], {}, "an input is empty"),
        (["empty"], {}, "no pictures or videos to upscale"),
        ([], {"width": 0}, "--width is 0; it must be 1 or more"),
        ([], {"long_side": -5}, "--long-side is -5; it must be 1 or more"),
        ([], {"width": 9, "outscale": 2}, "exclude each other"),
        ([], {"quality": "best"}, "--quality is best; it must be from 1 to 100, or lossless"),
        ([], {"place": ""}, "-o is empty"),
        ([], {"place": "-"}, "-o -: results are not written to stdout"),
        (["texts"], {}, r"no pictures or videos to upscale; passed over: 2 \.heic, 1 \.jxl, 1 without a suffix"),
        ([], {"suffix": "/../evil"}, "--suffix is "),
        ([], {"suffix": "a\\b"}, "--suffix is "),
    ],
)
def test_invalid_inputs_and_outputs_end_in_one_line(photos, tmp_path, monkeypatch, inputs, output, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(photos)
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts/more").mkdir(parents=True)
    for name in ("a.heic", "a.jxl", "more/b.HEIC", "README", ".hidden"):
        (tmp_path / "texts" / name).touch()
    os.link(photos / "cat.jpg", photos / "CAT_x2.jpg")  # simulates a case-insensitive disk
    for name in ("cat.png", "süb/cat.png"):
        Image.new("RGB", (4, 4)).save(photos / name)
    with pytest.raises(UsageError, match=text):
        plan_jobs(inputs, Output(**output), 2)


def test_patterns_are_expanded_and_existing_names_are_not_patterns(photos):
    assert targets(plan_jobs([str(photos / "**/*.png")], Output(), 2), photos) == ["süb/katze 1_x2.png"]
    os.rename(photos / "cat.jpg", photos / "cat[1].jpg")
    assert targets(plan_jobs([photos / "cat[1].jpg"], Output(), 2), photos) == ["cat[1]_x2.jpg"]


def test_results_are_not_inputs_of_the_next_run(photos):
    inside = Output(photos / "big")
    assert counts(upscale([photos], inside)) == (2, 0, 0)
    assert counts(upscale([photos], inside)) == (0, 2, 0)
    pattern, beside = str(photos / "*.jpg"), Output(compare=True)
    assert counts(upscale([pattern], beside)) == (1, 0, 0)
    Image.fromarray(data.chelsea()[:9, :9]).save(photos / "new.jpg")
    assert counts(upscale([pattern], beside)) == (1, 1, 0)
    with pytest.raises(UsageError, match="is an input"):
        plan_jobs([pattern], Output(overwrite=True), 2)
    with pytest.raises(UsageError, match="is an input"):
        plan_jobs([photos / "cat.jpg", photos / "cat_x2_compare.png"], Output(compare=True, overwrite=True), 2)


def test_results_with_equal_names_are_distinguished_by_source_format(photos, tmp_path):
    Image.new("RGB", (4, 4)).save(photos / "cat.png")
    Image.new("RGB", (6, 6)).save(photos / "cat.gif")
    output = Output(tmp_path / "o", extension="png")
    plan = plan_jobs([photos], output, 2)
    assert targets(plan, tmp_path / "o") == ["cat_gif_x2.png", "cat_jpg_x2.png", "cat_x2.png", "süb/katze 1_x2.png"]
    assert counts(upscale([photos], output)) == (4, 0, 0)
    again = upscale([photos], output)
    assert counts(again) == (0, 4, 0)
    assert f"already there: {tmp_path / 'o'}" in again.line()


def test_comparisons_with_equal_names_are_distinguished_too(photos, tmp_path):
    Image.new("RGB", (4, 4)).save(photos / "cat.png")
    output = Output(tmp_path / "o", compare=True)
    assert counts(upscale([photos], output)) == (3, 0, 0)
    names = ["cat_jpg_x2.jpg", "cat_jpg_x2_compare.png", "cat_x2.png", "cat_x2_compare.png"]
    assert sorted(path.name for path in (tmp_path / "o").glob("cat*")) == names
    assert targets(plan_jobs([photos / "cat.jpg"], output, 2), tmp_path / "o") == ["cat_jpg_x2.jpg"]


def test_name_of_a_result_does_not_depend_on_the_other_inputs(photos):
    for suffix, names in (("auto", ["cat_x2.png", "cat_jpg_x2.png"]), ("", ["cat.png", "cat.png"])):
        for name in names:
            plan = plan_jobs([photos / "cat.jpg"], Output(extension="png", suffix=suffix), 2)
            assert targets(plan, photos) == [name]
            Image.new("RGB", (4, 4)).save(photos / "cat.png")
        (photos / "cat.png").unlink()


def test_kinds_are_recognised_by_content_not_by_suffix(photos, tmp_path):
    names = {".dat": "PNG", ".mp4": "PNG", ".png": "JPEG", ".jpg": "PNG", ".tif": "WEBP", "": "BMP"}
    for suffix, kind in names.items():
        Image.fromarray(data.chelsea()[:20, :30]).save(tmp_path / f"a{suffix}", format=kind)
    for suffix in (".jpg", ".dat", ".mkv"):
        with av.open(tmp_path / f"film{suffix}", "w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=10)
            stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(data.chelsea()[:16, :32], format="rgb24")))
            container.mux(stream.encode())
    inputs = [tmp_path / f"a{suffix}" for suffix in names] + sorted(tmp_path.glob("film.*"))
    (tmp_path / "text.jpg").write_text("neither")
    outcome = upscale([*inputs, tmp_path / "text.jpg"], Output(tmp_path / "o"))
    assert counts(outcome) == (9, 0, 1)
    assert [path.name for path in outcome.made] == [
        *("a_dat_x2.png", "a_mp4_x2.png", "a_x2.png", "a_x2.jpg", "a_x2.tif", "a__x2.png"),
        *("film_dat_x2.mp4", "film_jpg_x2.mp4", "film_x2.mkv"),
    ]
    assert "is truncated, damaged, or not a picture" in outcome.failures[0]


def test_files_given_twice_are_upscaled_once(photos, tmp_path):
    (tmp_path / "link").symlink_to(photos)
    inputs = [photos / "cat.jpg", str(photos / "*.jpg"), tmp_path / "link/cat.jpg"]
    assert len(plan_jobs(inputs, Output(tmp_path / "o"), 2).jobs) == 1


def test_links_to_folders_are_followed_and_empty_folders_are_skipped(photos, tmp_path):
    (tmp_path / "more").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "more/dog.png")
    (photos / "link").symlink_to(tmp_path / "more")
    (photos / "link up").symlink_to(photos)
    (photos / "empty").mkdir()
    plan = plan_jobs([photos, photos / "empty"], Output(tmp_path / "o"), 2)
    assert targets(plan, tmp_path / "o") == ["cat_x2.jpg", "link/dog_x2.png", "süb/katze 1_x2.png"]


# --- no file is lost ---


def test_existing_outputs_are_kept_without_overwrite(photos):
    theirs = photos / "cat_x2.jpg"
    theirs.write_bytes(b"mine")
    assert counts(upscale([photos / "cat.jpg"])) == (0, 1, 0)
    assert theirs.read_bytes() == b"mine"
    assert counts(upscale([photos / "cat.jpg"], Output(overwrite=True))) == (1, 0, 0)
    with Image.open(theirs) as result:
        assert result.size == (60, 40)
    theirs.unlink()
    theirs.symlink_to(photos / "on another disk.jpg")
    assert counts(upscale([photos / "cat.jpg"])) == (0, 1, 0)
    assert theirs.is_symlink()


def test_two_jobs_with_one_target_do_not_overwrite_each_other(photos, tmp_path):
    target = tmp_path / "cat_x2.jpg"
    jobs = [Job(photos / "cat.jpg", target), Job(photos / "süb/katze 1.png", target)]
    for output in (Output(), Output(overwrite=True)):
        outcome = run_jobs(Plan(jobs), lambda _: Upscaler(Enlarge(), device="cpu"), output)
        assert counts(outcome) == (1, 0, 1)
        assert "another program made it during this run" in outcome.failures[0]
        with Image.open(target) as result:
            assert result.size == (60, 40)
        target.unlink()


def interrupt(image):
    raise KeyboardInterrupt


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("abort", [nan, interrupt])
def test_aborted_run_leaves_no_output_and_no_partial_file(photos, tmp_path, abort, batch):
    Image.fromarray(data.chelsea()[20:40, :30]).save(photos / "cat 2.jpg")
    network = Enlarge(abort)
    if abort is interrupt:
        with pytest.raises(KeyboardInterrupt):
            upscale([photos], Output(tmp_path / "o"), network, batch)
    else:
        assert counts(upscale([photos], Output(tmp_path / "o"), network, batch)) == (0, 0, 3)
    assert network.seen[0] == (batch, 20, 30)
    assert [path for path in (tmp_path / "o").rglob("*") if path.is_file()] == []


# --- failures and notices ---


def test_bad_files_are_named_and_the_others_are_upscaled(photos, tmp_path, capsys):
    header = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + (30000).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0"
    bogus = header + zlib.crc32(header[12:]).to_bytes(4, "big")  # a header may claim any size
    (photos / "bad.png").write_bytes(bogus)
    (photos / "empty.tif").write_bytes(b"")
    outcome = upscale([photos], Output(tmp_path / "o"))
    assert (*counts(outcome), outcome.exit_code) == (2, 0, 2, 1)
    assert [line.split(": ")[0] for line in outcome.failures] == [str(photos / "bad.png"), str(photos / "empty.tif")]
    assert sorted(path.name for path in (tmp_path / "o").rglob("*.*")) == ["cat_x2.jpg", "katze 1_x2.png"]
    told = capsys.readouterr().err
    assert all(told.count(failure) == 1 for failure in outcome.failures)
    assert outcome.line().startswith(f"2 made, 0 already there, 2 failed: {tmp_path / 'o'}\n  ")
    assert f"{20 * 30 + 12 * 16}/{20 * 30 + 12 * 16}" in told.splitlines()[-1], "the bar counts pixels that were done"


def _without_access(folder, monkeypatch):
    """Deny access to a folder; the tests may run as root, who has it always."""
    scandir = os.scandir

    def refusing(path):
        if os.fspath(path) == str(folder):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)


def test_a_folder_that_cannot_be_listed_is_one_failure_among_others(photos, tmp_path, monkeypatch, capsys):
    (photos / "lost+found").mkdir()
    _without_access(photos / "lost+found", monkeypatch)
    outcome = upscale([photos], Output(tmp_path / "o"))
    failure = f"{photos / 'lost+found'}: cannot be listed (Permission denied)"
    assert (*counts(outcome), outcome.failures, outcome.exit_code) == (2, 0, 1, [failure], 1)
    assert capsys.readouterr().err.count(failure) == 1
    assert outcome.line().splitlines()[1:] == ["  passed over: 1 .txt", f"  {failure}"]
    alone = upscale([photos / "lost+found"], Output(tmp_path / "o"))
    assert alone.failures == [failure]


def test_an_error_of_the_system_is_a_failure_of_one_file(photos, tmp_path, monkeypatch):
    def read_picture(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(batches, "read_picture", read_picture)
    assert counts(upscale([photos], Output(tmp_path / "o"))) == (0, 0, 2)


def test_the_summary_counts_notices_and_on_a_terminal_repeats_no_failure(photos, tmp_path, monkeypatch, capsys):
    Image.fromarray(data.chelsea()[:9, :9]).save(photos / "a.jpg", exif=b"Exif\0\0nonsense")
    (photos / "b.png").write_bytes(b"damaged")
    for name in ("c.heic", "d.jxl", "süb/e.HEIC"):
        (photos / name).touch()
    outcome = upscale([photos], Output(tmp_path / "o"))
    line = outcome.line()
    assert line.startswith(f"3 made, 0 already there, 1 failed, 1 notice: {tmp_path / 'o'}\n")
    assert "\n  passed over: 2 .heic, 1 .jxl, 1 .txt\n" in line
    assert outcome.failures[0] in line
    for stream in (sys.stdout, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    assert outcome.failures[0] not in outcome.line()
    assert "passed over: 2 .heic" in outcome.line()


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_a_picture_that_does_not_fit_into_memory_does_not_stop_the_others(photos, tmp_path, monkeypatch, error):
    def write_picture(path, *arguments, **options):
        if path.suffix == ".jpg":
            raise error
        return writing.write_picture(path, *arguments, **options)

    monkeypatch.setattr(jobs_module, "write_picture", write_picture)
    outcome = upscale([photos], Output(tmp_path / "o"))
    assert len(outcome.made) == 1
    assert outcome.failures == [f"{photos / 'cat.jpg'}: does not fit into memory"]


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ({"place": "wide.webp"}, "16383"),
        ({"place": Path("o" * 300)}, "File name too long"),
        ({"suffix": "s" * 300}, "File name too long"),
        ({"place": "taken.png", "overwrite": True}, "is a folder"),
        ({"place": "photos/cat.jpg/o.png"}, "cannot be made"),
    ],
)
def test_unwritable_targets_are_reported_before_upscaling(photos, tmp_path, monkeypatch, output, text):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (9000, 4)).save("wide.png")
    Path("taken.png/x").mkdir(parents=True)
    options = Output(**output)
    target = Path("taken.png") if text == "is a folder" else plan_jobs(["wide.png"], options, 2).jobs[0].target
    plan = Plan([Job(Path("wide.png"), target, exists=os.path.lexists(target))])
    outcome = run_jobs(plan, lambda _: Upscaler(Enlarge(never), device="cpu"), options)
    assert text in outcome.failures[0]


def test_failures_of_files_with_undecodable_names_can_be_printed():
    assert Outcome(failures=["\udcff.png: is damaged"]).line().encode().endswith(b"\\udcff.png: is damaged")


def test_a_notice_that_repeats_for_every_frame_is_printed_once(photos, tmp_path, capsys):
    def tell(image):
        for _ in range(50):
            warnings.warn("NaN in every frame", stacklevel=1)
        return image

    upscale([photos / "cat.jpg"], Output(tmp_path / "o"), Enlarge(tell))
    assert capsys.readouterr().err.count("NaN in every frame") == 1


# --- weights ---


@pytest.fixture
def kinds(tmp_path):
    """A folder for lossy files and a folder for others; a suffix is not always that of the content."""
    lossy, others = tmp_path / "lossy", tmp_path / "others"
    cat = Image.fromarray(data.chelsea()[:16, :32])
    for folder in (lossy, others):
        folder.mkdir()
    for name, kind in (("a.jpg", "JPEG"), ("b.png", "JPEG"), ("c.webp", "WEBP"), ("d.avif", "AVIF")):
        cat.save(lossy / name, format=kind)
    cat.save(lossy / "profile.webp", icc_profile=bytes(1000))
    with av.open(lossy / "e.mp4", "w") as container:
        stream = container.add_stream("libx264", rate=1)
        stream.width, stream.height = cat.size
        container.mux([*stream.encode(av.VideoFrame.from_image(cat)), *stream.encode()])
    cat.save(others / "f.png")
    cat.save(others / "g.jpg", format="PNG")
    cat.save(others / "h.webp", lossless=True, icc_profile=bytes(1000))
    cat.save(others / "i.tif")
    (others / "damaged.jpg").write_bytes(b"RIFF")
    return lossy, others


def test_weights_are_chosen_by_the_content_of_each_file(kinds):
    for folder, weights in zip(kinds, ("RGT_T_x4_photo", "RGT_T_x4"), strict=True):
        jobs = plan_jobs([folder], Output(), 4).jobs
        assert {job.source: job.weights for job in jobs} == dict.fromkeys(folder.iterdir(), weights)
    assert {job.weights for job in plan_jobs(kinds, Output(), 2, "mine.pth").jobs} == {"mine.pth"}


def test_chosen_weights_are_loaded_once_and_named_in_one_line(kinds, tmp_path, capsys, monkeypatch):
    loaded = []

    def load(weights, **options):
        loaded.append((weights, options))
        return Upscaler(Enlarge(), **options)

    monkeypatch.setattr(jobs_module, "Upscaler", load)

    def run(inputs, weights=None):
        loaded.clear()
        outcome = upscale_files(inputs, Output(tmp_path / f"o{weights}"), weights, device="cpu")
        assert all(options == {"device": "cpu"} for _, options in loaded)
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("weights for ")]
        return counts(outcome), [weights for weights, _ in loaded], lines

    photo = "weights for JPEG, lossy WebP, AVIF and videos: RGT_T_x4_photo; -w chooses others"
    clean = "weights for PNG and other pictures: RGT_T_x4; -w chooses others"
    assert run([kinds[0] / "a.jpg"]) == ((1, 0, 0), ["RGT_T_x4_photo"], [photo])
    assert run(kinds) == ((9, 1, 1), ["RGT_T_x4_photo", "RGT_T_x4"], [photo, clean])
    assert run([kinds[0]]) == ((0, 6, 0), [], [])
    assert run(kinds, "RGT_T_x4") == ((10, 0, 1), ["RGT_T_x4"], [])


# --- batches ---


def nan_if_red(image):
    """NaN for images whose first pixel is red."""
    is_red = (image[..., 0, 0] == torch.tensor([1, 0, 0])).all(1)
    return image.masked_fill(is_red[:, None, None, None], torch.nan)


def batches_of(network):
    return [count for count, *_ in network.seen]


def folder_of(tmp_path, **pictures):
    for name, pixels in pictures.items():
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    return sorted(tmp_path.glob("*.png"))


def test_pictures_of_equal_size_are_enlarged_together_with_the_results_of_single_ones(tmp_path):
    cats = {f"a{n}": data.chelsea()[n : n + 20, 100:130] for n in range(5)}
    grey, turned = data.camera()[:20, :30], data.chelsea()[:30, :20]
    icons = {f"d{n}": np.dstack([cats[f"a{n}"], np.full((20, 30), 255, np.uint8)]) for n in range(3)}
    icons["d1"][3:9, 5:12, 3] = 0  # only its alpha is enlarged by the network
    inputs = folder_of(tmp_path, **cats, b0=grey, c0=turned, **icons)
    names = {}
    for batch, sizes in ((1, [1] * 11), (3, [3, 2, 1, 1, 3, 1])):
        outcome = upscale(inputs, Output(tmp_path / f"{batch}", compare=True), network := Enlarge(), batch)
        assert (counts(outcome), batches_of(network)) == ((10, 0, 0), sizes)
        names[batch] = {path.name: path.read_bytes() for path in (tmp_path / f"{batch}").iterdir()}
    assert len(names[1]) == 20
    assert names[3] == names[1]


def test_pictures_that_fail_in_a_batch_fail_alone(tmp_path, capsys):
    cats = {f"{n}": data.chelsea()[n : n + 20, 100:130].copy() for n in range(9)}
    cats["4"][0, 0] = 255, 0, 0
    inputs = folder_of(tmp_path, **cats)
    inputs[1].write_bytes(inputs[1].read_bytes()[:-200])  # truncated
    Image.fromarray(cats["7"]).save(tmp_path / "7.png", exif=b"Exif\0\0nonsense")
    outcome = upscale(inputs, Output(tmp_path / "o"), network := Enlarge(nan_if_red), 4)
    assert counts(outcome) == (7, 0, 2)
    assert [line.split(": ")[0] for line in outcome.failures] == [str(inputs[1]), str(inputs[4])]
    assert "not finite" in outcome.failures[1]
    assert batches_of(network) == [4, 2, 4, 2, 1, 4, 2, 1, 4]  # halved three times until number 4 is alone
    told = capsys.readouterr().err
    assert told.count("EXIF data, which is damaged") == told.count(f"{inputs[7]}: ") == 1
    assert told.count("4.20k/4.20k") == 1, "the bar ends with the pixels that were done"


def test_pictures_of_different_upscalers_are_not_a_batch(tmp_path):
    inputs = folder_of(tmp_path, **{f"{n}": data.chelsea()[n : n + 20, 100:130] for n in range(4)})
    jobs = plan_jobs(inputs, Output(), 2).jobs
    one, two = (Upscaler(Enlarge(), device="cpu") for _ in range(2))
    one.batch = two.batch = 4
    prepared = batches.Batches(range(4), jobs, [one, one, two, two], Output(), 4)
    for number in prepared:
        prepared.enlarged(number, lambda *_: None)
    assert batches_of(one.network) == batches_of(two.network) == [2]


def test_a_batch_leaves_other_processes_their_share_and_ends_with_the_run(tmp_path, capsys):
    def end(image):
        signal.raise_signal(signal.SIGUSR1)
        while not crew.is_ended:
            time.sleep(0.01)
        return image

    inputs = folder_of(tmp_path, **{f"{n}": data.chelsea()[n : n + 20, 100:130] for n in range(6)})
    running, output = Upscaler(Enlarge(end), device="cpu"), Output(tmp_path / "o")
    running.batch = 8
    crew = sharing.Crew(torch.distributed.HashStore(), 0, 2, outlives=False)
    before = signal.signal(signal.SIGUSR1, lambda *_: None)  # as one whose exception is lost
    try:
        plan = plan_jobs(inputs, output, 2)
        with pytest.raises(SystemExit):
            run_jobs(plan, lambda _: running, output, crew=crew)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert batches_of(running.network) == [3]
    assert len(list((tmp_path / "o").iterdir())) == 1
    assert "0 made, 0 already there, 3 failed, 3 not begun" in capsys.readouterr().out


# --- results ---


@pytest.mark.parametrize(("mode", "folder_mode"), [(0o600, 0o700), (0o640, 0o750), (0o644, 0o755), (0o444, 0o555)])
def test_results_are_accessible_to_no_more_users_than_their_sources(photos, mode, folder_mode):
    before = os.umask(0o022)
    try:
        (photos / "cat.jpg").chmod(mode)
        photos.chmod(folder_mode)
        upscale([photos], Output(compare=True))
        made = photos.with_name("photos_x2")
        for path in (made / "cat_x2.jpg", made / "cat_x2_compare.png"):
            assert path.stat().st_mode & 0o777 == mode | 0o600
        assert made.stat().st_mode & 0o777 == folder_mode | 0o700
        assert (made / "süb/katze 1_x2.png").stat().st_mode & 0o777 == 0o644
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)
        photos.chmod(0o755)


def test_pixels_and_exif_reach_the_output(tmp_path):
    exif = Image.Exif()
    exif[0x10E] = "my cat"
    Image.fromarray(data.chelsea()[:20, :30]).save(tmp_path / "a.png", exif=exif)
    upscale([tmp_path / "a.png"])
    with Image.open(tmp_path / "a_x2.png") as result:
        np.testing.assert_array_equal(result, data.chelsea()[:20, :30].repeat(2, 0).repeat(2, 1))
        assert result.getexif()[0x10E] == "my cat"


@pytest.mark.parametrize(
    ("output", "sizes"),
    [
        ({"width": 77}, [(77, 51), (77, 58)]),
        ({"height": 31}, [(46, 31), (41, 31)]),
        ({"long_side": 61}, [(61, 41), (61, 46)]),
        ({"long_side": 15}, [(15, 10), (15, 11)]),
    ],
)
def test_a_side_in_pixels_gives_results_of_that_size_and_the_same_aspect(photos, output, sizes):
    outcome = upscale([photos], Output(**output))
    for path, size in zip(outcome.made, sizes, strict=True):
        with Image.open(path) as result:
            assert result.size == size


def test_a_side_far_above_the_input_is_refused(photos):
    outcome = upscale([photos / "süb"], Output(width=600), Enlarge(never))
    assert "--width 600 is more than 32 times its 16 pixels" in outcome.failures[-1]


def test_comparison_shows_bicubic_beside_the_result_and_overwrites_no_file(photos, capsys):
    upscale([photos / "cat.jpg"], Output(compare=True))
    comparison = photos / "cat_x2_compare.png"
    with Image.open(comparison) as sheet, Image.open(photos / "cat.jpg") as source:
        bicubic = source.resize((60, 40), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(np.asarray(sheet)[:40, :60], bicubic)
        assert sheet.width > 120
        assert sheet.height > 40
    (photos / "cat_x2.jpg").unlink()
    comparison.write_bytes(b"mine")
    assert counts(upscale([photos / "cat.jpg"], Output(compare=True))) == (1, 0, 0)
    assert comparison.read_bytes() == b"mine"
    assert "was left as it is" in capsys.readouterr().err
