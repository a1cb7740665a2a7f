"""Lists of ablations: what is read, what is refused, and that the shipped ones compare networks alone."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import pytest
import torch

from rgt_arch import rgt_s, rgt_t
from rgt_arch.archs.rgt_arch import RGT
from rgt_arch.cli import main
from rgt_arch.config import load_options
from rgt_arch.errors import UsageError
from rgt_arch.evaluation.ablation.plan import check_runnable, read_plan

OPTIONS = Path(__file__).parents[3] / "options"


def test_plan_holds_variants_seeds_and_costs(project):
    plan = read_plan(project / "list.yml", overrides=["train:total_iter=7"], seeds=[5])
    assert [(variant.label, variant.slug) for variant in plan.variants] == [("RGT", "RGT"), ("no CPE", "no_CPE")]
    assert plan.variants[1].overrides == ("train:total_iter=7", "network_g:cpe=false")
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
        ("list.yml", "seeds: [1, 2]", "seeds: [4294967296]", "give different whole numbers from 0"),
        ("list.yml", "seeds: [1, 2]", "seed: [1, 2]", "unknown key seed; did you mean seeds?"),
        ("list.yml", "  no CPE: [network_g:cpe=false]\n", "", "needs two or more"),
        ("list.yml", "base: files/rgt.yml", "base: files/rg.yml", "files/rg.yml: no such option file"),
        ("list.yml", "base: files/rgt.yml\n", "", "base is None; give an option file"),
        ("list.yml", "[network_g:cpe=false]", "3", "variants:no CPE is 3; give a list such as"),
        ("list.yml", "[network_g:cpe=false]", "[scale=3]", "scale=3 is not of network_g"),
        ("list.yml", "[network_g:cpe=false]", "[network_g:cpee=false]", "cpee"),
        ("list.yml", "[network_g:cpe=false]", "[network_g:embed_dim=97]", "no RGT has these arguments"),
        ("list.yml", "[network_g:cpe=false]", "[]", "there is nothing to compare"),
        ("list.yml", "no CPE:", "'RGT:':", "would share a folder"),
        ("list.yml", "no CPE:", "'::':", "no letters or digits"),
        ("list.yml", "  RGT:", f"  {'R' * 101}:", "is too long to name a folder after"),
        ("files/rgt.yml", "resume_state: ~", "resume_state: a.state", "path:resume_state is set"),
        ("files/rgt.yml", "  metrics:\n", "  metric:\n", "no validation set or no val:metrics"),
        ("files/rgt.yml", "    name: Set of one\n", "", "the same name or none"),
        ("files/rgt.yml", "  total_iter: 4\n", "", "train:total_iter is missing"),
        (
            "files/rgt.yml",
            "psnr: {type: calculate_psnr, crop_border: 2, test_y_channel: true}",
            "psnr: ~",
            "val:metrics",
        ),
    ],
)
def test_what_cannot_be_compared_is_one_line(project, edit, capsys, file, old, new, words):
    edit(file, old, new)
    assert main(["ablation", "list.yml", "--report"]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert len(err.splitlines()) == 1
    assert not (project / "experiments").exists()


def test_unknown_variant_and_missing_data_are_reported_before_anything_is_trained(project, edit, capsys):
    assert main(["ablation", "list.yml", "--only", "no CPR"]) == 2
    assert "did you mean no CPE?" in capsys.readouterr().err
    edit("files/rgt.yml", "dataroot_gt: data/train/HR", "dataroot_gt: data/nowhere")
    assert main(["ablation", "list.yml"]) == 2
    assert "data/nowhere" in capsys.readouterr().err
    assert not (project / "experiments").exists()


@pytest.mark.parametrize(("size", "preset"), [("cpu", rgt_t), ("paper", rgt_s)])
def test_shipped_lists_ablate_every_switch_of_a_preset(size, preset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = read_plan(OPTIONS / f"ablation/{size}.yml")
    assert len(plan.seeds) == 3
    reference = copy.deepcopy(plan.variants[0].options["network_g"])
    changed = set()
    for variant in plan.variants[1:]:
        network = variant.options["network_g"]
        changed |= {key for key in network if network[key] != reference.get(key)}
        with pytest.raises(UsageError) as problems:  # only the data is missing here
            check_runnable(dataclasses.replace(plan, variants=(variant,)))
        assert all("dataroot" in line for line in str(problems.value).splitlines() if "problem" not in line)
    assert changed == {"global_blocks", "recursion", "reduction_stride", "c_ratio", "cpe", "hai"}
    del reference["type"]
    with torch.device("meta"):
        shapes = [[parameter.shape for parameter in net.parameters()] for net in (RGT(**reference), preset(2))]
    assert shapes[0] == shapes[1]


def test_shipped_reference_at_the_paper_s_size_is_the_paper_s_training():
    reference = read_plan(OPTIONS / "ablation/paper.yml").variants[0].options
    training = load_options(OPTIONS / "train_RGT_S_x2.yml")
    assert reference["train"].pop("accumulate") == 4
    assert reference["train"] == training["train"]
    assert reference["network_g"] == training["network_g"]
    assert reference["datasets"]["train"].pop("batch_size_per_gpu") == 4 * training["datasets"]["train"].pop(
        "batch_size_per_gpu"
    )
    assert reference["datasets"]["train"] == training["datasets"]["train"]
