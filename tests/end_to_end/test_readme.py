"""Run the commands of README.md and docs/ in order, on tiny data, as the mark of each block describes."""

import os
import re
import shlex
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from rgt_arch import rgt_t
from rgt_arch.data.bicubic import hr_lr_pair

from .. import warm

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    ROOT / "README.md",
    *(ROOT / "docs" / f"{name}.md" for name in ("training", "upscaling", "python", "paper", "data")),
]
OTHERS = [ROOT / "docs/hosts.md", ROOT / "docs/installation.md"]
BLOCK = re.compile(r"^<!-- ([^\n]+) -->\n```(bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [
    (f"{document.name} {number}", *block)
    for document in DOCUMENTS
    for number, block in enumerate(BLOCK.findall(document.read_text(encoding="utf-8")), 1)
]
RUN = [block for block in BLOCKS if block[1].startswith("run by tests: ")]

TINY_NETWORK = "network_g:depth=[2] network_g:num_heads=[6] network_g:embed_dim=96 network_g:split_size=[8,16]"
CHEAPER = {
    "train": f"num_gpu=0 {TINY_NETWORK} train:total_iter=2 train:scheduler:milestones=[1] val:val_freq=2"
    " datasets:train:batch_size_per_gpu=1 datasets:train:num_worker_per_gpu=0",
    "test": f"num_gpu=0 {TINY_NETWORK} path:pretrain_network_g=tiny.pth",
    "checkpoints": "",
    "prepare": "",
    "in a shell": "",
    "as it stands": "",
}


def write_rgb(path: Path, image: np.ndarray) -> None:
    Image.fromarray(image).save(path)


def write_pairs(folder: Path, scales: tuple[int, ...], template: str = "{}x{}", size: int = 144) -> None:
    """Two photographs as HR and LR in the layout of the benchmarks; 144 divides by 2, 3 and 4."""
    for name in ("astronaut", "coffee"):
        photograph = getattr(data, name)()[100 : 100 + size, 150 : 150 + size]
        (folder / "HR").mkdir(parents=True, exist_ok=True)
        write_rgb(folder / "HR" / f"{name}.png", photograph)
        for scale in scales:
            (folder / f"LR_bicubic/X{scale}").mkdir(parents=True, exist_ok=True)
            lr = hr_lr_pair(photograph, scale)[1]
            write_rgb(folder / f"LR_bicubic/X{scale}" / f"{template.format(name, scale)}.png", lr)


def write_archives(folder: Path) -> None:
    """DIV2K_train_HR.zip and Flickr2K.tar with one photograph each, in the folders of the published archives."""
    for name, photograph in (("0001", data.chelsea()), ("000001", data.rocket())):
        write_rgb(folder / f"{name}.png", photograph[:290, :440])
    with zipfile.ZipFile(folder / "DIV2K_train_HR.zip", "w") as archive:
        archive.write(folder / "0001.png", "DIV2K_train_HR/0001.png")
    with tarfile.open(folder / "Flickr2K.tar", "w") as tar:
        tar.add(folder / "000001.png", "Flickr2K/Flickr2K_HR/000001.png")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A clone as README expects it, with tiny data and weights."""
    root = tmp_path_factory.mktemp("clone")
    for name in ("options", "realesrgan_style_scripts", "benchmarks"):
        (root / name).symlink_to(ROOT / name)
    write_pairs(root / "datasets/DF2K", (2,))
    for name in ("Set5", "Set14", "B100", "Urban100"):
        write_pairs(root / "datasets/benchmark" / name, (2, 4), size=48)
    write_pairs(root / "datasets/benchmark/Manga109", (2, 4), "{}_LRBI_x{}", size=48)
    (root / "datasets/single").mkdir()
    write_rgb(root / "datasets/single/cat.png", data.chelsea()[100:131, 100:140])
    write_archives(root)
    torch.save({"params": rgt_t(4, depth=[2], num_heads=[6]).state_dict()}, root / "tiny.pth")
    write_pictures(root)
    return root


def write_pictures(folder: Path) -> None:
    """Write the images that README upscales: photo.jpg, the folder photos, scan.tif in 16 bits, and holiday.mp4."""
    cat = data.chelsea()[100:130, 100:140]
    write_rgb(folder / "photo.jpg", cat)
    (folder / "photos/of cats").mkdir(parents=True)
    write_rgb(folder / "photos/of cats/chelsea.png", cat)
    write_rgb(folder / "photos/coffee.png", data.coffee()[100:130, 100:140])
    cv2.imwrite(str(folder / "scan.tif"), cat.astype(np.uint16) * 257)
    with av.open(folder / "holiday.mp4", "w") as video:
        stream = video.add_stream("libx264", rate=25)
        stream.width, stream.height = 40, 30
        for shift in range(3):
            frame = av.VideoFrame.from_ndarray(np.roll(cat, shift, axis=1), format="rgb24")
            video.mux(stream.encode(frame))
        video.mux(stream.encode())


def command_line(line: str, kind: str) -> list[str]:
    """Return the arguments of Python for a line of README, with fewer iterations and smaller networks."""
    program, *arguments = shlex.split(line)
    if CHEAPER[kind]:
        arguments += [*([] if "--force_yml" in arguments else ["--force_yml"]), *CHEAPER[kind].split()]
    return [*([] if program == "python" else ["-m", "rgt_arch.cli"]), *arguments]


@pytest.mark.parametrize("document", [*DOCUMENTS, *OTHERS], ids=lambda path: path.name)
def test_every_block_of_commands_is_marked_with_its_kind_of_test(document):
    text = document.read_text(encoding="utf-8")
    assert len(BLOCK.findall(text)) == len(re.findall(r"^```(?:bash|python)$", text, re.MULTILINE))
    for mark, _, _ in BLOCK.findall(text):
        assert mark == "the test command" or re.fullmatch(
            rf"not run by tests: .{{10,}}|run by tests: ({'|'.join(CHEAPER)})", mark
        )


def run(arguments: list[str], project: Path) -> str:
    process = warm.run(*arguments, cwd=project)
    assert process.returncode == 0, f"{shlex.join(arguments)}\n{process.stdout}\n{process.stderr}"
    return process.stdout


@pytest.fixture(scope="module")
def done():
    """Lines that have been run. Documents repeat some."""
    return set()


@pytest.mark.parametrize("block", RUN, ids=lambda block: block[0])
def test_commands_run(project, block, done):
    _, mark, language, text = block
    if language == "python":
        (project / "block.py").write_text(text)
        shape = "torch.Size([1, 3, 132, 188])" if "torch.rand" in text else "(30, 40, 3) (120, 160, 3)"
        assert run(["block.py"], project) == f"{shape}\n"
    elif mark == "run by tests: in a shell":
        shutil.rmtree(project / "datasets/DF2K")  # data of the trainings before; the block makes its own
        subprocess.run(["bash", "-e", "-c", text], cwd=project, check=True)
    else:
        for line in text.splitlines():
            if line not in done:
                run(command_line(line, mark.removeprefix("run by tests: ")), project)
                done.add(line)


def test_commands_wrote_the_documented_files(project):
    assert (project / "experiments/train_RGT_S_x2/models/net_g_latest.pth").is_file()
    for folder in ("HR", "LR_bicubic/X2"):
        listed = (project / f"datasets/DF2K_sub/{folder}.lmdb/meta_info.txt").read_text()
        side = 290 if folder == "HR" else 145
        assert listed.startswith(f"000001_s001.png ({side},"), folder
    assert (project / "experiments/train_RGT_x2_lmdb/models/net_g_latest.pth").is_file()
    assert len(list((project / "results/test_RGT_S_x4/visualization").glob("*/*.png"))) == 10
    assert len(list((project / "results/test_single_x4/visualization").glob("*/cat*.png"))) == 1
    assert Image.open(project / "photo_x4.jpg").size == (160, 120)
    assert {file.name for file in (project / "enlarged").rglob("*.png")} == {
        f"{name}_x4{kind}.png" for name in ("chelsea", "coffee") for kind in ("", "_compare")
    }
    assert cv2.imread(str(project / "scan_large.png"), cv2.IMREAD_UNCHANGED).shape == (75, 100, 3)
    with av.open(project / "holiday_x2.mp4") as video:
        assert [(frame.width, frame.height) for frame in video.decode(video=0)] == [(80, 60)] * 3
    assert {file.name for file in (project / "results").rglob("*_out.png")} == {"chelsea_out.png", "coffee_out.png"}
    assert (project / "RGT_S_x2.safetensors").stat().st_size > 100_000


def test_ci_runs_the_test_command_of_readme():
    extraction = re.search(r"^test_command=.*$", (ROOT / ".ci/run").read_text(), re.MULTILINE)
    command = subprocess.run(
        ["bash", "-c", f'{extraction[0]}; printf %s "$test_command"'],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert [command.stdout + "\n"] == [text for _, mark, _, text in BLOCKS if mark == "the test command"]
    assert command.stdout == 'pip install -e ".[test]" && pytest'


def test_ci_fails_when_tests_or_lint_fail(tmp_path):
    """Runs .ci/run itself, in a project with stand-ins for its commands."""
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".ci/run").write_text((ROOT / ".ci/run").read_text())
    stubs = tmp_path / "stubs"
    stubs.mkdir()
    # A fast stand-in for `python3 -m venv --clear .ci/venv`: an activate script with the stand-ins' path.
    stub = f'#!/bin/sh\nmkdir -p .ci/venv/bin; echo "PATH={stubs}:$PATH" > .ci/venv/bin/activate\n'
    for name, text in {
        "python3": stub,
        "pip": "#!/bin/sh\n",
        **dict.fromkeys(("ruff", "mypy"), "#!/bin/sh\ntest ! -e fail-$(basename $0)\n"),
    }.items():
        (stubs / name).write_text(text)
        (stubs / name).chmod(0o755)

    def ci(test_command: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "README.md").write_text(f"# x\n<!-- the test command -->\n```bash\n{test_command}\n```\n")
        environment = {**os.environ, "PATH": f"{stubs}:{os.environ['PATH']}"}
        return subprocess.run(
            ["bash", tmp_path / ".ci/run"], env=environment, capture_output=True, text=True, check=False
        )

    passed = ci("echo 3 passed && true")
    assert (passed.returncode, passed.stdout.splitlines()[-1]) == (0, "3 passed")
    assert ci("true && echo 1 failed && false").returncode != 0
    assert ci("false && echo unreached").returncode != 0
    for tool in ("ruff", "mypy"):
        (tmp_path / f"fail-{tool}").touch()
        assert ci("echo 3 passed").returncode != 0
        (tmp_path / f"fail-{tool}").unlink()
    assert ci("").returncode != 0


def test_linked_files_exist():
    others = [ROOT / f"{name}.md" for name in ("CONTRIBUTING", "CHANGELOG", "MODEL_CARD")]
    for document in (*DOCUMENTS, *OTHERS, *others):
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
            assert target.startswith("https://") or (document.parent / target).exists(), f"{document.name}: {target}"
