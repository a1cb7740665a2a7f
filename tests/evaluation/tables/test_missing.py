"""What is not here is in the table with how to get it; what cannot be meant ends with exit code 2."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import pytest

from rgt_arch.data.bicubic import hr_lr_pair
from rgt_arch.evaluation.tables import methods
from rgt_arch.weights.zoo import ZooEntry


def test_missing_sets_and_weights_are_shown_with_the_remedy(table, write_set, monkeypatch):
    data = write_set(scales=(2,))
    results = table("bicubic", "RGT_S", "--scales", 2, 3, code=1)
    assert len(results) == 2 * 2 * 5
    assert results["bicubic", 2, "Set5"]["missing"] is None
    assert results["bicubic", 2, "Set5"]["measured"]["psnr"] > 20
    assert "rgt prepare lr benchmark/Set5/HR --scale 3" in results["bicubic", 3, "Set5"]["missing"]
    assert "github.com/zhengchen1999/RGT" in results["bicubic", 2, "Urban100"]["missing"]
    assert "--data" in results["bicubic", 2, "Urban100"]["missing"]
    assert "RGT_S_x2.pth" in results["RGT-S", 2, "Set5"]["missing"]
    assert "Google Drive" in results["RGT-S", 2, "Set5"]["missing"]
    for result in results.values():
        assert (result["measured"] is None) == bool(result["missing"])
        assert not (result["missing"] and result["complete"])
    shutil.rmtree(data)
    markdown = table("bicubic", "--scales", 2, "--sets", "Set5", "--format", "markdown", code=1)
    assert "| bicubic | ×2 | measured | missing | missing |" in markdown
    assert "- Missing: bicubic ×2 Set5: benchmark/Set5/HR: there are no images; get" in markdown


def test_the_remedy_for_lr_images_works(table, write_set, tmp_path, monkeypatch):
    from rgt_arch.cli import main

    data = write_set(scales=(3,))
    wanted = table("bicubic", "--scales", 3, "--sets", "Set5")
    shutil.rmtree(data / "Set5/LR_bicubic")
    missing = table("bicubic", "--scales", 3, "--sets", "Set5", code=1)["bicubic", 3, "Set5"]["missing"]
    command = missing.split("`")[1].split()
    assert command[0] == "rgt"
    assert main(command[1:]) == 0
    assert table("bicubic", "--scales", 3, "--sets", "Set5") == wanted


def test_weights_go_by_their_names_with_the_scales_that_exist(table, write_set, write_weights, tmp_path, monkeypatch):
    """A published file in the cache is found by name; its row has the paper's numbers beside it."""
    write_set()
    cached = write_weights()
    entry = ZooEntry("RGT_x2", "RGT", 2, "")
    monkeypatch.setattr(methods, "ZOO", {"RGT_x2": entry})
    monkeypatch.setattr(methods, "fetch", lambda asked: cached)
    for name in ("RGT", "rgt", "RGT_x2"):
        results = table(name, f"{name}+", "--sets", "Set5")
        assert list(results) == [("RGT", 2, "Set5"), ("RGT+", 2, "Set5")]
    assert results["RGT", 2, "Set5"]["published"] == {"psnr": 38.59, "ssim": 0.9628}
    assert results["RGT+", 2, "Set5"]["published"] != results["RGT", 2, "Set5"]["published"]
    asked = table("RGT", "--sets", "Set5", "--scales", 2, 4, code=1)
    assert "no weights of that name" in asked["RGT", 4, "Set5"]["missing"]


def test_a_name_with_a_scale_has_a_row_of_that_scale_only(table, write_set, write_weights, monkeypatch):
    """One name for a method may stand for files of different scales, as the paper's names do."""
    write_set(scales=(2, 4))
    files = {f"RGT_T_x{scale}": write_weights(f"{scale}.pth", scale=scale) for scale in (2, 4)}
    monkeypatch.setattr(methods, "fetch", lambda entry: files[entry.name])
    both = table("RGT_T", "--sets", "Set5")
    assert list(both) == [("RGT-T", 2, "Set5"), ("RGT-T", 4, "Set5")]
    large = table("mine=RGT_T_x4", "--scales", 2, 4, "--sets", "Set5")
    assert list(large) == [("mine", 4, "Set5")]
    assert large["mine", 4, "Set5"]["measured"] == both["RGT-T", 4, "Set5"]["measured"]
    assert table("RGT_T_x2", "RGT_T_x4", "--sets", "Set5") == both
    again = table(*(f"mine={file}" for file in files.values()), "--sets", "Set5")
    assert list(again) == [("mine", 2, "Set5"), ("mine", 4, "Set5")]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], "nonsense: no such file or folder, and no method of that name; take bicubic, RGT"),
        (["gone.pth"], "gone.pth: no such file"),
        ([""], "'': is no method; give a network's name, a file or a folder, or NAME=METHOD"),
        (["mine="], "'mine=': is no method"),
        (["a\nb=bicubic"], r"'a\nb=bicubic': is no method"),
        ([f"{'n' * 300}=bicubic"], "with a name of one line and at most 100 characters"),
        ([f"{'n' * 300}.pth"], "n.pth: no such file"),
        (["bicubic", "--sets", ""], "--sets '': is not the name of a folder"),
        (["bicubic", "bicubic"], "bicubic: two methods have this name"),
        (["bicubic+"], "bicubic has no self-ensemble"),
        (["bicubic", "--sets", "Set6"], "--sets Set6: there is no such set"),
        (["bicubic", "--sets", "a/b"], "--sets 'a/b': is not the name of a folder"),
        (["bicubic", "--sets", "Set5", "Set5"], "one is named twice"),
        (["bicubic", "--tile", "3"], "--tile is 3"),
        (["tiny.pth", "--scales", "4"], "tiny.pth: is ×2; add 2 to --scales"),
        (["RGT_T_x4", "--scales", "2"], "RGT_T_x4: is ×4; add 4 to --scales"),
        (["mine=rgt-t-x4+", "--scales", "2", "3"], "RGT_T_x4: is ×4; add 4 to --scales"),
        (["X=RGT_T", "X=RGT_T_x4"], "X: two methods have this name"),
        (["X=RGT_T_x4", "X=RGT_T_x4+"], "X: two methods have this name"),
        (["benchmark/Set5/HR/face.png"], "face.png: is not a PyTorch checkpoint"),
    ],
)
def test_what_cannot_be_meant_is_one_line(table, write_set, write_weights, arguments, words):
    write_set()
    write_weights()
    said = table(*arguments, code=2)
    assert words in said
    assert said.count("\n") == 1


def test_images_that_do_not_belong_together_are_named(table, write_set):
    data = write_set()
    (data / "Set5/LR_bicubic/X2/flagx2.png").rename(data / "Set5/LR_bicubic/X2/flogx2.png")
    missing = "LR_bicubic/X2: there are no images for 1 of 3 in benchmark/Set5/HR; put flagx2.png there for flag.png\n"
    assert table("bicubic", "--scales", 2, "--sets", "Set5", code=2).endswith(missing)
    (data / "Set5/LR_bicubic/X2/flogx2.png").unlink()
    assert table("bicubic", "--scales", 2, "--sets", "Set5", code=2).endswith(missing)
    shutil.copy(data / "Set5/LR_bicubic/X2/facex2.png", data / "Set5/LR_bicubic/X2/flagx2.png")
    assert "flag.png is 50×45 and its LR image 31×24" in table("bicubic", "--scales", 2, "--sets", "Set5", code=2)
    shutil.copy(data / "Set5/LR_bicubic/X2/facex2.png", data / "Set5/LR_bicubic/X2/sparex2.png")
    assert "holds 4 images for 3 HR images" in table("bicubic", "--scales", 2, "--sets", "Set5", code=2)


def test_result_that_is_missing_among_others_is_named(table, write_set):
    """The first in order is, whose name is not there to say what the others' names have around theirs."""
    data = write_set()
    results = Path("SR/Set5/x2")
    results.mkdir(parents=True)
    for hr in sorted((data / "Set5/HR").iterdir())[1:]:
        shutil.copy(hr, results / f"{hr.stem}_RCAN_x2.png")
    first = min((data / "Set5/HR").iterdir()).stem
    said = table("RCAN=SR", "--scales", 2, "--sets", "Set5", code=2)
    assert f"SR/Set5/x2: there are no images for 1 of 3 in benchmark/Set5/HR; put {first}_RCAN_x2.png there" in said


def test_images_too_small_for_ssim_are_named(table, write_set):
    """BasicSR's SSIM of them is nan, or an error of OpenCV."""
    data = write_set()
    for side in (15, 14):
        picture = cv2.imread(str(data / "Set5/HR/flag.png"))[:side]
        assert cv2.imwrite(str(data / "Set5/HR/flag.png"), picture)
        assert cv2.imwrite(str(data / "Set5/LR_bicubic/X2/flagx2.png"), hr_lr_pair(picture, 2)[1])
        said = table("bicubic", "--scales", 2, "--sets", "Set5", code=2)
        assert f"flag.png: has 50×{side} pixels; SSIM at ×2 needs 15 a side; remove it" in said
