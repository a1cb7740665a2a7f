"""Shared by all tests: `rgt_arch` is imported first, because BasicSR 1.4.2 can be imported only after it."""

import multiprocessing
import signal
from collections import Counter
from collections.abc import Iterator

import pytest
import torch

import rgt_arch  # noqa: F401

# The networks here are tiny: a second thread costs more than it gives, and very much more on a busy machine.
torch.set_num_threads(1)

# Shells start background jobs with Ctrl-C ignored, nohup with SIGHUP; all that the tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def start_method() -> Iterator[None]:
    """Ranks choose for the whole process that workers are spawned, as BasicSR does: not for the tests after them."""
    before = multiprocessing.get_start_method(allow_none=True)
    yield
    if multiprocessing.get_start_method(allow_none=True) != before:
        multiprocessing.set_start_method(before, force=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that start many processes come first: at the end, no worker of xdist is left alone with one."""
    items.sort(key=lambda item: not item.nodeid.startswith(("tests/end_to_end/", "tests/benchmarks/")))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The tally of the fault drill (tests/end_to_end/test_drill.py), from what its tests recorded."""
    chains = [
        value
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport) and report.when == "call"
        for name, value in report.user_properties
        if name == "drill"
    ]
    if not chains:
        return
    terminalreporter.section("fault drill")
    phases: Counter[str] = Counter()
    for chain in chains:
        phases.update(chain["phases"])
        signals = ", ".join(f"{name} {count}" for name, count in chain["signals"].items())
        terminalreporter.line(f"{chain['chain']} (seed {chain['seed']}): {_kills(chain['phases'])}; {signals};")
        terminalreporter.line(f"    {chain['resumes']} resumes; next to an unbroken run: {chain['outcome']}")
    equal = sum(chain["outcome"] == "equal" for chain in chains)
    resumes = sum(chain["resumes"] for chain in chains)
    terminalreporter.line(f"in all {_kills(phases)}; {resumes} resumes; {equal} of {len(chains)} runs equal")


def _kills(phases: dict[str, int]) -> str:
    order = ("start", "between", "step", "validation", "save", "end")
    counted = ", ".join(f"{phase} {phases[phase]}" for phase in order if phases.get(phase))
    return f"{sum(phases.values())} kills ({counted})"
