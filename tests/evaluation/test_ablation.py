"""`rgt ablation`: real trainings with equal seeds, kept and resumed; lists, tables and errors."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from skimage import data

from rgt_arch import RGT, rgt_s, rgt_t
from rgt_arch.cli import main
from rgt_arch.config.loading import load_options
from rgt_arch.data.bicubic import hr_lr_pair
from rgt_arch.errors import UserError
from rgt_arch.evaluation import ablation
from rgt_arch.evaluation.ablation import Ablation, AblationSettings, Run, Variant, run_ablation
from rgt_arch.evaluation.training_runs import HEADER

SHIPPED = Path(__file__).parents[2] / "options"
SEED = ["--seeds", "2"]
DATA = "type: PairedImageDataset, filename_tmpl: '{}x2', io_backend: {type: disk}"
OPTIONS = f"""name: anything
model_type: RGTModel
scale: 2
num_gpu: 0
manual_seed: 10
datasets:
  train: {{name: photographs, dataroot_gt: data/train/HR, dataroot_lq: data/train/LR, gt_size: 32, use_hflip: true,
    use_rot: true, num_worker_per_gpu: 0, batch_size_per_gpu: 1, {DATA}}}
  val: {{name: Set of one, dataroot_gt: data/val/HR, dataroot_lq: data/val/LR, {DATA}}}
network_g: {{type: RGT, upscale: 2, embed_dim: 96, depth: [2], num_heads: [4], split_size: [4, 8], mlp_ratio: 1}}
path: {{pretrain_network_g: ~, strict_load_g: true, resume_state: ~}}
train:
  total_iter: 4
  warmup_iter: -1
  optim_g: {{type: Adam, lr: 2.0e-4, weight_decay: 0, betas: [0.9, 0.99]}}
  scheduler: {{type: MultiStepLR, milestones: [4], gamma: 0.5}}
  pixel_opt: {{type: L1Loss, loss_weight: 1.0, reduction: mean}}
val:
  val_freq: 4
  save_img: false
  metrics:
    psnr: {{type: calculate_psnr, crop_border: 2, test_y_channel: true}}
    ssim: {{type: calculate_ssim, crop_border: 2, test_y_channel: true}}
logger: {{print_freq: 1, save_checkpoint_freq: 2, use_tb_logger: false}}
"""
LIST = """base: files/rgt.yml
seeds: [1, 2]
variants:
  RGT: []
  no CPE: [network_g:cpe=false]
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Working directory with list.yml, files/rgt.yml and data/."""
    for part, size in (("train", 48), ("val", 40)):
        for kind, image in zip(("HR", "LR"), hr_lr_pair(data.astronaut()[100:, 150:][:size, :size], 2), strict=True):
            (tmp_path / "data" / part / kind).mkdir(parents=True)
            Image.fromarray(image).save(tmp_path / "data" / part / kind / f"a{'x2' * (kind == 'LR')}.png")
    (tmp_path / "files").mkdir()
    (tmp_path / "files/rgt.yml").write_text(OPTIONS)
    (tmp_path / "list.yml").write_text(LIST)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(project: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """run(*flags, code=0): run `rgt ablation list.yml`; return its stdout, or its stderr if code is 2."""

    def call(*flags: str, code: int = 0) -> str:
        capsys.readouterr()
        assert main(["ablation", "list.yml", *flags]) == code
        out, call.err = capsys.readouterr()
        return call.err if code == 2 else out

    return call


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """(variant, seed folder) of each training; these trainings only write their final scores."""
    runs = []

    def write(option_file, folder, name, total_iter, overrides):
        runs.append((folder.parent.name, folder.name))
        place = folder / "experiments" / name
        place.mkdir(parents=True)
        rows = [HEADER, ["4", "Set of one", "psnr", "30.0"], ["4", "Set of one", "ssim", "0.9"]]
        (place / "metrics.csv").write_text("".join(",".join(row) + "\n" for row in rows))
        return place

    monkeypatch.setattr(ablation, "basicsr_train", write)
    return runs


# --- trainings ---


def test_interrupted_ablation_is_resumed_and_finished_trainings_are_kept(project, monkeypatch, run):
    """The second of two trainings is interrupted after 2 of 4 iterations and resumed."""
    train, started = ablation.basicsr_train, []

    def breaking_off(option_file, folder, name, *more):
        started.append(name)
        place = train(option_file, folder, name, *more)
        if started == ["RGT", "no_CPE"]:
            for file in ("training_states/4.state", "models/net_g_4.pth", "models/net_g_latest.pth"):
                (place / file).unlink()
            lines = (place / "metrics.csv").read_text().splitlines(keepends=True)
            (place / "metrics.csv").write_text("".join(line for line in lines if not line.startswith(("3", "4"))))
            raise KeyboardInterrupt
        return place

    monkeypatch.setattr(ablation, "basicsr_train", breaking_off)
    run(*SEED, code=130)
    assert "Not trained yet: no CPE (seed 2)" in run(*SEED, "--report", code=1)
    assert "1 of 2 trainings are missing" in run.err
    for training in json.loads(run(*SEED, "--format", "json"))["runs"]:
        assert 5 < training["scores"]["Set of one"]["psnr"] < 40
    assert "1 of 2 trainings were finished before" in run.err
    assert started == ["RGT", "no_CPE", "no_CPE"]
    kept = project / "experiments/ablation/list"
    assert "Resuming training from epoch" in (kept / "no_CPE/seed_2/train_output.txt").read_text()
    log = next((kept / "no_CPE/seed_2/experiments/no_CPE").glob("train_*.log")).read_text()
    assert "manual_seed: 2" in log
    assert "cpe: False" in log
    run(*SEED)  # all trainings are finished
    assert len(started) == 3
    assert "train:optim_g:lr is 0.0002, now it is 0.001; choose another folder" in run(
        *SEED, "--force_yml", "train:optim_g:lr=1e-3", code=2
    )


def test_all_variants_of_a_seed_come_before_the_next_seed(run, started):
    run()
    assert started == [("RGT", "seed_1"), ("no_CPE", "seed_1"), ("RGT", "seed_2"), ("no_CPE", "seed_2")]


def test_failed_training_is_reported_and_the_others_go_on(monkeypatch, started, run):
    write = ablation.basicsr_train

    def fail_once(*arguments):
        place = write(*arguments)
        if len(started) == 1:
            shutil.rmtree(place)
            raise UserError("it broke")

    monkeypatch.setattr(ablation, "basicsr_train", fail_once)
    assert "- Failed: RGT, seed 2: it broke" in run(*SEED, code=1)
    assert len(started) == 2
    run(*SEED)
    assert started[2:] == [("RGT", "seed_2")]
    monkeypatch.setattr(ablation, "basicsr_train", lambda *arguments: None)
    assert "the training wrote no scores for iteration 4" in run(*SEED, "--keep", "other", code=1)


@pytest.mark.parametrize("file", ["RGT/seed_2/thesis.txt", "RGT/seed_2"])
def test_foreign_files_are_named_and_kept(project, started, run, file):
    theirs = project / "kept/list" / file
    theirs.parent.mkdir(parents=True)
    theirs.write_text("mine")
    for more in ([], ["--report"]):
        assert "kept/list/RGT/seed_2" in run(*SEED, "--keep", "kept", *more, code=2)
    assert theirs.read_text() == "mine"
    assert started == []


def test_output_is_checked_before_training(project, started, run):
    (project / "notes.md").write_text("mine")
    for output, words in {
        "list.yml": "is one of the inputs",
        "files/rgt.yml": "is one of the inputs",
        "nowhere/table.md": "there is no folder nowhere",
        "notes.md": "exists; --overwrite replaces it",
    }.items():
        assert words in run(*SEED, "-o", output, *([] if output == "notes.md" else ["--overwrite"]), code=2)
    assert started == []
    assert (project / "notes.md").read_text() == "mine"
    run(*SEED, "-o", "notes.md", "--overwrite")
    assert (project / "notes.md").read_text().startswith("| Variant |")


def test_trainings_on_changed_data_are_not_compared(project, started, run):
    """A training before and one after a change of pixels must not be rows of one table."""
    run(*SEED, "--only", "RGT")
    Image.open(project / "data/train/HR/a.png").rotate(180).save(project / "data/train/HR/a.png")
    said = run(*SEED, code=2)
    assert "list/RGT/seed_2: holds a run in which datasets:train:dataroot_gt (content) is '1 files of" in said
    assert "choose another folder with --keep, or remove that one" in said
    assert len(started) == 1
    run(*SEED, "--keep", "another")
    (project / "another/list/no_CPE").rename(project / "experiments/ablation/list/no_CPE")
    assert "no_CPE/seed_2: holds a run in which datasets:train:dataroot_gt" in run(*SEED, "--report", code=2)


def test_pretrained_weights_count_as_data(project, started, run):
    (project / "files/rgt.yml").write_text(OPTIONS.replace("pretrain_network_g: ~", "pretrain_network_g: net.pth"))
    options = load_options(project / "files/rgt.yml")["network_g"]
    for seed in (0, 1):
        torch.manual_seed(seed)
        network = RGT(**{key: value for key, value in options.items() if key != "type"})
        torch.save({"params": network.state_dict()}, "net.pth")
        said = run(*SEED, "--only", "RGT", code=2 * seed)
    assert "path:pretrain_network_g (content) is '1 files of" in said


def test_report_needs_no_data(project, started, run):
    table = run(*SEED)
    (project / "data").rename("elsewhere")
    assert "data/train/HR" in run(*SEED, code=2)
    assert run(*SEED, "--report") == table


@pytest.mark.parametrize("content", ["", "3", '{"facts": 3}'])
@pytest.mark.parametrize("file", ["started_with.json", "experiments/RGT/metrics.csv"])
def test_damaged_files_of_a_training_are_named(project, started, run, file, content):
    run(*SEED)
    damaged = project / "experiments/ablation/list/RGT/seed_2" / file
    damaged.write_text(content)
    for more in ([], ["--report"]):
        said = run(*SEED, *more, code=2).splitlines()[-1]
        assert "list/RGT/seed_2" in said
        assert damaged.name in said
        assert damaged.read_text() == content


# --- lists ---


def test_only_keeps_the_reference_and_overrides_apply_to_all_variants(project):
    settings = AblationSettings(
        Path("list.yml"), only=["no CPE"], seeds=[5], overrides=["train:total_iter=7"], report=True
    )
    plan = run_ablation(settings)
    assert [(variant.label, variant.slug) for variant in plan.variants] == [("RGT", "RGT"), ("no CPE", "no_CPE")]
    assert plan.variants[1].overrides == ("train:total_iter=7", "network_g:cpe=false")
    assert (plan.seeds, plan.total_iter) == ([5], 7)
    assert plan.variants[0].cost.parameters - plan.variants[1].cost.parameters == 10 * 96


MISTAKES = [
    ("list.yml", "seeds: [1, 2]", "seeds: 3", "give whole numbers from 0"),
    ("list.yml", "seeds: [1, 2]", "seed: [1, 2]", "unknown key seed; did you mean seeds?"),
    ("list.yml", "  no CPE: [network_g:cpe=false]\n", "", "needs two or more"),
    ("list.yml", "base: files/rgt.yml", "base: files/rg.yml", "files/rg.yml: no such option file"),
    ("list.yml", "base: files/rgt.yml\n", "", "base is None; give an option file"),
    ("list.yml", "[network_g:cpe=false]", "3", "variants:no CPE is 3; give a list such as"),
    ("list.yml", "[network_g:cpe=false]", "[scale=3]", "['scale=3']: variants may change keys of network_g only"),
    ("list.yml", "[network_g:cpe=false]", "[network_g:embed_dim=97]", "no RGT has these arguments"),
    ("list.yml", "[network_g:cpe=false]", "[]", "have the same network"),
    ("list.yml", "no CPE:", "'RGT:':", "or names that give the same folder"),
    ("files/rgt.yml", "  metrics:\n", "  metric:\n", "metrics"),
    ("files/rgt.yml", "  total_iter: 4\n", "", "total_iter"),
]


def test_invalid_lists_are_reported_before_training(project, started, run):
    for file, old, new, words in MISTAKES:
        text = (project / file).read_text()
        assert text.count(old) == 1
        (project / file).write_text(text.replace(old, new))
        assert words in run("--report", code=2)
        (project / file).write_text(text)
    assert "did you mean no CPE?" in run("--only", "no CPR", code=2)
    assert started == []
    assert not (project / "experiments").exists()


@pytest.mark.parametrize(("size", "preset"), [("cpu", rgt_t), ("paper", rgt_s)])
def test_shipped_lists_ablate_every_switch_of_a_preset(size, preset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = run_ablation(AblationSettings(SHIPPED / f"ablation/{size}.yml", report=True))
    assert len(plan.seeds) == 3
    reference, *networks = (variant.options["network_g"] for variant in plan.variants)
    changed = {key for network in networks for key in network if network[key] != reference.get(key)}
    assert changed == {"global_blocks", "recursion", "reduction_stride", "c_ratio", "cpe", "hai"}
    arguments = {key: value for key, value in reference.items() if key != "type"}
    with torch.device("meta"):
        shapes = [[parameter.shape for parameter in net.parameters()] for net in (RGT(**arguments), preset(2))]
    assert shapes[0] == shapes[1]
    if size == "paper":  # the paper's training on one GPU instead of four
        options, training = plan.variants[0].options, load_options(SHIPPED / "train_RGT_S_x2.yml")
        assert options["train"].pop("accumulate") == 4
        batches = [of["datasets"]["train"].pop("batch_size_per_gpu") for of in (options, training)]
        assert batches[0] == 4 * batches[1]
        assert options["datasets"]["train"] == training["datasets"]["train"]
        assert [options[key] for key in ("train", "network_g")] == [training[key] for key in ("train", "network_g")]


# --- tables ---


def table(*psnr: float | None, failure: str = "") -> Ablation:
    """An ablation with these PSNR values (dB): RGT and no CPE with seed 1, then both with seed 2."""
    options = {
        "network_g": {"type": "RGT", "embed_dim": 96, "depth": [1], "num_heads": [2]},
        "datasets": {"train": {"name": "photographs"}, "val": {"name": "Set of one"}},
        "train": {"total_iter": 4},
        "val": {"metrics": {"psnr": {"test_y_channel": True}, "ssim": {"test_y_channel": True}}},
    }
    variants = [Variant(label, (), options) for label in ("RGT", "no CPE")]
    runs = [Run(variant, seed, Path()) for seed in (1, 2) for variant in variants]
    for run, value in zip(runs, psnr, strict=True):
        if value is None:
            run.failure = failure
        else:
            run.scores = {"Set of one": {"psnr": value, "ssim": 0.5}}
    return Ablation(Path("base.yml"), variants, (1, 2), runs)


def test_differences_are_taken_seed_by_seed():
    """The seeds differ by 2 dB, the variants always by 0.1 dB."""
    reference, other = table(30.0, 29.9, 32.0, 31.9).text("markdown").splitlines()[2:4]
    assert "| 31.000 ± 1.414 | – | 0.5000 ± 0.0000 |" in reference
    assert "| 30.900 ± 1.414 | −0.100 ± 0.000 |" in other


def test_missing_and_failed_trainings_are_listed_and_excluded_from_means():
    text = table(30.0, 29.9, 32.0, None).text("markdown")
    assert "−0.100 |" in text.splitlines()[3]
    assert "Not trained yet: no CPE (seed 2)" in text
    assert "- Failed: no CPE, seed 2: it broke" in table(30.0, 29.9, 32.0, None, failure="it broke").text("markdown")


def test_csv_and_json_keep_full_precision():
    full = table(30.0, 29.87654321, 32.0, 31.9)
    rows = list(csv.DictReader(io.StringIO(full.text("csv"))))
    assert [(row["variant"], row["metric"]) for row in rows] == [
        (variant, metric) for variant in ("RGT", "no CPE") for metric in ("psnr", "ssim")
    ]
    assert float(rows[2]["mean"]) == pytest.approx((29.87654321 + 31.9) / 2, abs=1e-9)
    assert rows[0]["difference"] == ""
    content = json.loads(full.text("json"))
    assert content["variants"][1]["results"][0]["mean"] == pytest.approx(float(rows[2]["mean"]), abs=1e-12)
    assert [run["seed"] for run in content["runs"]] == [1, 1, 2, 2]


def test_diverged_trainings_are_null_in_json():
    content = json.loads(table(math.nan, 30.0, 31.0, 32.0).text("json"))
    assert content["variants"][0]["results"][0]["mean"] is None
    assert content["runs"][0]["scores"]["Set of one"]["psnr"] is None
