"""`basicsr train` as users start it: small photographs, no GPU."""

from __future__ import annotations

import re
import sys

from ..warm import end_together, two_ranks

BASICSR = (sys.executable, "-m", "rgt_arch.cli")
ASCII_ONLY = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}


def test_run_without_gpu_does_exactly_total_iter_then_resumes(project):
    """BasicSR's loop does not train with 6 images and batch 8. The option file asks for a GPU and has letters that the
    locale lacks; a folder called basicsr must not be imported. Then an unfinished run is refused and resumed."""
    (project.root / "basicsr").mkdir()
    (project.root / "basicsr" / "__init__.py").write_text("raise RuntimeError('the folder in the current directory')")
    options = project.write()
    text = f"# ×2, für später\n{(project.root / options).read_text()}"
    (project.root / options).write_text(text, encoding="utf-8")
    printed = project.start_from_shell(*BASICSR, "train", "-opt", options, PYTHONPATH=".", **ASCII_ONLY)
    assert (project.run_folder / "options.yml").read_text(encoding="utf-8").endswith(f"\n\n{text}")
    assert project.logged_iterations() == [1, 2, 3, 4, 5]
    assert re.findall(r"@ (\d+) iter", printed) == ["5"]
    [log] = project.run_folder.glob("train_*.log")
    assert printed.count("no CUDA GPU is usable") == log.read_text("utf-8").count("no CUDA GPU is usable") == 1

    (project.run_folder / "models" / "net_g_latest.pth").unlink()  # as if it had been killed
    before = sorted(project.root.rglob("*"))
    refused = project.start("basicsr", "train", "-opt", options, "--force_yml", "train:total_iter=7", code=2)
    assert "an unfinished run has this name (it was saved at iteration 5 of 7)" in refused
    assert "Traceback" not in refused
    assert sorted(project.root.rglob("*")) == before

    resumed = project.start("basicsr", "train", "-opt", options, "--force_yml", "train:total_iter=7", "--auto_resume")
    assert project.logged_iterations() == [6, 7]
    assert re.findall(r"@ (\d+) iter", resumed) == ["7"]


def test_error_of_all_ranks_is_printed_by_rank_zero_only(project):
    ranks = project.begin("train", "-opt", "missing.yml", "--launcher", "pytorch", **two_ranks())
    assert end_together(ranks) == 2
    assert [rank.stdout.count("missing.yml: no such option file") for rank in ranks] == [1, 0]
