"""A result table as Markdown, LaTeX, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import math

import pytest

from rgt_arch.evaluation.tables.results import BENCHMARKS, SCALES, Result, Table, paper, published

FIVE = {
    f"img{number}": {"psnr": 38.0 + number / 2, "ssim": 0.96 + number / 1000} for number in range(5)
}  # mean 39, 0.962
TABLE = Table(
    (
        Result("RGT-S", 2, "Set5", FIVE),
        Result("RGT-S", 2, "Set14", missing="Set14/HR: there are no images; get them"),
        Result("mine_1", 4, "Set5", {"a": {"psnr": 30.0, "ssim": 0.5}, "b": {"psnr": 31.0, "ssim": 0.7}}),
        Result("mine_1", 4, "Set14", {"a": {"psnr": math.inf, "ssim": 1.0}}),
    ),
    ("A remark.",),
)


def test_markdown_has_measured_published_and_difference():
    lines = TABLE.text("markdown").splitlines()
    assert lines[0] == "| Method | Scale |  | Set5 PSNR | Set5 SSIM | Set14 PSNR | Set14 SSIM |"
    assert lines[2:6] == [
        "| RGT-S | ×2 | measured | 39.00 | 0.9620 | missing | missing |",
        "|  |  | published | 38.56 | 0.9627 | 34.77 | 0.9270 |",
        "|  |  | difference | +0.44 | −0.0007 | – | – |",
        "| mine_1 | ×4 | measured | 30.50 | 0.6000 | ∞ | 1.0000 |",
    ]
    assert lines[7:] == [
        "- PSNR (dB) and SSIM on Y of YCbCr, border = scale; difference = measured − published.",
        "- A remark.",
        "- Missing: RGT-S ×2 Set14: Set14/HR: there are no images; get them",
    ]


def test_latex_is_escaped_and_all_rows_have_equally_many_columns():
    lines = TABLE.text("latex").splitlines()
    assert lines[1:3] == ["% A remark.", "% Missing: RGT-S ×2 Set14: Set14/HR: there are no images; get them"]
    assert lines[3] == r"\begin{tabular}{lllrrrr}"
    assert lines[5] == r" &  &  & \multicolumn{2}{c}{Set5} & \multicolumn{2}{c}{Set14} \\"
    assert r"mine\_1 & $\times$4 & measured & 30.50 & 0.6000 & $\infty$ & 1.0000 \\" in lines
    assert {line.count("&") for line in lines if line.endswith("\\\\") and "multicolumn" not in line} == {6}
    assert not any(character in "\n".join(lines[3:]) for character in "×−–∞")


def test_special_characters_in_names_are_escaped():
    odd = Table((Result("a|b\\c~d^e_f", 2, "Set5", FIVE),))
    assert odd.text("markdown").splitlines()[2].startswith(r"| a\|b\c~d^e_f | ×2 |")
    assert r"a|b\textbackslash{}c\textasciitilde{}d\textasciicircum{}e\_f & $\times$2 & measured" in odd.text("latex")


def test_csv_keeps_full_precision():
    rows = list(csv.DictReader(io.StringIO(TABLE.text("csv"))))
    assert [row["set"] for row in rows] == ["Set5", "Set14", "Set5", "Set14"]
    assert float(rows[0]["psnr"]) == 39.0
    assert float(rows[0]["psnr_difference"]) == pytest.approx(39 - float(rows[0]["psnr_published"]), abs=1e-12)
    assert (rows[1]["psnr"], rows[1]["images"], rows[1]["psnr_difference"]) == ("", "0", "")
    assert rows[1]["missing"].startswith("Set14/HR")
    images = list(csv.DictReader(io.StringIO(TABLE.text("csv-images"))))
    assert [row["image"] for row in images] == [*FIVE, "", "a", "b", "a"]
    assert float(images[2]["ssim"]) == 0.962


def test_json_is_strict_and_names_the_source_of_published_numbers():
    content = json.loads(TABLE.text("json"), parse_constant=lambda name: pytest.fail(name))
    assert "arXiv" in content["published"]["source"]
    assert [result["complete"] for result in content["results"]] == [True, False, False, False]
    assert content["results"][3]["images"] == {"a": {"psnr": None, "ssim": 1.0}}
    assert content["notes"] == ["A remark."]


def test_incomplete_set_has_no_difference_to_published_numbers():
    four = Result("RGT-S", 2, "Set5", dict(list(FIVE.items())[:4]))
    assert four.published is not None
    assert four.difference is None
    assert Result("RGT-S", 2, "Set5", FIVE).difference is not None


def test_papers_table_is_complete():
    assert set(paper()["table2"]) >= {"RCAN", "RGT-S", "RGT", "RGT+"}
    for method in paper()["table2"]:
        assert all(published(method, scale, name) for scale in SCALES for name in BENCHMARKS), method
    assert published("rgt_s", 4, "Urban100") == published("RGT-S", 4, "Urban100")
    assert published("another", 4, "Urban100") is None
