"""Missing data appear in the table with a remedy; invalid arguments end with exit code 2."""

from __future__ import annotations

import shutil
from dataclasses import replace

import cv2
import pytest

from rgt_arch.cli import main
from rgt_arch.data.bicubic import hr_lr_pair
from rgt_arch.evaluation.tables import measuring, methods
from rgt_arch.weights.zoo import ZooEntry

ON_SET5 = ("--scales", 2, "--sets", "Set5")


def test_missing_sets_and_weights_are_shown_with_the_remedy(table, write_set, monkeypatch):
    write_set(scales=(2,))
    zoo = {name: replace(entry, url="http://127.0.0.1:9/net.pth") for name, entry in methods.ZOO.items()}
    monkeypatch.setattr(methods, "ZOO", zoo)
    results = table("bicubic", "RGT_S", "--scales", 2, 3, code=1)
    assert len(results) == 2 * 2 * 5
    assert results["bicubic", 2, "Set5"]["measured"]["psnr"] > 20
    for key, words in (
        (("bicubic", 3, "Set5"), ["rgt prepare lr benchmark/Set5/HR --scale 3"]),
        (("bicubic", 2, "Urban100"), ["github.com/zhengchen1999/RGT", "--data"]),
        (("RGT-S", 2, "Set5"), ["127.0.0.1:9/net.pth: the download failed", "RGT_S_x2.pth"]),
    ):
        assert all(word in results[key]["missing"] for word in words)
    for result in results.values():
        assert (result["measured"] is None) == bool(result["missing"])
        assert not (result["missing"] and result["complete"])


def test_the_remedy_for_lr_images_works(table, write_set):
    data = write_set(scales=(3,))
    wanted = table("bicubic", "--scales", 3, "--sets", "Set5")
    shutil.rmtree(data / "Set5/LR_bicubic")
    missing = table("bicubic", "--scales", 3, "--sets", "Set5", code=1)["bicubic", 3, "Set5"]["missing"]
    command = missing.split("`")[1].split()
    assert command[0] == "rgt"
    assert main(command[1:]) == 0
    assert table("bicubic", "--scales", 3, "--sets", "Set5") == wanted


def test_published_weights_are_found_by_name_at_their_scales(table, write_set, write_weights, monkeypatch):
    """The row of a published file includes the paper's numbers."""
    write_set()
    cached = write_weights()
    monkeypatch.setattr(methods, "ZOO", {"RGT_x2": ZooEntry("RGT_x2", "RGT", 2, "")})
    monkeypatch.setattr(methods, "fetch", lambda asked: cached)
    for name in ("RGT", "rgt", "RGT_x2"):
        results = table(name, f"{name}+", "--sets", "Set5")
        assert list(results) == [("RGT", 2, "Set5"), ("RGT+", 2, "Set5")]
    assert results["RGT", 2, "Set5"]["published"] == {"psnr": 38.59, "ssim": 0.9628}
    assert results["RGT+", 2, "Set5"]["published"] != results["RGT", 2, "Set5"]["published"]
    asked = table("RGT", "--sets", "Set5", "--scales", 2, 4, code=1)
    assert "no weights of that name" in asked["RGT", 4, "Set5"]["missing"]


def test_names_of_other_purposes_are_rows_of_their_own():
    plain, plus, small = methods.read_methods(["NomosUni_RGT_S", "nomosuni-rgt-s-x4+", "RGT_S"])
    assert (plain.label, plain.scales, plus.label, plus.scales) == ("NomosUni_RGT_S", (4,), "NomosUni_RGT_S+", (4,))
    assert {scale: entry.name for scale, entry in small.weights.items()} == {s: f"RGT_S_x{s}" for s in (2, 3, 4)}


def test_name_with_a_scale_gives_rows_of_that_scale_only(table, write_set, write_weights, monkeypatch):
    """One method name may cover files of different scales, as in the paper."""
    write_set(scales=(2, 3, 4))
    files = {f"RGT_T_x{scale}": write_weights(f"{scale}.pth", scale=scale) for scale in (2, 3, 4)}
    monkeypatch.setattr(methods, "fetch", lambda entry: files[entry.name])
    every = table("RGT_T", "--sets", "Set5")
    assert list(every) == [("RGT-T", scale, "Set5") for scale in (2, 3, 4)]
    large = table("mine=RGT_T_x4", "--scales", 2, 4, "--sets", "Set5")
    assert list(large) == [("mine", 4, "Set5")]
    assert large["mine", 4, "Set5"]["measured"] == every["RGT-T", 4, "Set5"]["measured"]
    assert table("RGT_T_x2", "RGT_T_x3", "RGT_T_x4", "--sets", "Set5") == every
    again = table(*(f"mine={file}" for file in files.values()), "--sets", "Set5")
    assert list(again) == [("mine", scale, "Set5") for scale in (2, 3, 4)]


MISTAKES = [
    (["nonsense"], "'nonsense': no such file or folder, and no method of that name; take bicubic, RGT"),
    (["gone.pth"], "gone.pth: no such file"),
    (["mine="], "'': no such file or folder"),
    (["bicubic", "bicubic"], "bicubic: two methods have this name"),
    (["bicubic+"], "no method of that name"),
    (["bicubic", "--sets", "Set6"], "--sets Set6: there is no such set"),
    (["bicubic", "--sets", "b100"], "--sets b100: there is no such set and no benchmark/b100/HR; did you mean B100?"),
    (["bicubic", "--tile", "3"], "--tile is 3"),
    (["tiny.pth", "--scales", "4"], "tiny.pth: is ×2; add 2 to --scales"),
    (["mine=rgt-t-x4+", "--scales", "2", "3"], "RGT_T_x4: is ×4; add 4 to --scales"),
    (["X=RGT_T", "X=RGT_T_x4"], "X: two methods have this name"),
    (["X=RGT_T_x4", "X=RGT_T_x4+"], "X: two methods have this name"),
    (["benchmark/Set5/HR/face.png"], "face.png: is not a PyTorch checkpoint"),
    (["tiny.pth", "-o", "gone/table.md"], "--output gone/table.md: there is no folder gone"),
    (["tiny.pth", "-o", "mine.md"], "--output mine.md: exists; --overwrite replaces it"),
    (["tiny.pth", "-o", "tiny.pth", "--overwrite"], "--output tiny.pth: is one of the inputs"),
    (["tiny.pth", "-o", "benchmark/Set5/HR/face.png", "--overwrite"], "face.png: is one of the inputs"),
    (["tiny.pth", "--keep", "mine.md/scores"], "mine.md/scores: cannot be created (Not a directory)"),
]


def test_invalid_arguments_end_in_one_line_before_measuring(table, write_set, write_weights, tmp_path, monkeypatch):
    write_set()
    write_weights()
    (tmp_path / "mine.md").write_text("my table")
    monkeypatch.setattr(measuring, "score_image", lambda *_, **__: pytest.fail("measured"))
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    for arguments, words in MISTAKES:
        said = table(*arguments, *([] if "--sets" in arguments else ["--sets", "Set5"]), code=2)
        assert words in said
        assert said.count("\n") == 1, words
        assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


def test_hr_and_lr_images_that_do_not_match_are_named(table, write_set):
    lr = write_set() / "Set5/LR_bicubic/X2"

    def said() -> str:
        return table("bicubic", *ON_SET5, code=2)

    (lr / "flagx2.png").rename(lr / "flogx2.png")
    assert "LR_bicubic/X2: the LR folder holds 3 images for 3 HR images" in said()
    assert "flag.png has no LR image flagx2.png" in table.said
    shutil.copy(lr / "facex2.png", lr / "flogx2.png")
    (lr / "flogx2.png").rename(lr / "flagx2.png")
    assert "flag.png is 50×45 and its LR image 31×24" in said()


def test_images_too_small_for_ssim_are_named(table, write_set):
    """BasicSR's SSIM gives NaN for such images, or OpenCV raises."""
    data = write_set()
    picture = cv2.imread(str(data / "Set5/HR/flag.png"))[:14]
    assert cv2.imwrite(str(data / "Set5/HR/flag.png"), picture)
    assert cv2.imwrite(str(data / "Set5/LR_bicubic/X2/flagx2.png"), hr_lr_pair(picture, 2)[1])
    assert "flag.png: has 50×14 pixels at ×2; too small for SSIM; remove it" in table("bicubic", *ON_SET5, code=2)
