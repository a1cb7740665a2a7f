"""The console commands `rgt` and `basicsr`: what they list, what they import, their defaults, and how errors end."""

from __future__ import annotations

import inspect
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from skimage import data

from rgt_arch import cli, rgt_t
from rgt_arch.cli import basicsr_command, ending_in_order, main, run_guarded
from rgt_arch.cli.commands import Command, build_parser
from rgt_arch.data.downsampling import SCALES, make_lr_images
from rgt_arch.data.sub_images import Cutting
from rgt_arch.errors import UsageError, UserError
from rgt_arch.evaluation.ablation import FORMATS as ABLATION_FORMATS
from rgt_arch.evaluation.ablation import AblationSettings
from rgt_arch.evaluation.complexity import run_complexity
from rgt_arch.evaluation.demo import run_demo
from rgt_arch.evaluation.figures.compare import CompareSettings
from rgt_arch.evaluation.figures.curves import CurveSettings
from rgt_arch.evaluation.figures.features import PARTS, FeatureSettings
from rgt_arch.evaluation.tables.measuring import TableSettings
from rgt_arch.evaluation.tables.results import FORMATS as TABLE_FORMATS
from rgt_arch.evaluation.tables.results import SCALES as TABLE_SCALES
from rgt_arch.inference.planning import EXTENSIONS, Output
from rgt_arch.inference.upscaler import ALPHA_MODES, PRECISIONS, Upscaler
from rgt_arch.version import __version__
from rgt_arch.weights.converting import convert_checkpoint

EVERY = [
    *((main, command) for command in cli.COMMANDS),
    *((basicsr_command.main, command) for command in basicsr_command.COMMANDS),
]
"""All commands with their entry points."""


def fail(error: BaseException) -> int:
    raise error


def python(code: str, *arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.parametrize("entry", [main, basicsr_command.main])
def test_help_lists_every_command_and_an_example(entry: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        entry(["--help"])
    assert ended.value.code == 0
    listed = capsys.readouterr().out
    assert "examples:\n" in listed
    for known, command in EVERY:
        if known is entry and " " not in command.name:
            assert re.search(rf"^    {command.name}\s", listed, re.MULTILINE)


@pytest.mark.parametrize(("entry", "command"), EVERY, ids=lambda value: getattr(value, "name", ""))
def test_every_command_has_help_with_an_example_and_a_verbose_flag(
    entry: Callable[..., int], command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        entry([*command.name.split(), "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "--verbose" in text
    prog = "rgt" if entry is main else "basicsr"
    examples = re.findall(
        rf"^  ({prog} {command.name}.*?)(?:  .*| >.*)?$", text.partition("examples:\n")[2], re.MULTILINE
    )
    assert examples
    parser = build_parser(
        *((cli.MAIN, cli.COMMANDS) if entry is main else (basicsr_command.MAIN, basicsr_command.COMMANDS))
    )
    for example in examples:  # its flags exist
        parser.parse_args(shlex.split(example)[1:])


def test_help_imports_none_of_the_large_libraries() -> None:
    code = """
import contextlib, io, sys
from rgt_arch.cli import COMMANDS, basicsr_command, main
for entry, commands in ((main, COMMANDS), (basicsr_command.main, basicsr_command.COMMANDS)):
    for words in ([], *(command.name.split() for command in commands)):
        with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
            entry([*words, "--help"])
print({"torch", "numpy", "cv2", "PIL", "basicsr", "yaml", "tqdm"} & set(sys.modules))
"""
    process = python(code)
    assert process.stdout == "set()\n", process.stderr


# --- what is used without BasicSR ---


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small weights, and photographs with their LR images."""
    folder = tmp_path_factory.mktemp("work")
    torch.manual_seed(0)
    torch.save({"params": rgt_t(2, depth=[2], num_heads=[6]).state_dict()}, folder / "net.pth")
    for place, name, size in (("HR", "cat", 32), ("LR", "catx2", 16)):
        (folder / place).mkdir()
        Image.fromarray(data.chelsea()[60:92, 100:132]).resize((size, size)).save(folder / place / f"{name}.png")
    return folder


WITHOUT_BASICSR = [
    "upscale LR -w net.pth -o larger --device cpu",
    "info net.pth",
    "convert net.pth net.safetensors",
    "weights",
    f"complexity {Path(__file__).parents[2] / 'options/train_RGT_T_x2.yml'}",
    "prepare lr HR --scale 2 -o made -j 1",
    "prepare subimages HR --lr LR --size 16 --step 16 -o cut -j 1",
    "prepare meta HR -o meta.txt -j 1",
    "prepare lmdb HR -j 1",
    "prepare check HR --lr LR -j 1",
]
BLOCKED = "import sys; sys.modules['basicsr'] = None; from rgt_arch.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.mark.parametrize("line", WITHOUT_BASICSR)
def test_basicsr_is_not_needed_for(line: str, folder: Path) -> None:
    process = python(BLOCKED, *line.split(), cwd=folder)
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize("fork", [False, True])
@pytest.mark.parametrize("line", ["rgt table bicubic", "basicsr train -opt a.yml", "basicsr test -opt a.yml"])
def test_without_basicsr_or_with_a_fork_one_line_names_the_way_to_get_it(line: str, fork: bool, tmp_path: Path) -> None:
    (tmp_path / "basicsr").mkdir()
    (tmp_path / "basicsr/__init__.py").touch()  # a fork without the modules of 1.4.2
    name, *arguments = line.split()
    code = f"""
import sys
{f"sys.path.insert(0, {str(tmp_path)!r})" if fork else "sys.modules['basicsr'] = None"}
from rgt_arch.cli import basicsr_command, main
sys.exit({"main" if name == "rgt" else "basicsr_command.main"}(sys.argv[1:]))
"""
    (tmp_path / "work").mkdir()
    process = python(code, *arguments, cwd=tmp_path / "work")
    assert process.returncode == 2, process.stderr
    expected = rf"{name} {arguments[0]}: error: .*basicsr.*; .* pip install basicsr==1\.4\.2.*\n"
    assert re.fullmatch(expected, process.stderr)


# --- defaults and choices ---

# What a command hands its flags to. A flag that is not given is left to these.
LIBRARY: dict[str, list[Callable[..., Any]]] = {
    "upscale": [Upscaler, Output],
    "demo": [run_demo],
    "table": [TableSettings],
    "figure compare": [CompareSettings],
    "figure features": [FeatureSettings],
    "figure curves": [CurveSettings],
    "complexity": [run_complexity],
    "ablation": [AblationSettings],
    "prepare lr": [make_lr_images],
    "prepare subimages": [Cutting],
    "convert": [convert_checkpoint],
}
OTHER_WORDS = {"parts": "all", "benchmarks": "the paper's five", "jobs": "as many as CPU cores"}
CHOICES = {
    "upscale": {"precision": PRECISIONS, "alpha": ALPHA_MODES, "extension": EXTENSIONS},
    "table": {"scales": TABLE_SCALES, "format": TABLE_FORMATS},
    "figure features": {"parts": PARTS},
    "ablation": {"format": ABLATION_FORMATS},
    "prepare lr": {"scales": SCALES},
}


def flags_of(command: Command) -> dict[str, dict[str, Any]]:
    """Settings of the flags by the name under which `run` gets them."""
    found = {}
    for item in command.flags:
        for names, settings in item if isinstance(item, list) else [item]:
            first = next((name for name in names if name.startswith("--")), names[0])
            found[settings.get("dest", first.lstrip("-").replace("-", "_"))] = settings
    return found


@pytest.mark.parametrize("command", cli.COMMANDS, ids=lambda command: command.name)
def test_help_names_the_defaults_and_choices_of_the_library(command: Command) -> None:
    flags = flags_of(command)
    for called in [*LIBRARY.get(command.name, []), *([command.run] if command.run else [])]:
        for name, parameter in inspect.signature(called).parameters.items():
            default = parameter.default
            if name in flags and default not in (inspect.Parameter.empty, None, False, ()):
                text = " ".join(map(str, default)) if isinstance(default, tuple) else str(default)
                assert f"(default: {OTHER_WORDS.get(name, text)}" in flags[name]["help"], name
    for name, choices in CHOICES.get(command.name, {}).items():
        assert flags[name]["choices"] == choices


# --- how commands end ---


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["prepare"], ["demo", "--iterations", "many"]])
def test_wrong_usage_exits_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: rgt" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (UserError("broken"), 1, "prog: error: broken\n"),
        (UsageError("a.yml: lr"), 2, "prog: error: a.yml: lr\n"),
        (KeyboardInterrupt(), 130, "prog: interrupted\n"),
    ],
)
def test_errors_of_users_are_one_line_and_an_exit_code(
    error: BaseException, code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_guarded(lambda: fail(error), "prog") == code
    assert capsys.readouterr().err == text


def test_verbose_lets_the_traceback_through() -> None:
    with pytest.raises(UserError):
        run_guarded(lambda: fail(UserError("broken")), "prog", verbose=True)


@pytest.mark.parametrize("arguments", [["prepare", "meta", "no", "-o", "a.txt"], ["prepare", "check", "no"]])
@pytest.mark.parametrize("place", [1, 2, 6])
def test_verbose_may_stand_anywhere_behind_the_command(arguments: list[str], place: int) -> None:
    with pytest.raises(UserError):
        main([*arguments[:place], "--verbose", *arguments[place:]])


@pytest.mark.parametrize("arguments", [["--version"], ["train", "--help"]])
def test_the_module_serves_both_commands(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "rgt_arch.cli", *arguments]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert __version__ in process.stdout or "-opt" in process.stdout


def test_signals_are_the_host_s_again_when_the_work_is_done() -> None:
    seen = []
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with ending_in_order():
            seen.append(signal.getsignal(signal.SIGTERM))
        assert callable(seen[0])
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)
