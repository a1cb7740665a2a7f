"""`rgt complexity`: the table with the paper's numbers, JSON, and one-line errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rgt_arch.cli import main

OPTIONS = Path(__file__).parents[2] / "options"


def test_published_numbers_are_printed_below_the_table(capsys):
    assert main(["complexity", str(OPTIONS / "test_RGT_S_x4.yml")]) == 0
    out = capsys.readouterr().out
    assert "10,198,767" in out
    assert "published: 10.20 M parameters, 193.08 G multiply-adds; counted: 10.20 M, 193.08 G" in out
    assert "Counted: " in out
    shares = [
        float(line.split()[-2]) for line in out.splitlines() if line.endswith(" %") and not line.startswith("all")
    ]
    assert sum(shares) == pytest.approx(100, abs=0.5)


def test_other_networks_and_sizes_are_not_compared_with_the_paper(capsys):
    for arguments in (["test_RGT_T_x4.yml"], ["test_RGT_S_x2.yml"], ["test_RGT_S_x4.yml", "--sizes", "64x64"]):
        assert main(["complexity", str(OPTIONS / arguments[0]), *arguments[1:]]) == 0
        assert "published" not in capsys.readouterr().out


def test_json_goes_to_stdout_or_a_file(tmp_path, capsys):
    file = tmp_path / "figures.json"
    command = ["complexity", str(OPTIONS / "test_RGT_T_x2.yml"), "--sizes", "48x64", "--json"]
    assert main(command) == 0
    report = json.loads(capsys.readouterr().out)
    assert main([*command, str(file)]) == 0
    assert "multiply-adds" in capsys.readouterr().out
    assert json.loads(file.read_text()) == report
    (of_size,) = report["sizes"]
    assert (of_size["height"], of_size["width"]) == (48, 64)
    whole = of_size["parts"][-1]
    assert whole["total"] == sum(part["total"] for part in of_size["parts"][:-1]) > 0
    assert whole["parameters"] == 964187


def test_invalid_input_is_a_one_line_error_and_changes_no_file(tmp_path, capsys):
    file = tmp_path / "file.yml"
    for content, arguments, words in (
        ("network_g: {type: EDSR}\n", [], "network_g:type is 'EDSR'; only an RGT can be counted"),
        ("scale: 2\n", [], "network_g:type is None"),
        ("network_g: {type: RGT, embed_dim: 97}\n", [], "file.yml: network_g: no RGT has these arguments: "),
        ("network_g: {type: RGT, dept: [2]}\n", [], "did you mean `depth`"),
        ("network_g: {type: RGT}\n", ["--sizes", "0x8"], "'0x8' is not a size"),
        ("network_g: {type: RGT}\n", ["--json", "nowhere/a.json"], "--json nowhere/a.json: there is no folder"),
        ("network_g: {type: RGT}\n", ["--json", str(file), "--overwrite"], "is one of the inputs"),
    ):
        file.write_text(content)
        assert main(["complexity", str(file), *arguments]) == 2
        err = capsys.readouterr().err
        assert words in err
        assert len(err.splitlines()) == 1
        assert file.read_text() == content
