"""Running `basicsr train` and `basicsr test` as commands of their own, with a progress bar over what they print."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from rgt_arch.errors import UserError
from rgt_arch.progress import Progress

_ITERATION = re.compile(r"\biter:\s*([\d,]+)")
_PSNR = re.compile(r"# psnr:\s*([\d.]+)")


def basicsr_train(option_file: Path, total_iter: int) -> list[tuple[int, float]]:
    """Train in the folder of `option_file`, showing a bar; returns the validations as (iteration, PSNR in dB).

    Raises UserError with the command's own message if it fails.
    """
    validations: list[tuple[int, float]] = []
    iteration = 0
    with Progress(total_iter, "training", "it") as progress:
        for line in _run("train", option_file):
            if match := _ITERATION.search(line):
                iteration = int(match[1].replace(",", ""))
                progress.reach(iteration)
            elif match := _PSNR.search(line):
                validations.append((iteration, float(match[1])))
    return validations


def basicsr_test(option_file: Path) -> None:
    """Test in the folder of `option_file`. Raises UserError with the command's own message if it fails."""
    for _ in _run("test", option_file):
        pass


def _run(command: str, option_file: Path) -> Iterator[str]:
    """The lines that `basicsr COMMAND -opt FILE` prints, which a file beside the option file keeps as well."""
    output = option_file.with_name(f"{command}_output.txt")
    arguments = [sys.executable, "-m", "rgt_arch.cli", command, "-opt", option_file.name]
    # Threads that wait busily for each other halve the speed as soon as another program wants a core.
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    last = ""
    with (
        output.open("w", encoding="utf-8") as copy,
        subprocess.Popen(
            arguments,
            cwd=option_file.parent,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
        ) as process,
    ):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                copy.write(line)
                last = line.strip() or last
                yield line
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        raise UserError(f"basicsr {command} ended with exit code {process.returncode}: {last} (all it said: {output})")
