"""The console commands `rgt` and `basicsr`: help, imports, defaults and errors."""

from __future__ import annotations

import inspect
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from skimage import data

from rgt_arch import cli, rgt_t
from rgt_arch.cli import basicsr_command, main, run_guarded
from rgt_arch.cli.commands import Command, build_parser
from rgt_arch.config.tables import describe_options
from rgt_arch.data.outputs import Cutting
from rgt_arch.data.preparing import SCALES, make_lr_images
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
from rgt_arch.export.exporting import PRECISIONS as EXPORT_PRECISIONS
from rgt_arch.export.exporting import export_network
from rgt_arch.inference.planning import EXTENSIONS, Output
from rgt_arch.inference.precision import PRECISIONS
from rgt_arch.inference.upscaler import ALPHA_MODES, Upscaler
from rgt_arch.web import serve
from rgt_arch.weights.writing import convert_checkpoint

CONSOLE = [(main, cli.MAIN, cli.COMMANDS), (basicsr_command.main, basicsr_command.MAIN, basicsr_command.COMMANDS)]


def python(code: str, *arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run code in a new process."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.parametrize(("entry", "console", "commands"), CONSOLE, ids=["rgt", "basicsr"])
def test_every_command_is_listed_and_its_help_has_examples_that_parse(
    entry: Callable[..., int], console: Command, commands: Sequence[Command], capsys: pytest.CaptureFixture[str]
) -> None:
    def help_of(*words: str) -> str:
        with pytest.raises(SystemExit) as ended:
            entry([*words, "--help"])
        assert ended.value.code == 0
        return capsys.readouterr().out

    listed, parser = help_of(), build_parser(console, commands)
    assert "examples:\n" in listed
    for command in commands:
        assert " " in command.name or re.search(rf"^    {command.name}\s", listed, re.MULTILINE)
        text = help_of(*command.name.split())
        assert "--verbose" in text
        pattern = rf"^  ({console.name} {command.name}.*?)(?:  .*| >.*)?$"
        examples = re.findall(pattern, text.partition("examples:\n")[2], re.MULTILINE)
        assert examples, command.name
        for example in examples:
            parser.parse_args(shlex.split(example)[1:])


def test_help_imports_no_large_library() -> None:
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


# --- without BasicSR ---

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
CODES = """
import json, sys
{}
from rgt_arch.cli import basicsr_command, main
lines = [line.split() for line in sys.argv[1:]]
codes = [(basicsr_command.main if line[0] in ("train", "test") else main)(line) for line in lines]
print(json.dumps(codes), file=sys.stderr)
"""
BLOCK = "sys.modules['basicsr'] = None"


def test_commands_for_images_weights_and_data_need_no_basicsr(tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save({"params": rgt_t(2, depth=[2], num_heads=[6]).state_dict()}, tmp_path / "net.pth")
    for place, name, size in (("HR", "cat", 32), ("LR", "catx2", 16)):
        (tmp_path / place).mkdir()
        Image.fromarray(data.chelsea()[60:92, 100:132]).resize((size, size)).save(tmp_path / place / f"{name}.png")
    process = python(CODES.format(BLOCK), *WITHOUT_BASICSR, cwd=tmp_path)
    assert json.loads(process.stderr.splitlines()[-1]) == [0] * len(WITHOUT_BASICSR), process.stderr


@pytest.mark.parametrize("setup", [BLOCK, "sys.path.insert(0, 'fork')"], ids=["without", "fork"])
def test_missing_or_forked_basicsr_is_a_one_line_error_with_the_pip_command(setup: str, tmp_path: Path) -> None:
    (tmp_path / "fork/basicsr").mkdir(parents=True)
    (tmp_path / "fork/basicsr/__init__.py").touch()  # a fork without the modules of 1.4.2
    (tmp_path / "a.yml").touch()
    process = python(CODES.format(setup), "table bicubic", "train -opt a.yml", "test -opt a.yml", cwd=tmp_path)
    *lines, codes = process.stderr.splitlines()
    assert codes == "[2, 2, 2]", process.stderr
    for line, command in zip(lines, ("rgt table", "basicsr train", "basicsr test"), strict=True):
        assert re.fullmatch(rf"{command}: error: .*basicsr.*; .* pip install basicsr==1\.4\.2.*", line)


def test_missing_option_file_is_reported_without_importing_torch(tmp_path: Path) -> None:
    process = python(CODES.format("sys.modules['torch'] = None"), "train -opt a.yml", "test -opt a.yml", cwd=tmp_path)
    lines = [f"basicsr {name}: error: a.yml: no such option file; correct the path" for name in ("train", "test")]
    assert process.stderr.splitlines() == [*lines, "[2, 2]"]


# --- defaults and choices ---

# Functions and classes that receive the flags of a command. They define the defaults.
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
    "export": [export_network],
    "web": [serve],
}
OTHER_WORDS = {"parts": "all", "benchmarks": "the paper's five", "jobs": "as many as CPU cores"}
CHOICES = {
    "upscale": {"precision": PRECISIONS, "alpha": ALPHA_MODES, "extension": EXTENSIONS},
    "table": {"scales": TABLE_SCALES, "format": TABLE_FORMATS},
    "figure features": {"parts": PARTS},
    "ablation": {"format": ABLATION_FORMATS},
    "prepare lr": {"scales": SCALES},
    "export": {"precision": tuple(EXPORT_PRECISIONS)},
}


def flags_of(command: Command) -> dict[str, dict[str, Any]]:
    """Settings of the flags by parameter name of `run`."""
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


# --- errors and signals ---


def test_wrong_usage_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["nonsense"], ["prepare"], ["demo", "--iterations", "many"]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
        assert "usage: rgt" in capsys.readouterr().err


def test_mistyped_commands_flags_and_choices_get_a_suggestion(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "a.yml").touch()
    for line, near in (
        ("rgt upscal a.png", "upscale"),
        ("rgt prepare subimage HR", "subimages"),
        ("rgt upscale a.png --outsacle=2", "--outscale"),
        ("rgt prepare lr HR --scales 2", "--scale"),
        ("rgt upscale a.png --alpha bicubc", "bicubic"),
        ("basicsr trian -opt a.yml", "train"),
        ("basicsr train -opt a.yml --autoresume", "--auto_resume"),
        (f"basicsr train {tmp_path / 'a.yml'} --debug", f"-opt {tmp_path / 'a.yml'}"),
    ):
        program, *words = line.split()
        with pytest.raises(SystemExit) as ended:
            {"rgt": main, "basicsr": basicsr_command.main}[program](words)
        assert ended.value.code == 2
        assert capsys.readouterr().err.endswith(f"; did you mean {near}?\n"), line


def test_user_errors_are_one_line_and_an_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(error: BaseException) -> int:
        raise error

    for error, code, text in (
        (UserError("broken"), 1, "prog: error: broken\n"),
        (UsageError("a.yml: lr"), 2, "prog: error: a.yml: lr\n"),
        (KeyboardInterrupt(), 130, "prog: interrupted\n"),
    ):
        assert run_guarded(lambda error=error: fail(error), "prog") == code  # type: ignore[misc]
        assert capsys.readouterr().err == text


@pytest.mark.parametrize("place", [1, 2, 3])
def test_verbose_shows_the_traceback_at_any_position(place: int, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["prepare", "check", "no"]
    assert main([*arguments[:place], "--verbose", *arguments[place:]]) == 2
    error = capsys.readouterr().err
    assert error.startswith("Traceback")
    assert error.splitlines()[-1].startswith("rgt prepare check: error: ")


def test_options_command_prints_the_reference(capsys: pytest.CaptureFixture[str]) -> None:
    assert basicsr_command.main(["options"]) == 0
    assert capsys.readouterr().out == f"{describe_options()}\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_closed_pipe_is_silent_and_full_disk_behind_stdout_is_a_one_line_error(unbuffered: str) -> None:
    command = [sys.executable, "-m", "rgt_arch.cli", "options"]
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as nobody:
        process = subprocess.run(
            command, env=environment, stdout=nobody, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (process.returncode, process.stderr) == (0, "")
    if Path("/dev/full").exists():
        with open("/dev/full", "w") as full:
            process = subprocess.run(
                command, env=environment, stdout=full, stderr=subprocess.PIPE, text=True, check=False
            )
        assert process.stderr == "basicsr options: error: stdout: No space left on device\n"
        assert process.returncode == 1


def test_signal_handlers_of_the_host_are_restored() -> None:
    for name, default in {"SIGTERM": signal.SIG_DFL, "SIGINT": signal.default_int_handler}.items():
        number = getattr(signal, name)
        before = signal.signal(number, default)
        try:
            assert run_guarded(lambda number=number, default=default: signal.getsignal(number) is default, "prog") == 0
            assert signal.getsignal(number) is default
        finally:
            signal.signal(number, before)


@pytest.mark.parametrize("way", ["raise ImportError('PyCapsule_Import')", "pass"], ids=["converts", "ignores"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "program", ["rgt info", "python -m rgt_arch.cli info", "basicsr train -opt", "inference_rgt -i"]
)
def test_signal_in_an_import_that_hides_it_ends_the_command(
    program: str, number: int, way: str, tmp_path: Path
) -> None:
    lines = ("import os, time", "try:", f"    os.kill(os.getpid(), {number:d})", "except BaseException:", f"    {way}")
    (tmp_path / "fake").mkdir()
    (tmp_path / "cat.png").touch()
    (tmp_path / "fake/torch.py").write_text("\n".join(lines))
    starts = {
        "rgt": ["-c", "import sys; from rgt_arch.cli import main; sys.exit(main())"],
        "python": [],
        "basicsr": ["-c", "import sys; from rgt_arch.cli.basicsr_command import main; sys.exit(main())"],
        "inference_rgt": [str(Path(__file__).parents[2] / "realesrgan_style_scripts/inference_rgt.py")],
    }
    name, *words = program.split()
    process = subprocess.run(
        [sys.executable, *starts[name], *words, "cat.png"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path / 'fake'}:{Path(cli.__file__).parents[2]}"},
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert process.returncode == 128 + number, process.stderr
    ended = "basicsr train: ended by SIGTERM\n" if name == "basicsr" else ""
    assert re.fullmatch(r"\w+ \w+: interrupted\n" if number == signal.SIGINT else ended, process.stderr)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="waits for NumPy's library in /proc")
def test_ctrl_c_at_any_time_of_the_imports_is_one_line(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "never.yml")  # is opened after the imports, and blocks
    code = "import sys; from rgt_arch.cli.basicsr_command import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "train", "-opt", str(tmp_path / "never.yml")]
    for delay in (0, 0.1, 0.2, 0.4, 0.8):
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            while "_multiarray_umath" not in Path(f"/proc/{process.pid}/maps").read_text():
                assert process.poll() is None
                time.sleep(0.01)
            time.sleep(delay)
            process.send_signal(signal.SIGINT)
            told = process.communicate(timeout=60)[1]
        assert (process.returncode, told) == (130, "basicsr train: interrupted\n")
