"""Measure networks: compare their outputs, then times in turns in this process, peak memory in fresh processes."""

from __future__ import annotations

import argparse
import contextlib
import math
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import psutil
import torch
from common import Row, float32_is_float32, positive, seconds
from networks import Case
from torch import Tensor, nn

from rgt_arch.errors import UserError
from rgt_arch.evaluation.complexity import Size
from rgt_arch.inference.memory import free_memory, is_out_of_memory
from rgt_arch.progress import Progress

MOST_DIFFERENCE = 1e-4
"""Between float32 outputs; a larger difference is a wrong network, not rounding."""
MOST_GRADIENT_DIFFERENCE = 1e-3
"""Between float32 gradients, relative to the largest of all."""
LEAST_PSNR = 40.0
"""Of bfloat16 outputs against float32, in dB."""
RESERVE = 10**9
"""Bytes of free memory that are left to other programs."""
_FRESH = get_context("forkserver")  # a server that has imported torch and measured nothing
_FRESH.set_forkserver_preload(["torch", "rgt_arch.evaluation.complexity"])
_SPIN = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: sum(range(100000))"
_WARM_UP_SECONDS = 5.0  # a longer first run counts, because warming up is a small part of it


def add_busy_flag(parser: argparse.ArgumentParser) -> None:
    """Add `--busy`, for `beside_busy_processes`."""
    parser.add_argument("--busy", metavar="N", type=positive, default=0, help="measure beside N spinning processes")


@contextlib.contextmanager
def beside_busy_processes(number: int) -> Iterator[str]:
    """Run `number` processes that each keep a core busy. Yields words for a heading. They end with this process."""
    processes = [subprocess.Popen([sys.executable, "-c", _SPIN]) for _ in range(number)]
    try:
        yield f", beside {number} busy processes" if number else ""
    finally:
        for process in processes:
            process.kill()
            process.wait()


def measure(sizes: Sequence[Sequence[Case]], rounds: int, *, apart: bool, in_turns: bool) -> list[Row]:
    """Return a row for each case, with ratios to the first case of the same size.

    apart: measure time and peak memory in fresh processes. in_turns: measure time in this process, for the cases that
    fit in memory. Raises UserError if outputs or gradients differ.
    """
    rows = []
    with Progress(len(sizes) * len(sizes[0]) * (apart + in_turns * rounds), "measuring", "run") as progress:
        if not in_turns:
            small = [replace(case, size=Size(64, 64)) for case in sizes[0]]
            first_outputs(small, [case.build() for case in small])
        for cases in sizes:
            of_size = [{"size": str(case.size), "engine": case.engine, "dtype": case.dtype} for case in cases]
            for case, row in zip(cases, of_size, strict=True):
                if case.train:
                    row["use_chk"] = case.config["use_chk"]
                if apart:
                    row.update(measure_apart(case, 1 if in_turns else rounds))
                    progress.advance()
            if in_turns:
                fitting = [number for number, row in enumerate(of_size) if row.get("GB", 0) is not None]
                found = measure_in_turns([cases[number] for number in fitting], rounds, progress.advance)
                for number, of_case in zip(fitting, found, strict=True):
                    of_size[number].update(of_case)
            base = of_size[0].copy()
            for row in of_size:
                if base["seconds"] and row["seconds"]:
                    row["speedup"] = base["seconds"] / row["seconds"]
                if base.get("GB") and row["GB"]:
                    row["memory_ratio"] = row["GB"] / base["GB"]
            rows += of_size
    return rows


def measure_in_turns(cases: Sequence[Case], rounds: int, done: Callable[[], object]) -> list[Row]:
    """Return for each case its agreement with the first output, and the median and all `rounds` times in this process.

    Cases run in turns, alternately reversed, so that a busy moment affects all.
    """
    works, rows = first_outputs(cases, [case.build() for case in cases])
    times: list[list[float]] = [[] for _ in works]
    for turn in range(rounds):
        for number in range(len(works))[:: 1 if turn % 2 == 0 else -1]:
            times[number].append(seconds(works[number], cases[number].device))
            done()
    return [{**row, "seconds": statistics.median(each), "times": each} for row, each in zip(rows, times, strict=True)]


def first_outputs(cases: Sequence[Case], networks: Sequence[nn.Module]) -> tuple[list[Callable[[], Tensor]], list[Row]]:
    """Run each case once, and compare its output with the first case's, which is float32.

    Returns the warm works and, for each case, the largest absolute difference and the PSNR in dB (None if equal).
    Raises UserError if outputs, or float32 gradients, differ by more than rounding or are NaN.
    """
    works = [case.work(network) for case, network in zip(cases, networks, strict=True)]
    outputs = [work().double() for work in works]
    rows: list[Row] = []
    for case, network, output in zip(cases, networks, outputs, strict=True):
        difference, mse = ((output - outputs[0]).abs().max().item(), (output - outputs[0]).square().mean().item())
        psnr = 10 * math.log10((outputs[0].max() - outputs[0].min()).item() ** 2 / mse) if mse else None
        fits = difference <= MOST_DIFFERENCE if case.dtype == "fp32" else psnr is None or psnr >= LEAST_PSNR
        if fits and case.train and case.dtype == "fp32":
            first, own = (_gradient(one) for one in (networks[0], network))
            fits = bool((own - first).abs().max() <= MOST_GRADIENT_DIFFERENCE * first.abs().max())
        if not fits:
            raise UserError(
                f"{case.engine} in {case.dtype} at {case.size} differs from {cases[0].engine} in float32: by up to "
                f"{difference:.1e}, or in its gradients; not measured"
            )
        rows.append({"difference": difference, "psnr": psnr})
    return works, rows


def _gradient(network: nn.Module) -> Tensor:
    """Return all gradients in one vector, zeros for missing ones."""
    return torch.cat([p.new_zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in network.parameters()])


def measure_apart(case: Case, rounds: int) -> Row:
    """Measure in a fresh process: `seconds`, the median of the runs, and `GB`, the peak above the loaded network.

    If the free memory does not suffice, both are None, and `more_than_GB` is the free memory.
    """
    allowed = free_memory(case.device) - RESERVE
    if allowed <= 0:
        raise UserError(f"less than {RESERVE / 1e9:.0f} GB of memory is free; end other programs first")
    with ProcessPoolExecutor(1, _FRESH, torch.set_num_threads, (torch.get_num_threads(),)) as process:
        try:
            return process.submit(_measure_here, case, rounds, allowed).result()
        except (MemoryError, RuntimeError) as error:  # a broken pool: killed by the system, or a library gave up
            if not isinstance(error, BrokenProcessPool) and not is_out_of_memory(error) and "alloc" not in str(error):
                raise
            return {"seconds": None, "GB": None, "more_than_GB": allowed / 1e9}


def _measure_here(case: Case, rounds: int, allowed: int) -> Row:
    device, cuda = case.device, case.device.type == "cuda"
    float32_is_float32()
    network = case.build()
    replace(case, size=Size(16, 16), train=False).work(network)()  # loads libraries
    work = case.work(network)
    if cuda:
        if not case.train:
            work()  # chooses kernels for this size
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    else:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets VmHWM
        before, virtual = psutil.Process().memory_info()[:2]
        if sys.platform == "linux":  # larger allocations fail, before the machine does
            resource.setrlimit(resource.RLIMIT_AS, (virtual + allowed, resource.getrlimit(resource.RLIMIT_AS)[1]))
    times = [seconds(work, device)]
    times = times if times[0] >= _WARM_UP_SECONDS and not case.train else []  # a second step has Adam's moments
    times += [seconds(work, device) for _ in range(rounds - len(times))]
    if cuda:
        peak = torch.cuda.max_memory_allocated(device)
    elif sys.platform == "linux":
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        peak = 1024 * int(status["VmHWM"].split()[0])
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS
    return {"seconds": statistics.median(times), "GB": max(0, peak - before) / 1e9}
