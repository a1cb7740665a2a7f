"""`basicsr train` and `basicsr test` as users start them: real processes, small photographs, no GPU."""

from __future__ import annotations

import re
import sys

BASICSR = (sys.executable, "-m", "rgt_arch.cli")


def test_run_without_gpu_does_exactly_total_iter_then_resumes(project):
    """6 images and batch 8, where BasicSR trains not at all; a GPU in the file; then unfinished, refused, resumed."""
    options = project.write()
    run = project.start(*BASICSR, "train", "-opt", options)
    assert run.returncode == 0, run.stdout
    assert project.logged_iterations() == [1, 2, 3, 4, 5]
    assert re.findall(r"@ (\d+) iter", run.stdout) == ["5"]
    assert run.stdout.count("no CUDA GPU is here") == 1

    (project.run_folder / "models" / "net_g_latest.pth").unlink()  # as if it had been killed
    before = sorted(project.root.rglob("*"))
    refused = project.start(*BASICSR, "train", "-opt", options, "--force_yml", "train:total_iter=7")
    assert refused.returncode == 2
    assert "an unfinished run has this name (it was saved at iteration 5 of 7)" in refused.stdout
    assert "Traceback" not in refused.stdout
    assert sorted(project.root.rglob("*")) == before

    resumed = project.start(*BASICSR, "train", "-opt", options, "--force_yml", "train:total_iter=7", "--auto_resume")
    assert resumed.returncode == 0, resumed.stdout
    assert project.logged_iterations() == [6, 7]
    assert re.findall(r"@ (\d+) iter", resumed.stdout) == ["7"]


def test_two_ranks_with_spawned_workers_train_from_one_lmdb(project):
    """torchrun with gloo; spawned workers; training and validation read the same LMDB in one process."""
    project.use_lmdb()
    project.options["datasets"]["train"].update(num_worker_per_gpu=1, batch_size_per_gpu=4)
    project.options["val"]["val_freq"] = 2
    run = project.start(
        *(sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29641"),
        *("-m", "rgt_arch.cli", "train", "-opt", project.write(), "--launcher", "pytorch"),
    )
    assert run.returncode == 0, run.stdout
    assert project.logged_iterations() == [1, 2, 3, 4, 5]
    assert re.findall(r"@ (\d+) iter", run.stdout)[-1] == "5"
    assert run.stdout.count("no CUDA GPU is here") == 1  # rank 0 alone speaks


def test_error_of_all_ranks_is_said_once_and_by_rank_zero(project):
    run = project.start(
        *(sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29642"),
        *("-m", "rgt_arch.cli", "train", "-opt", "missing.yml", "--launcher", "pytorch"),
    )
    assert run.returncode != 0
    assert run.stdout.count("missing.yml: no such option file") == 1


def test_folder_called_basicsr_shadows_nothing(project):
    (project.root / "basicsr").mkdir()
    (project.root / "basicsr" / "__init__.py").write_text("raise RuntimeError('the folder in the current directory')")
    module = project.start(*BASICSR, "train", "-opt", "missing.yml")
    script = project.start("basicsr", "train", "-opt", "missing.yml", PYTHONPATH=".")
    for run in (module, script):
        assert run.returncode == 2
        assert run.stdout.endswith("error: missing.yml: no such option file; correct the path\n")


def test_option_file_cannot_execute_code(project):
    options = project.root / project.write()
    options.write_text(f"name: !!python/object/apply:os.system ['touch executed']\n{options.read_text()}")
    run = project.start("basicsr", "train", "-opt", options.name)
    assert run.returncode == 2
    assert "Traceback" not in run.stdout
    assert not (project.root / "executed").exists()
    assert not (project.root / "experiments").exists()


def test_letters_beyond_ascii_in_an_option_file_need_no_locale(project):
    options = project.root / project.write()
    text = f"# ×2, für später\n{options.read_text()}"
    options.write_text(text, encoding="utf-8")
    ascii_only = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    run = project.start(*BASICSR, "train", "-opt", options.name, **ascii_only)
    assert run.returncode == 0, run.stdout
    assert (project.run_folder / "options.yml").read_text(encoding="utf-8").endswith(f"\n\n{text}")
