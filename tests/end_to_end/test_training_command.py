"""`basicsr train` and `basicsr test`, in this process: samples, checkpoints, folders and messages."""

from __future__ import annotations

import random
import re

import numpy as np
import pytest
import torch

from rgt_arch.cli.basicsr_command import main
from rgt_arch.training import loop

from .comparisons import assert_same_content


def test_a_test_keeps_results_and_leaves_cudnn_benchmark_off(basicsr_command, project, monkeypatch):
    basicsr_command()
    seen = []
    build = loop.build_model
    monkeypatch.setattr(loop, "build_model", lambda opt: seen.append(torch.backends.cudnn.benchmark) or build(opt))
    torch.backends.cudnn.benchmark = True

    project.options["datasets"] = {"test_1": project.options["datasets"]["val"]}
    project.options["path"] = {"pretrain_network_g": "experiments/tiny/models/net_g_latest.pth"}
    project.options["val"]["save_img"] = True
    kept = project.root / "results" / "tiny" / "mine.txt"
    kept.parent.mkdir(parents=True)
    kept.write_text("earlier results")
    for run in range(2):
        printed = basicsr_command(command="test")
        assert ("holds the pictures of an earlier test" in printed) == (run == 1)
    assert seen == [False, False]
    assert kept.exists()
    assert [folder.name for folder in (project.root / "results").iterdir()] == ["tiny"]
    assert len(list((kept.parent / "visualization" / "held_out").glob("*.png"))) == 2
    assert "psnr" in max(kept.parent.glob("test_*.log")).read_text()


@pytest.mark.parametrize(
    ("batch", "enlarge", "workers", "prefetch"), [(8, 1, 0, "cuda"), (4, 1, 0, "cpu"), (5, 7, 2, "cuda")]
)
def test_run_ends_at_total_iter_for_all_sizes(basicsr_command, project, batch, enlarge, workers, prefetch):
    project.options["datasets"]["train"].update(
        batch_size_per_gpu=batch, dataset_enlarge_ratio=enlarge, num_worker_per_gpu=workers
    )
    project.options["datasets"]["train"].update(prefetch_mode=prefetch, pin_memory=True)
    printed = basicsr_command()
    assert project.logged_iterations() == [1, 2, 3, 4, 5]
    assert re.findall(r"@ (\d+) iter", printed) == ["5"]
    epochs = [int(epoch) for epoch in re.findall(r"\[epoch: *(\d+),", printed)]
    assert epochs == [iteration * batch // (6 * enlarge) for iteration in range(5)]
    assert "-1 day" not in printed


def test_truncated_state_and_missing_network_are_skipped(basicsr_command, project):
    project.options["logger"]["save_checkpoint_freq"] = 1
    basicsr_command("--force_yml", "train:total_iter=4")
    states = project.run_folder / "training_states"
    newest = states / "4.state"
    newest.write_bytes(newest.read_bytes()[:1000])
    (project.run_folder / "models" / "net_g_3.pth").unlink()
    printed = basicsr_command("--auto_resume", "--force_yml", "train:total_iter=6")
    said = [line for line in printed.splitlines() if "resuming from" in line]
    assert len(said) == 1
    assert all(part in said[0] for part in ("4.state", "net_g_3.pth", "2.state"))
    assert project.logged_iterations() == [3, 4, 5, 6]

    newest = states / "6.state"
    newest.write_bytes(b"")
    project.options["path"]["resume_state"] = str(newest)
    basicsr_command("--force_yml", "train:total_iter=7")
    assert project.logged_iterations() == [6, 7]


def test_state_of_another_run_is_resumed_with_its_network(basicsr_command, project):
    basicsr_command()
    project.options["path"]["resume_state"] = "experiments/tiny/training_states/4.state"
    project.options["name"] = "second"
    printed = basicsr_command("--force_yml", "train:total_iter=6")
    assert "tiny/models/net_g_4.pth" in printed
    assert project.logged_iterations() == [5, 6]


def test_finished_run_is_unchanged_by_auto_resume_and_archived_otherwise(basicsr_command, project):
    project.options["logger"]["save_checkpoint_freq"] = 5
    basicsr_command("--auto_resume")  # nothing to resume: starts
    printed = basicsr_command("--auto_resume")
    assert "this run is finished (5 iterations)" in printed
    basicsr_command()
    assert len(list((project.root / "experiments").glob("tiny_archived_*"))) == 1


def test_run_goes_on_from_the_copy_of_its_options_without_its_initial_weights(basicsr_command, project):
    basicsr_command()
    changes = ("--force_yml", "train:total_iter=6", "path:pretrain_network_g=gone.pth")
    assert main(["train", "-opt", str(project.run_folder / "options.yml"), "--auto_resume", *changes]) == 0
    assert project.logged_iterations() == [6]


def test_seed_of_the_command_line_overrides_the_file(basicsr_command, project):
    losses = []
    for seed in ("7", "7", "8"):
        printed = basicsr_command("--restart", "--force_yml", f"manual_seed={seed}")
        losses.append(re.findall(r"l_pix: (\S+)", printed))
    assert losses[0] == losses[1] != losses[2]


def test_imported_module_registers_classes_and_cannot_replace_ours(basicsr_command, project, caplog):
    (project.root / "my_models.py").write_text(
        "from basicsr.utils.registry import ARCH_REGISTRY\n"
        "from basicsr.archs.edsr_arch import EDSR\n"
        "@ARCH_REGISTRY.register()\n"
        "class MyEDSR(EDSR): pass\n"
        "@ARCH_REGISTRY.register()\n"
        "class RGT(EDSR): pass\n"
    )
    project.options["network_g"]["type"] = "MyEDSR"
    basicsr_command("--import", "my_models")
    told = "RGT is registered by rgt_arch.archs.rgt_arch; the one of my_models is not used"
    assert caplog.messages.count(told) == 1
    from basicsr.utils.registry import ARCH_REGISTRY

    import rgt_arch

    assert ARCH_REGISTRY.get("RGT") is rgt_arch.RGT


def test_drawing_samples_does_not_advance_the_generators_of_training(basicsr_command, project, monkeypatch):
    """Iterators, samplers and samples (drawn in this process) must not advance the generators of drop path."""
    project.options["val"]["val_freq"] = 1
    torch_states, states = [], []
    build = loop.build_model

    def build_model(opt):
        model = build(opt)
        torch_states.append(torch.get_rng_state().numpy().tobytes())
        step = model.optimize_parameters

        def optimize_parameters(current_iter):
            torch_states.append(torch.get_rng_state().numpy().tobytes())
            states.append((random.random(), np.random.rand()))
            random.seed(0)
            np.random.seed(0)
            step(current_iter)

        model.optimize_parameters = optimize_parameters
        return model

    monkeypatch.setattr(loop, "build_model", build_model)
    basicsr_command()
    assert len(set(torch_states)) == 1
    assert len(set(states[1:])) == 1


@pytest.mark.parametrize("model", ["SRModel", "RGTModel"])
def test_checkpoints_that_cannot_be_written_end_the_run_in_one_line(basicsr_command, project, monkeypatch, full, model):
    """The saves at 2, 4 and 5 fail, and the third failure in a row ends the run, with both model classes."""
    project.options["model_type"] = model
    monkeypatch.setattr("basicsr.models.base_model.time.sleep", lambda _seconds: None)
    full.append(".pth")
    printed = basicsr_command(code=1)
    [line] = [line for line in printed.splitlines() if line.startswith("basicsr train: error:")]
    assert re.search(r"net_g_5\.pth: .*; 3 saves in a row failed; no checkpoint is saved yet; make room", line)
    assert "net_g_5.pth: cannot be written: No space left on device; nothing was changed" in printed
    assert "Traceback" not in printed
    assert project.logged_iterations() == [1, 2, 3, 4, 5]
    assert not list(project.run_folder.glob("*s/*"))


STRICT = (
    "from basicsr.models.sr_model import SRModel\n"
    "from basicsr.utils.registry import MODEL_REGISTRY\n"
    "@MODEL_REGISTRY.register()\n"
    "class StrictModel(SRModel):\n"
    "    def test(self):\n"
    "        assert self.lq.shape[-1] % self.opt['network_g']['window_size'] == 0\n"
)


def test_errors_of_a_model_in_validation_come_before_the_first_step_with_set_and_image(basicsr_command, project):
    (project.root / "strict_model.py").write_text(STRICT)
    project.options["model_type"] = "StrictModel"
    printed = basicsr_command("--import", "strict_model", code=1)
    line = "basicsr train: error: data set held_out, val/hr/img"
    assert re.search(rf"^{line}\d\.png or val/lr/img\d\.png: KeyError: no key 'window_size' ", printed, re.MULTILINE)
    assert not project.run_folder.exists()


@pytest.mark.parametrize("model", ["SRModel", "RGTModel"])
def test_trying_the_validation_leaves_the_run_as_it_is(basicsr_command, run, monkeypatch, model):
    del run.options["train"]["grad_clip"]
    run.options.update(model_type=model)
    run.options["val"]["save_img"] = True
    last = ["--force_yml", "train:total_iter=3"]
    printed = basicsr_command(*last)
    assert printed.count("Validation held_out") == 1
    run.run_folder.rename(run.root / "tried")
    monkeypatch.setattr(loop, "_try_validation", lambda *_: None)
    basicsr_command(*last)
    for name in ("models/net_g_3.pth", "training_states/3.state"):
        assert_same_content(run.run_folder / name, run.root / "tried" / name)
    files = [
        sorted(str(file.relative_to(folder)) for file in folder.rglob("*.png"))
        for folder in (run.run_folder, run.root / "tried")
    ]
    assert files[0] == files[1] == [f"visualization/img{number}/img{number}_3.png" for number in range(2)]


@pytest.mark.parametrize("model", ["SRModel", "RGTModel"])
def test_images_of_one_name_in_two_validation_sets_are_both_saved(basicsr_command, project, model):
    project.options["model_type"] = model
    project.options["datasets"]["val_2"] = {**project.options["datasets"]["val"], "name": "again"}
    project.options["val"]["save_img"] = True
    basicsr_command()
    folder = project.run_folder / "visualization"
    saved = sorted(str(file.relative_to(folder)) for file in folder.rglob("*.png"))
    assert saved == [f"{name}/img{number}/img{number}_5.png" for name in ("again", "held_out") for number in range(2)]


@pytest.mark.parametrize("key", ["params", "params_ema"])
def test_weights_of_the_package_load_by_name_in_every_model_class(basicsr_command, project, key):
    network = {"type": "RGT", "upscale": 2, "depth": [4, 4], "embed_dim": 96, "num_heads": [6, 6], "mlp_ratio": 2}
    project.options["network_g"] = {**network, "split_size": [8, 16]}
    project.options["datasets"] = {"test_1": project.options["datasets"]["val"]}
    project.options["path"] = {"pretrain_network_g": "rgt-t-x2", "param_key_g": key}
    means = []
    for model in ("SRModel", "RGTModel"):
        project.options["model_type"] = model
        printed = basicsr_command(command="test")
        assert re.search(r"Loading RGT model from \S+/RGT_T_x2\.safetensors", printed)
        means += re.findall(r"# psnr: (\S+)", printed)
    assert means[0] == means[1]
    assert float(means[0]) > 25


def test_test_file_without_val_writes_images(basicsr_command, project):
    project.options["datasets"] = {"test_1": project.options["datasets"]["val"]}
    project.options.pop("val")
    basicsr_command(command="test")
    assert len(list(project.root.glob("results/tiny/visualization/held_out/*.png"))) == 2
