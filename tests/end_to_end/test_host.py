"""A host's own train.py and test.py: after `import rgt_arch`, BasicSR's unchanged pipelines run RGT and RGTModel."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import torch
import yaml

from .. import warm

OPTIONS = Path(__file__).parents[2] / "options"

SCRIPT = """
import rgt_arch
from os import path as osp
from basicsr.{command} import {command}_pipeline

if __name__ == "__main__":
    {command}_pipeline(osp.abspath(osp.join(__file__, osp.pardir)))

    import signal, sys
    from rgt_arch.basicsr_compat import PATCHES
    home = lambda value: getattr(value, "__module__", None) or type(value).__module__
    modules = [module for name, module in sys.modules.items() if name.partition(".")[0] == "basicsr"]
    ours = {{name for module in modules for name, value in vars(module).items() if home(value).startswith("rgt_arch")}}
    assert ours <= {{patch.name.split(".")[-1] for patch in PATCHES}}, ours
    assert {command}_pipeline.__module__ == "basicsr.{command}"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    print("everything else is BasicSR's")
"""


def small(project, command):
    """A shipped option file with the project's photographs as its data sets, in runs of two iterations."""
    opt = yaml.safe_load((OPTIONS / f"{command}_RGT_T_x2.yml").read_text())
    for phase, data in opt["datasets"].items():
        folder = "train" if phase == "train" else "val"
        data.update(dataroot_gt=f"{folder}/hr", dataroot_lq=f"{folder}/lr", filename_tmpl="{}")
    if command == "train":
        opt["datasets"]["train"].update(gt_size=32, batch_size_per_gpu=2, num_worker_per_gpu=0)
        opt["train"]["total_iter"] = 2
        opt["val"]["val_freq"] = 1
        opt["logger"].update(print_freq=1, save_checkpoint_freq=1)
    else:
        opt["path"]["pretrain_network_g"] = "experiments/train_RGT_T_x2/models/net_g_latest.pth"
    project.options = opt
    (project.root / f"{command}.py").write_text(SCRIPT.format(command=command))
    return project.write(f"{command}.yml")


def test_a_hosts_own_scripts_train_resume_and_test(project):
    train = ("train.py", "-opt", small(project, "train"))
    printed = project.start_from_shell(sys.executable, *train)
    assert printed.endswith("everything else is BasicSR's\n")
    assert project.logged_iterations() == [1, 2]
    models = project.run_folder / "models"
    assert sorted(path.name for path in models.iterdir()) == ["net_g_1.pth", "net_g_2.pth", "net_g_latest.pth"]
    assert len(re.findall(r"# psnr: \d", printed)) >= 2

    run = warm.run(*train, "--auto_resume", "--force_yml", "train:total_iter=3", cwd=project.root, merged=True)
    assert run.returncode == 0, run.stdout
    assert re.search(r"Resuming training from epoch: 0, iter: 2", run.stdout)
    assert project.logged_iterations() == [3]
    one, other = (torch.load(models / f"net_g_{name}.pth", weights_only=True)["params"] for name in (2, "latest"))
    assert not torch.equal(one["conv_first.weight"], other["conv_first.weight"])

    run = warm.run("test.py", "-opt", small(project, "test"), cwd=project.root, merged=True)
    assert run.returncode == 0, run.stdout
    assert run.stdout.endswith("everything else is BasicSR's\n")
    assert re.search(r"# psnr: \d", run.stdout)


def test_host_in_another_folder_writes_beside_its_script(project):
    """BasicSR's root is the script's folder; paths in option files are relative to the current directory."""
    (project.root / "host").mkdir()
    (project.root / "host/train.py").write_text(SCRIPT.format(command="train"))
    arguments = ("-opt", project.write(), "--force_yml", "train:total_iter=1")
    run = warm.run("host/train.py", *arguments, cwd=project.root, merged=True)
    assert run.returncode == 0, run.stdout
    assert (project.root / "host/experiments/tiny/models/net_g_latest.pth").is_file()
