"""Which files are upscaled, where results go, and that nothing of the user's is lost."""

import os
import tracemalloc
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from rgt_arch.errors import UsageError
from rgt_arch.inference import jobs as jobs_module
from rgt_arch.inference.jobs import Outcome, run_jobs
from rgt_arch.inference.pictures import writing
from rgt_arch.inference.planning import Job, Output, plan_jobs
from rgt_arch.inference.upscaler import Upscaler


class Enlarge(torch.nn.Module):
    """Repeats pixels."""

    upscale, in_chans, embed_dim = 2, 3, 8

    def forward(self, image):
        return image.repeat_interleave(2, -2).repeat_interleave(2, -1)


@pytest.fixture
def upscaler():
    return Upscaler(Enlarge(), device="cpu")


@pytest.fixture
def photos(tmp_path):
    """A folder as people have it."""
    folder = tmp_path / "photos"
    (folder / "süb").mkdir(parents=True)
    Image.fromarray(data.chelsea()[:20, :30]).save(folder / "cat.jpg")
    Image.fromarray(data.chelsea()[:12, :16]).save(folder / "süb/katze 1.png")
    (folder / "notes.txt").write_text("no picture")
    (folder / ".hidden.png").write_bytes(b"")
    return folder


def targets(jobs, folder):
    return sorted(str(job.target.relative_to(folder)) for job in jobs)


def test_a_file_goes_beside_itself_and_a_folder_into_one_named_like_it(photos):
    assert targets(plan_jobs([photos / "cat.jpg"], Output(), 4), photos) == ["cat_x4.jpg"]
    assert targets(plan_jobs([photos], Output(), 4), photos.parent) == [
        "photos_x4/cat_x4.jpg",
        "photos_x4/süb/katze 1_x4.png",
    ]


@pytest.mark.parametrize(
    ("output", "name"),
    [
        ({"suffix": "out"}, "cat_out.jpg"),
        ({"suffix": ""}, "cat.jpg"),
        ({"extension": "png"}, "cat_x4.png"),
        ({"outscale": 2.5}, "cat_x2.5.jpg"),
    ],
)
def test_names_follow_suffix_extension_and_scale(photos, tmp_path, output, name):
    jobs = plan_jobs([photos / "cat.jpg"], Output(tmp_path / "o", **output), 4)
    assert targets(jobs, tmp_path) == [f"o/{name}"]


def test_one_input_can_be_given_a_file_name_several_cannot(photos, tmp_path):
    assert plan_jobs([photos / "cat.jpg"], Output(tmp_path / "big.webp"), 4)[0].target == tmp_path / "big.webp"
    with pytest.raises(UsageError, match="there are several inputs"):
        plan_jobs([photos], Output(tmp_path / "big.webp"), 4)


def test_a_name_that_seems_to_be_a_file_of_an_unknown_kind_is_no_folder_but_with_a_slash(photos, tmp_path):
    for name in ("big.pgn", "big.gif"):
        with pytest.raises(
            UsageError, match=rf"-o .*{name}: a picture can be written as .*\.webp.*; name one of these"
        ):
            plan_jobs([photos / "cat.jpg"], Output(tmp_path / name), 4)
    (tmp_path / "there.old").mkdir()
    with pytest.raises(UsageError, match="names the format, and so does --ext"):
        plan_jobs([photos / "cat.jpg"], Output(tmp_path / "big.png", extension="jpg"), 4)
    for name in ("out.new/", "there.old", "v1.5"):
        jobs = plan_jobs([photos / "cat.jpg"], Output(f"{tmp_path}/{name}"), 4)
        assert targets(jobs, tmp_path) == [f"{name.strip('/')}/cat_x4.jpg"]
    with pytest.raises(UsageError, match="-o is empty"):
        Output("")


def test_patterns_are_expanded_and_existing_names_are_not_patterns(photos):
    assert targets(plan_jobs([str(photos / "**/*.png")], Output(), 2), photos) == ["süb/katze 1_x2.png"]
    os.rename(photos / "cat.jpg", photos / "cat[1].jpg")
    assert targets(plan_jobs([photos / "cat[1].jpg"], Output(), 2), photos) == ["cat[1]_x2.jpg"]


def test_results_inside_the_input_folder_are_no_inputs_of_the_next_run(photos, upscaler):
    output = Output(photos / "big")
    assert run_jobs(plan_jobs([photos], output, 2), upscaler, output).made == 2
    again = run_jobs(plan_jobs([photos], output, 2), upscaler, output)
    assert (again.made, again.skipped) == (0, 2)


def test_results_beside_their_inputs_are_no_inputs_of_the_next_run(photos, upscaler):
    output = Output(compare=True)
    pattern = str(photos / "*.jpg")
    assert run_jobs(plan_jobs([pattern], output, 2), upscaler, output).made == 1
    Image.fromarray(data.chelsea()[:9, :9]).save(photos / "new.jpg")
    again = run_jobs(plan_jobs([pattern], output, 2), upscaler, output)
    assert (again.made, again.skipped, again.failures) == (1, 1, [])
    with pytest.raises(UsageError, match="is an input"):
        plan_jobs([pattern], Output(overwrite=True), 2)


def test_comparisons_are_made_of_results_that_are_there_already(photos, upscaler, capsys):
    jobs = plan_jobs([photos / "cat.jpg"], Output(), 2)
    run_jobs(jobs, upscaler, Output())
    before = (photos / "cat_x2.jpg").stat()
    outcome = run_jobs(jobs, upscaler, Output(compare=True))
    assert (outcome.made, outcome.skipped, outcome.failures) == (0, 1, [])
    assert (photos / "cat_x2.jpg").stat() == before
    with Image.open(photos / "cat_x2_compare.png") as sheet:
        assert sheet.width > 2 * 60
    assert "cat_x2_compare.png" in capsys.readouterr().err


def test_an_empty_name_is_not_the_current_folder(photos, monkeypatch):
    monkeypatch.chdir(photos)
    with pytest.raises(UsageError, match="an input is empty"):
        plan_jobs([""], Output(), 2)


@pytest.mark.parametrize("suffix", ["/../evil", "a/b", "a\\b"])
def test_a_suffix_names_no_folder(suffix):
    with pytest.raises(UsageError, match="--suffix is "):
        Output(suffix=suffix)


@pytest.mark.parametrize("arguments", [["no such.png"], ["*.nothing"]])
def test_missing_inputs_are_named(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="no such file or folder"):
        plan_jobs(arguments, Output(), 2)


def test_outputs_never_are_inputs_or_one_file_for_two(photos, tmp_path):
    with pytest.raises(UsageError, match="is an input"):
        plan_jobs([photos / "cat.jpg"], Output(suffix=""), 2)
    (tmp_path / "link").symlink_to(photos)
    with pytest.raises(UsageError, match="is an input"):
        plan_jobs([photos / "cat.jpg"], Output(tmp_path / "link", suffix=""), 2)
    Image.new("RGB", (4, 4)).save(photos / "katze 1.png")
    with pytest.raises(UsageError, match="would both become"):
        plan_jobs([photos / "katze 1.png", photos / "süb/katze 1.png"], Output(tmp_path / "o"), 2)


def test_results_of_one_name_are_told_apart_by_their_formats(photos, tmp_path, upscaler):
    Image.new("RGB", (4, 4)).save(photos / "cat.png")
    Image.new("RGB", (6, 6)).save(photos / "cat.gif")
    output = Output(tmp_path / "o", extension="png")
    jobs = plan_jobs([photos], output, 2)
    assert targets(jobs, tmp_path / "o") == ["cat_gif_x2.png", "cat_jpg_x2.png", "cat_x2.png", "süb/katze 1_x2.png"]
    assert run_jobs(jobs, upscaler, output).made == 4
    again = run_jobs(plan_jobs([photos], output, 2), upscaler, output)
    assert (again.made, again.skipped, again.failures) == (0, 4, [])
    assert f"already there: {tmp_path / 'o'}" in again.line()


def test_a_result_s_name_does_not_depend_on_the_other_inputs(photos):
    Image.new("RGB", (4, 4)).save(photos / "cat.png")
    assert targets(plan_jobs([photos / "cat.jpg"], Output(extension="png"), 2), photos) == ["cat_jpg_x2.png"]
    (photos / "cat.png").unlink()
    assert targets(plan_jobs([photos / "cat.jpg"], Output(extension="png"), 2), photos) == ["cat_x2.png"]
    same = Output(extension="png", suffix="")
    for _ in range(2):
        assert targets(plan_jobs([photos / "cat.jpg"], same, 2), photos) == ["cat.png"]
        (photos / "cat.png").touch()


def test_an_output_that_is_an_input_by_another_name_is_refused(photos):
    """A hard link stands in for a disk that ignores upper and lower case."""
    os.link(photos / "cat.jpg", photos / "CAT_x2.jpg")
    with pytest.raises(UsageError, match="is an input"):
        plan_jobs([photos / "cat.jpg"], Output(photos / "CAT_x2.jpg", overwrite=True), 2)


def test_two_names_that_the_disk_takes_for_one_lose_nothing(photos, tmp_path, upscaler):
    target = tmp_path / "cat_x2.jpg"
    jobs = [Job(photos / "cat.jpg", target), Job(photos / "süb/katze 1.png", target)]
    for output in (Output(), Output(overwrite=True)):
        outcome = run_jobs(jobs, upscaler, output)
        assert outcome.made == 1
        assert "is already the result of another input" in outcome.failures[0]
        with Image.open(target) as result:
            assert result.size == (60, 40)
        target.unlink()


def test_outputs_that_appear_during_the_work_are_left(photos, tmp_path, upscaler):
    target = tmp_path / "katze 1_x2.png"

    class Slow(Enlarge):
        def forward(self, image):
            target.write_bytes(b"mine")
            return super().forward(image)

    jobs = plan_jobs([photos / "cat.jpg", photos / "süb/katze 1.png"], Output(tmp_path), 2)
    outcome = run_jobs(jobs, Upscaler(Slow(), device="cpu"), Output(tmp_path))
    assert (outcome.made, len(outcome.failures)) == (1, 1)
    assert target.read_bytes() == b"mine"


def test_a_link_that_leads_nowhere_is_not_replaced(photos, upscaler):
    (photos / "cat_x2.jpg").symlink_to(photos / "on another disk.jpg")
    assert run_jobs(plan_jobs([photos / "cat.jpg"], Output(), 2), upscaler, Output()).skipped == 1
    assert (photos / "cat_x2.jpg").is_symlink()


def test_files_that_are_named_twice_are_done_once(photos, tmp_path):
    (tmp_path / "link").symlink_to(photos)
    inputs = [photos / "cat.jpg", str(photos / "*.jpg"), tmp_path / "link/cat.jpg"]
    assert len(plan_jobs(inputs, Output(tmp_path / "o"), 2)) == 1


def test_links_to_folders_are_followed_and_empty_folders_are_nothing(photos, tmp_path):
    (tmp_path / "more").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "more/dog.png")
    (photos / "link").symlink_to(tmp_path / "more")
    (photos / "link up").symlink_to(photos)
    (photos / "empty").mkdir()
    jobs = plan_jobs([photos, photos / "empty"], Output(tmp_path / "o"), 2)
    assert targets(jobs, tmp_path / "o") == ["cat_x2.jpg", "link/dog_x2.png", "süb/katze 1_x2.png"]


@pytest.mark.parametrize("output", [{"place": "o" * 300}, {"suffix": "s" * 300}])
def test_names_that_are_too_long_are_said_to_be(photos, tmp_path, upscaler, monkeypatch, output):
    monkeypatch.chdir(tmp_path)
    if "place" in output:
        output = {"place": Path(output["place"])}
    outcome = run_jobs(plan_jobs([photos / "cat.jpg"], Output(**output), 2), upscaler, Output(**output))
    assert "File name too long" in outcome.failures[0]


def test_homes_of_nobody_are_missing_files():
    with pytest.raises(UsageError, match="no such file or folder"):
        plan_jobs(["~nobody of that name/cat.jpg"], Output(), 2)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_a_picture_that_does_not_fit_into_memory_does_not_stop_the_others(
    photos, tmp_path, upscaler, monkeypatch, error
):
    def write_picture(path, *arguments, **options):
        if path.suffix == ".jpg":
            raise error
        return writing.write_picture(path, *arguments, **options)

    monkeypatch.setattr(jobs_module, "write_picture", write_picture)
    output = Output(tmp_path / "o")
    outcome = run_jobs(plan_jobs([photos], output, 2), upscaler, output)
    assert outcome.made == 1
    assert outcome.failures == [f"{photos / 'cat.jpg'}: does not fit into memory"]


def test_failures_of_files_with_broken_names_can_be_printed():
    assert Outcome(failures=["\udcff.png: is damaged"]).line().encode().endswith(b"\\udcff.png: is damaged")


def test_notices_that_repeat_for_every_frame_take_no_memory(photos, tmp_path, upscaler, capsys):
    class Telling(Enlarge):
        peak = 0

        def forward(self, image):
            tracemalloc.start()
            for _ in range(5000):
                warnings.warn("NaN in every frame", stacklevel=1)
            Telling.peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            return super().forward(image)

    output = Output(tmp_path / "o")
    run_jobs(plan_jobs([photos / "cat.jpg"], output, 2), Upscaler(Telling(), device="cpu"), output)
    assert capsys.readouterr().err.count("NaN in every frame") == 1
    assert Telling.peak < 200_000


def test_pixels_profile_and_exif_reach_the_output(photos, tmp_path, upscaler):
    source = tmp_path / "a.png"
    exif = Image.Exif()
    exif[0x10E] = "my cat"
    Image.fromarray(data.chelsea()[:20, :30]).save(source, exif=exif)
    run_jobs(plan_jobs([source], Output(), 2), upscaler, Output())
    with Image.open(tmp_path / "a_x2.png") as result:
        np.testing.assert_array_equal(result, data.chelsea()[:20, :30].repeat(2, 0).repeat(2, 1))
        assert result.getexif()[0x10E] == "my cat"


def test_bad_files_are_named_the_rest_is_done(photos, tmp_path, upscaler, capsys):
    (photos / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (photos / "empty.tif").write_bytes(b"")
    output = Output(tmp_path / "o")
    outcome = run_jobs(plan_jobs([photos], output, 2), upscaler, output)
    assert (outcome.made, outcome.exit_code) == (2, 1)
    assert [line.split(": ")[0] for line in outcome.failures] == [str(photos / "bad.png"), str(photos / "empty.tif")]
    assert sorted(path.name for path in (tmp_path / "o").rglob("*.*")) == ["cat_x2.jpg", "katze 1_x2.png"]
    told = capsys.readouterr().err
    assert all(told.count(failure) == 1 for failure in outcome.failures)
    assert outcome.line().startswith(f"2 made, 0 already there, 2 failed: {tmp_path / 'o'}\n  ")


def test_existing_outputs_are_left_unless_they_may_be_replaced(photos, upscaler):
    theirs = photos / "cat_x2.jpg"
    theirs.write_bytes(b"mine")
    jobs = plan_jobs([photos / "cat.jpg"], Output(), 2)
    assert run_jobs(jobs, upscaler, Output()).skipped == 1
    assert theirs.read_bytes() == b"mine"
    assert run_jobs(jobs, upscaler, Output(overwrite=True)).made == 1
    with Image.open(theirs) as result:
        assert result.size == (60, 40)


def test_what_a_format_cannot_hold_is_said_before_the_work(photos, tmp_path):
    class Counting(Enlarge):
        runs = 0

        def forward(self, image):
            Counting.runs += 1
            return super().forward(image)

    Image.new("RGB", (9000, 4)).save(tmp_path / "wide.png")
    output = Output(tmp_path / "wide.webp")
    outcome = run_jobs(plan_jobs([tmp_path / "wide.png"], output, 2), Upscaler(Counting(), device="cpu"), output)
    assert "16383" in outcome.failures[0]
    assert Counting.runs == 0


@pytest.mark.parametrize("taken", ["folder", "file above"])
def test_a_place_that_cannot_be_written_is_said_before_the_work(photos, tmp_path, taken):
    class Never(Enlarge):
        def forward(self, image):
            raise AssertionError("worked for nothing")

    target = tmp_path / "o.png" if taken == "folder" else photos / "süb/katze 1.png/o.png"
    if taken == "folder":
        target.mkdir()
    outcome = run_jobs([Job(photos / "cat.jpg", target)], Upscaler(Never(), device="cpu"), Output(overwrite=True))
    assert {"folder": "is a folder", "file above": "katze 1.png is a file, not a folder"}[taken] in outcome.failures[0]


def test_what_fails_is_no_work_of_the_bar(photos, tmp_path, upscaler, capsys):
    """A header may claim any size."""
    header = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + (30000).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0"
    (photos / "a bogus.png").write_bytes(header + zlib.crc32(header[12:]).to_bytes(4, "big"))
    output = Output(tmp_path / "o")
    assert run_jobs(plan_jobs([photos], output, 2), upscaler, output).made == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "100%" in last
    assert "792/792" in last


def test_a_failed_run_leaves_neither_output_nor_leftovers(photos, tmp_path):
    class Broken(Enlarge):
        def forward(self, image):
            return super().forward(image) * float("nan")

    output = Output(tmp_path / "o")
    outcome = run_jobs(plan_jobs([photos], output, 2), Upscaler(Broken(), device="cpu"), output)
    assert len(outcome.failures) == 2
    assert [path for path in (tmp_path / "o").rglob("*") if path.is_file()] == []


def test_an_interrupted_run_leaves_neither_output_nor_leftovers(photos, tmp_path):
    class Interrupted(Enlarge):
        def forward(self, image):
            raise KeyboardInterrupt

    output = Output(tmp_path / "o")
    with pytest.raises(KeyboardInterrupt):
        run_jobs(plan_jobs([photos], output, 2), Upscaler(Interrupted(), device="cpu"), output)
    assert [path for path in (tmp_path / "o").rglob("*") if path.is_file()] == []


def test_comparison_shows_bicubic_beside_the_result(photos, upscaler):
    output = Output(compare=True)
    run_jobs(plan_jobs([photos / "cat.jpg"], output, 2), upscaler, output)
    with Image.open(photos / "cat_x2_compare.png") as sheet, Image.open(photos / "cat.jpg") as source:
        bicubic = source.resize((60, 40), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(np.asarray(sheet)[:40, :60], bicubic)
        assert sheet.width > 120
        assert sheet.height > 40


def test_comparisons_replace_nothing_and_are_no_inputs(photos, upscaler, capsys):
    theirs = photos / "cat_x2_compare.png"
    theirs.write_bytes(b"mine")
    output = Output(compare=True)
    assert run_jobs(plan_jobs([photos / "cat.jpg"], output, 2), upscaler, output).made == 1
    assert theirs.read_bytes() == b"mine"
    assert "was left as it is" in capsys.readouterr().err
    with pytest.raises(UsageError, match="is an input"):
        plan_jobs([photos / "cat.jpg", theirs], Output(compare=True, overwrite=True), 2)


def test_progress_covers_the_pixels_of_all_files(photos, upscaler, capsys):
    run_jobs(plan_jobs([photos], Output(), 2), upscaler, Output())
    assert f"{20 * 30 + 12 * 16}/{20 * 30 + 12 * 16}" in capsys.readouterr().err
