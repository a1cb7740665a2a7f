"""`rgt table` gives the scores of `basicsr test`, continues interrupted runs, and never mixes runs."""

from __future__ import annotations

import json
import re
from functools import partial

import cv2
import numpy as np
import pytest
import torch
import yaml
from basicsr.metrics import calculate_psnr, calculate_ssim

from rgt_arch import load_model
from rgt_arch.data.bicubic import crop_to_multiple, imresize
from rgt_arch.errors import UserError
from rgt_arch.evaluation.tables import measuring, scoring
from rgt_arch.evaluation.tables.methods import find_images
from rgt_arch.evaluation.training_runs import basicsr_test

from ... import warm
from .conftest import NETWORK


@pytest.fixture
def measured(monkeypatch):
    """Names of the measured images, in order; `measured.fail_at` = (name, exception class) raises at that image."""

    class Measured(list):
        fail_at: tuple[str, type[BaseException]] | None = None

    names, score_image = Measured(), measuring.score_image

    def counted(enlarge, pair, *others, **more):
        if names.fail_at and names.fail_at[0] == pair.name:
            raise names.fail_at[1]("as if")
        names.append(pair.name)
        return score_image(enlarge, pair, *others, **more)

    monkeypatch.setattr(measuring, "score_image", counted)
    return names


def test_network_rows_equal_basicsr_test(table, write_set, write_weights, tmp_path):
    data, weights = write_set("Manga109", ending="_LRBI_x"), write_weights()
    metric = {"crop_border": 2, "test_y_channel": True}
    options = {
        "name": "peer",
        "model_type": "RGTModel",
        "scale": 2,
        "num_gpu": 0,
        "datasets": {
            "test": {
                "name": "Manga109",
                "type": "PairedImageDataset",
                "dataroot_gt": str(data / "Manga109/HR"),
                "dataroot_lq": str(data / "Manga109/LR_bicubic/X2"),
                "filename_tmpl": "{}_LRBI_x2",
                "io_backend": {"type": "disk"},
            }
        },
        "network_g": {"type": "RGT", "upscale": 2, **NETWORK},
        "path": {"pretrain_network_g": str(weights)},
        "val": {
            "save_img": False,
            "metrics": {name: {"type": f"calculate_{name}", **metric} for name in ("psnr", "ssim")},
        },
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump(options))
    basicsr_test(tmp_path / "test.yml", tmp_path)
    output = (tmp_path / "test_output.txt").read_text()
    wanted = [float(re.search(rf"# {name}: ([\d.]+)", output)[1]) for name in ("psnr", "ssim")]
    result = table(weights, "--sets", "Manga109")["tiny", 2, "Manga109"]
    assert [result["measured"]["psnr"], result["measured"]["ssim"]] == pytest.approx(wanted, abs=6e-5)
    assert list(result["images"]) == ["face", "flag", "grey"]
    assert result["complete"] is False  # 3 images of 109


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bicubic_is_matlab_imresize_and_grey_images_are_measured_on_grey(table, write_set, scale):
    data = write_set(scales=(scale,))
    images = table("bicubic", "--scales", scale, "--sets", "Set5")["bicubic", scale, "Set5"]["images"]
    for name, score in images.items():
        hr, lr = (
            cv2.imread(str(data / "Set5" / file), cv2.IMREAD_UNCHANGED)
            for file in (f"HR/{name}.png", f"LR_bicubic/X{scale}/{name}x{scale}.png")
        )
        assert (hr.ndim == 2) == (name == "grey")
        pair = imresize(lr, scale), crop_to_multiple(hr, scale)
        arguments = {"crop_border": scale, "test_y_channel": hr.ndim == 3}
        if hr.ndim == 2:
            pair = pair[0][..., None], pair[1][..., None]
        assert score["psnr"] == pytest.approx(calculate_psnr(*pair, **arguments), abs=1e-9)
        assert score["ssim"] == pytest.approx(calculate_ssim(*pair, **arguments), abs=1e-9)


def test_self_ensemble_row_equals_rotations_and_mirrors_in_numpy(table, write_set, write_weights):
    """The pictures are not square, so a wrong rotation raises; a missing rotation changes the score."""
    data, weights = write_set(), write_weights()
    results = table(f"{weights}+", weights, "--sets", "Set5")
    network = load_model(weights)
    for name, score in results["tiny+", 2, "Set5"]["images"].items():
        lr = cv2.imread(str(data / f"Set5/LR_bicubic/X2/{name}x2.png"))[..., ::-1] / np.float32(255)
        outputs = []
        for turns in range(4):
            for mirror in (1, -1):
                view = np.rot90(lr, turns)[:, ::mirror].transpose(2, 0, 1)[None]
                with torch.no_grad():
                    output = network(torch.from_numpy(view.copy()))[0].numpy().transpose(1, 2, 0)
                outputs.append(np.rot90(output[:, ::mirror], -turns))
        sr = (np.mean(outputs, 0).clip(0, 1) * 255).round().astype(np.uint8)[..., ::-1]
        hr = crop_to_multiple(cv2.imread(str(data / f"Set5/HR/{name}.png")), 2)
        # samples at exactly one half may round either way
        assert score["psnr"] == pytest.approx(calculate_psnr(sr, hr, crop_border=2, test_y_channel=True), abs=2e-4)
        assert abs(score["psnr"] - results["tiny", 2, "Set5"]["images"][name]["psnr"]) > 1e-3


def test_interrupted_run_continues_at_the_next_image(table, write_set, write_weights, measured):
    write_set(scales=(2, 4))
    arguments = ("bicubic", write_weights(), "--scales", 2, 4, "--sets", "Set5")
    whole = table(*arguments, "--keep", "elsewhere")
    measured.clear()
    measured.fail_at = ("grey.png", KeyboardInterrupt)
    table(*arguments, code=130)
    assert measured == ["face.png", "flag.png"]
    measured.fail_at = None
    assert table(*arguments) == whole
    assert len(measured) == 9  # 3 rows × 3 images, each measured once in the two runs
    assert table(*arguments) == whole
    assert len(measured) == 9
    assert table(*arguments, "--fresh") == whole
    assert len(measured) == 18


def test_kept_scores_need_equal_weights_flags_and_images(table, write_set, write_weights, measured, tmp_path):
    data, weights = write_set(), write_weights()
    # the last method equals that of `first`, so its scores are reused
    first = table(f"X={weights}", "--sets", "Set5")
    changes = [
        (f"X={write_weights('other.pth', 1)}", (), 3),
        (f"X={weights}+", (), 3),
        (f"X={weights}", ("--tile", 16), 3),
        (f"X={weights}", (), 0),
    ]
    for method, flags, count in changes:
        measured.clear()
        table(method, "--sets", "Set5", *flags)
        assert len(measured) == count, (method, flags)
    write_weights(seed=2)  # other weights under the same name
    measured.clear()
    second = table(f"X={weights}", "--sets", "Set5")
    assert len(measured) == 3
    assert second != first
    for file in ("HR/flag.png", "LR_bicubic/X2/greyx2.png"):
        picture = cv2.imread(str(data / "Set5" / file))
        assert cv2.imwrite(str(data / "Set5" / file), 255 - picture)
    measured.clear()
    table(f"X={weights}", "--sets", "Set5")
    assert measured == ["flag.png", "grey.png"]
    files = list((tmp_path / "results/table").rglob("face.*.json"))
    sound = [file.read_text() for file in files]
    texts = [text[:40] for text in sound]  # truncated, as after a full disk or a crash
    numbers = re.compile(r'("psnr": )[^,]+')
    for damaged in (texts, ["[" * 100_000] * len(files), [numbers.sub(r'\1"much"', text) for text in sound]):
        for file, text in zip(files, damaged, strict=True):
            file.write_text(text)
        measured.clear()
        table(f"X={weights}", "--sets", "Set5")
        assert measured == ["face.png"]


def test_images_that_differ_only_in_suffix_are_all_measured(table, write_set):
    """As in BasicSR, where the LR image of face.bmp is facex2.bmp."""
    data = write_set("Mine")
    for folder, ending in (("HR", ""), ("LR_bicubic/X2", "x2")):
        picture = cv2.imread(str(data / "Mine" / folder / f"flag{ending}.png"))
        assert cv2.imwrite(str(data / "Mine" / folder / f"face{ending}.bmp"), picture)
        picture = cv2.imread(str(data / "Mine" / folder / f"grey{ending}.png"), cv2.IMREAD_GRAYSCALE)
        assert cv2.imwrite(str(data / "Mine" / folder / f"grey{ending}.bmp"), picture)
    result = table("bicubic", "--scales", 2, "--sets", "Mine")["bicubic", 2, "Mine"]
    assert list(result["images"]) == ["face.bmp", "face.png", "flag", "grey.bmp", "grey.png"]
    assert result["images"]["face.bmp"] == result["images"]["flag"] != result["images"]["face.png"]
    mean = sum(score["psnr"] for score in result["images"].values()) / 5
    assert result["measured"]["psnr"] == pytest.approx(mean, abs=1e-12)
    rows = table("bicubic", "--scales", 2, "--sets", "Mine", "--format", "csv-images")
    assert [row["image"] for row in rows] == list(result["images"])
    assert "- Mine: grey.bmp, grey.png is grey" in table(
        "bicubic", "--scales", 2, "--sets", "Mine", "--format", "markdown"
    )


def work(said: str) -> float:
    """Number of operations in the progress line."""
    number, unit = re.findall(r"100%.*?/([\d.]+)([kMG]?) \[", said)[-1]
    return float(number) * {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}[unit]


def test_two_ranks_print_one_table_with_the_numbers_of_one_process(table, write_set, write_weights, tmp_path):
    write_set(scales=(2, 4))
    arguments = ["bicubic", str(write_weights()), "--scales", "2", "4", "--sets", "Set5"]
    alone = table(*arguments, "--keep", "elsewhere")
    of_all = work(table.said)
    command = ["-m", "rgt_arch.cli", "table", *arguments, "--data", "benchmark", "--device", "cpu", "--format", "json"]
    first, second = warm.start_ranks(*command, cwd=tmp_path, **warm.two_ranks())
    for rank in (first, second):
        assert rank.wait() == 0, rank.stderr
    results = json.loads(first.stdout + second.stdout)["results"]  # two tables would not be valid JSON
    assert {(result["method"], result["scale"], result["set"]): result for result in results} == alone
    assert len(list((tmp_path / "results/table").rglob("*.json"))) == 9
    assert "(1 of 2 processes)" in first.stderr
    assert 0.2 < work(first.stderr) / of_all < 0.8


def test_super_resolved_images_are_found_in_every_folder_layout(table, write_set, tmp_path):
    data = write_set(scales=(2, 4))
    wanted = table("bicubic", "--sets", "Set5", "--scales", 2)["bicubic", 2, "Set5"]["images"]
    names = {"face", "flag"}  # grey is measured on Y here, as in BasicSR
    layouts = {"Set5/x2": "_NET_x2", "X2/Set5": "x2", "visualization/Set5": "_test_NET_x2", "Set5": "_NET_x2"}
    for layout, ending in layouts.items():
        folder = tmp_path / f"sr {layout.replace('/', ' ')}"
        (folder / layout).mkdir(parents=True)
        for file in (data / "Set5/LR_bicubic/X2").glob("*.png"):
            name = f"{file.stem.removesuffix('x2')}{ending}.png"
            assert cv2.imwrite(str(folder / layout / name), imresize(cv2.imread(str(file)), 2))
        scale = () if "2" in layout else ("--scales", 2)
        result = table(f"NET={folder}", "--sets", "Set5", *scale)["NET", 2, "Set5"]
        for name in names:
            assert result["images"][name] == pytest.approx(wanted[name]), layout
        assert result["images"]["grey"]["psnr"] == pytest.approx(wanted["grey"]["psnr"] + 1.322, abs=0.001)
    assert "give its scale with --scales" in table(tmp_path / "sr Set5", "--sets", "Set5", code=2)
    wrong = table(tmp_path / "sr Set5", "--sets", "Set5", "--scales", 4, code=2)
    assert re.search(r"face_NET_x2.png: has 62×48 pixels, but HR cut to a multiple of 4 has 60×48", wrong)


def test_unreadable_image_is_named_and_scores_before_it_are_kept(table, write_set, measured):
    data = write_set()
    image = data / "Set5/HR/flag.png"
    whole = image.read_bytes()
    image.write_bytes(whole[:100] + bytes(40) + whole[140:])  # only the middle is damaged
    assert "Set5 ×2: flag.png: it or the image that" in table("bicubic", "--scales", 2, "--sets", "Set5", code=1)
    image.write_bytes(whole)
    measured.clear()
    table("bicubic", "--scales", 2, "--sets", "Set5")
    assert measured == ["flag.png", "grey.png"]


def test_metrics_of_pyiqa_are_columns_and_are_kept(table, write_set, measured):
    pytest.importorskip("pyiqa", reason="needs pyiqa: pip install 'rgt-arch[metrics]'", exc_type=ImportError)
    write_set()
    words = ("bicubic", "--scales", 2, "--sets", "Set5")
    plain = table(*words)["bicubic", 2, "Set5"]
    again = table(*words, "--metrics", "gmsd", "vif")["bicubic", 2, "Set5"]
    done = len(measured)
    assert again["measured"].keys() == {"psnr", "ssim", "gmsd", "vif"}
    assert {name: again["measured"][name] for name in ("psnr", "ssim")} == plain["measured"]
    assert 0 < again["measured"]["gmsd"] < 0.5 < again["measured"]["vif"] < 1
    text = table(*words, "--metrics", "gmsd", "vif", "--format", "markdown")
    assert re.search(r"PSNR.*SSIM.*gmsd.*vif", text)
    assert "gmsd, vif: pyiqa's, border = scale." in text
    (row,) = table(*words, "--metrics", "gmsd", "--format", "csv")
    assert float(row["gmsd"]) == again["measured"]["gmsd"]
    assert len(measured) == done + done // 2  # scores are kept by their metrics
    for name, hint in (("gmds", "did you mean gmsd"), ("psnr", "did you mean psnry"), ("fid", "pyiqa has no")):
        assert hint in table(*words, "--metrics", name, code=2)


@pytest.mark.parametrize(("way", "reason"), [("raises", r"ValueError: too small"), ("gives nan", "nan")])
def test_failing_metric_of_pyiqa_is_named(write_set, monkeypatch, way, reason):
    def fail(*_, **__):
        if way == "raises":
            raise ValueError("too\nsmall")
        return float("nan")

    monkeypatch.setattr(scoring, "pyiqa", fail)
    pair, *_ = find_images(write_set(), "Set5", 2).pairs
    with pytest.raises(UserError, match=rf"^Set5: no nlpd \({reason}\); leave it out of --metrics$"):
        scoring.score_image(partial(imresize, scale=2), pair, 2, where="Set5", on_grey=False, metrics=["nlpd"])
