"""Lists of ablations: what is read, what is refused, and that the shipped ones compare networks alone."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from rgt_arch import rgt_s, rgt_t
from rgt_arch.archs.rgt_arch import RGT
from rgt_arch.cli import main
from rgt_arch.config import load_options
from rgt_arch.evaluation.ablation.plan import read_plan

OPTIONS = Path(__file__).parents[3] / "options"
SHIPPED = ("cpu", "paper")


def test_plan_holds_variants_seeds_and_costs(project):
    plan = read_plan(project / "list.yml", overrides=["train:total_iter=7"], seeds=[5])
    assert [(variant.label, variant.slug) for variant in plan.variants] == [("RGT", "RGT"), ("no CPE", "no_CPE")]
    assert plan.seeds == (5,)
    assert plan.total_iter == 7
    assert plan.measured() == [("Set of one", "psnr", "PSNR-Y"), ("Set of one", "ssim", "SSIM-Y")]
    assert plan.variants[0].cost.parameters - plan.variants[1].cost.parameters == 10 * 96


def test_only_keeps_the_reference(project):
    assert [variant.label for variant in read_plan(project / "list.yml", only=["no CPE"]).variants] == ["RGT", "no CPE"]
    assert [variant.label for variant in read_plan(project / "list.yml", only=["RGT"]).variants] == ["RGT"]


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("list.yml", "seeds: [1, 2]", "seeds: [1, 1]", "give different whole numbers from 0"),
        ("list.yml", "seeds: [1, 2]", "seeds: 3", "give different whole numbers from 0"),
        ("list.yml", "seeds: [1, 2]", "seed: [1, 2]", "unknown key seed; did you mean seeds?"),
        ("list.yml", "  no CPE: files/no_cpe.yml\n", "", "needs two or more"),
        ("list.yml", "no CPE: files/no_cpe.yml", "no CPE: files/nocpe.yml", "files/nocpe.yml: no such option file"),
        ("list.yml", "no CPE: files/no_cpe.yml", "no CPE: 3", "give an option file"),
        ("list.yml", "no CPE: files", "'RGT:': files", "would share a folder"),
        ("list.yml", "no CPE: files", "'::': files", "no letters or digits"),
        ("files/no_cpe.yml", ", cpe: false", "", "there is nothing to compare"),
        ("files/no_cpe.yml", "gt_size: 32", "gt_size: 16", "datasets:train:gt_size is 16, in"),
        ("files/no_cpe.yml", "scale: 2\n", "scale: 2\npath_log: 3\n", "path_log is 3, in"),
        ("files/no_cpe.yml", "cpe: false", "cpee: false", "network_g: no RGT has these arguments"),
        ("files/rgt.yml", "resume_state: ~", "resume_state: a.state", "path:resume_state is set"),
        ("files/rgt.yml", "  metrics:\n", "  metric:\n", "no validation set or no val:metrics"),
        ("list.yml", "seeds: [1, 2]", "seeds: [4294967296]", "give different whole numbers from 0"),
        ("list.yml", "  RGT:", f"  {'R' * 101}:", "is too long to name a folder after"),
    ],
)
def test_what_cannot_be_compared_is_one_line(project, edit, capsys, file, old, new, words):
    edit(file, old, new)
    assert main(["ablation", "list.yml"]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert len(err.splitlines()) == 1
    assert not (project / "experiments").exists()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("  val:\n    name", "  val: ~\n  val_2:\n    name", "datasets:val: expected a section"),
        ("    name: Set of one\n", "", "datasets:val:name: is missing"),
        ("psnr: {type: calculate_psnr, crop_border: 2, test_y_channel: true}", "psnr: ~", "val:metrics:psnr: expected"),
        ("  total_iter: 4\n", "", "train:total_iter: is missing"),
        ("path: {pretrain_network_g: ~, strict_load_g: true, resume_state: ~}", "path: text", "path = 'text'"),
        ("dataroot_gt: data/train/HR", "dataroot_gt: 3", "dataroot_gt = 3: expected a path"),
        ("train:\n    name", "val_2:\n    name: Set of one\n    type: PairedImageDataset\n    dataroot_gt: a\n"
         "    dataroot_lq: b\n    io_backend: {type: disk}\n  train:\n    name",
         "two validation sets have the name Set of one"),
    ],
)  # fmt: skip
def test_option_files_that_cannot_be_trained_are_one_line(project, edit, capsys, old, new, words):
    """The same in all variants, and nothing but the kept trainings is wanted: none of it may be a traceback."""
    for file in ("files/rgt.yml", "files/no_cpe.yml"):
        edit(file, old, new)
    assert main(["ablation", "list.yml", "--report"]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert len(err.splitlines()) == 1


def test_unknown_variant_and_missing_data_are_told_before_anything_is_trained(project, edit, capsys):
    assert main(["ablation", "list.yml", "--only", "no CPR"]) == 2
    assert "did you mean no CPE?" in capsys.readouterr().err
    for file in ("files/rgt.yml", "files/no_cpe.yml"):
        edit(file, "dataroot_gt: data/train/HR", "dataroot_gt: data/nowhere")
    assert main(["ablation", "list.yml"]) == 2
    assert "data/nowhere" in capsys.readouterr().err
    assert not (project / "experiments").exists()


@pytest.mark.parametrize("size", SHIPPED)
def test_every_shipped_file_is_listed_and_differs_in_the_network_alone(size):
    plan = read_plan(OPTIONS / f"ablation/{size}.yml")  # which checks that they do
    assert len(plan.seeds) == 3
    assert {variant.file.name for variant in plan.variants} == {
        file.name for file in (OPTIONS / "ablation" / size).iterdir()
    }
    assert len({variant.options["name"] for variant in plan.variants}) == len(plan.variants)
    reference = plan.variants[0].options["network_g"]
    changed = set()
    for variant in plan.variants[1:]:
        network = variant.options["network_g"]
        changed |= {key for key in network if network[key] != reference.get(key)}
    assert changed == {"global_blocks", "recursion", "reduction_stride", "c_ratio", "cpe", "hai"}


@pytest.mark.parametrize(("size", "preset"), [("cpu", rgt_t), ("paper", rgt_s)])
def test_shipped_references_are_the_presets(size, preset):
    network = copy.deepcopy(read_plan(OPTIONS / f"ablation/{size}.yml").variants[0].options["network_g"])
    del network["type"]
    with torch.device("meta"):
        shapes = [[parameter.shape for parameter in net.parameters()] for net in (RGT(**network), preset(2))]
    assert shapes[0] == shapes[1]


def test_shipped_reference_at_the_paper_s_size_is_the_paper_s_training():
    reference = load_options(OPTIONS / "ablation/paper/RGT_S.yml")
    training = load_options(OPTIONS / "train_RGT_S_x2.yml")
    assert reference["train"].pop("accumulate") == 4
    assert reference["train"] == training["train"]
    assert reference["network_g"] == training["network_g"]
    assert reference["datasets"]["train"].pop("batch_size_per_gpu") == 4 * training["datasets"]["train"].pop(
        "batch_size_per_gpu"
    )
    assert reference["datasets"]["train"] == training["datasets"]["train"]
