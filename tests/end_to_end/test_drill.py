"""The fault drill: trainings that are killed repeatedly at random points end as uninterrupted ones, bit for bit.

`pytest -m drill` runs all of it, in under ten minutes on two cores, and prints a tally.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from ..warm import end_together, two_ranks
from .comparisons import assert_same_curves, assert_same_runs
from .conftest import TRAIN
from .phases import Watch

SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
EXIT_CODES = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}
# Used in turn, so that each phase is hit; the points within a phase are random.
PHASES = ("step", "save", "validation", "start", "save", "step", "validation", "between")
# RGT_DRILL_SEED repeats the signals of an earlier drill: number, phase, iteration, delay and rank. The exact point
# still depends on the speed of the machine.
SEED = int(os.environ.get("RGT_DRILL_SEED") or random.SystemRandom().randrange(1000000))


@dataclass
class Chain:
    """One run with interruptions: options beyond those of the `run` fixture, and the number of kills."""

    name: str
    total_iter: int
    kills: int = 12
    ranks: int = 1
    options: dict[str, dict[str, Any]] = field(default_factory=dict)
    lmdb: bool = False
    seed_is_drawn: bool = False


CHAINS = [
    Chain("disk, no workers, bf16 in 2 parts", 28, options={"train": {"amp": "bf16", "accumulate": 2}}),
    Chain(
        "disk, 4 workers, enlarged 100 times",
        25,
        options={"data": {"num_worker_per_gpu": 4, "dataset_enlarge_ratio": 100}},
    ),
    Chain(
        "LMDB, no workers, enlarged 100 times, bf16, seed drawn",
        27,
        options={"train": {"amp": "bf16"}, "data": {"dataset_enlarge_ratio": 100}},
        lmdb=True,
        seed_is_drawn=True,
    ),
    Chain(
        "LMDB, 4 workers with a queue, 2 checkpoints and the best kept",
        26,
        options={
            "train": {"accumulate": 2},
            "data": {"num_worker_per_gpu": 4, "prefetch_mode": "cpu", "num_prefetch_queue": 3},
            "logger": {"keep_checkpoints": 2, "keep_best": "psnr"},
        },
        lmdb=True,
    ),
    Chain("two ranks, LMDB, bf16", 22, kills=9, ranks=2, options={"train": {"amp": "bf16"}}, lmdb=True),
]


@pytest.mark.drill
@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: chain.name)
def test_runs_killed_at_random_points_end_as_uninterrupted_ones(run, capsys, chain):
    phases = drill(run, capsys, chain, SEED, check)
    assert sum(phases.values()) >= chain.kills - 2


def test_a_short_drill(run, capsys):
    """Asserts nothing that depends on the speed of the machine, such as the number of kills."""
    chain = Chain("short: LMDB, 2 workers", 13, kills=4, options={"data": {"num_worker_per_gpu": 2}}, lmdb=True)
    assert drill(run, capsys, chain, seed=5), "no signal met a run"


def drill(run, capsys, chain, seed, check_end=None):
    """Kill the chain's run, resume it until it is finished, and compare it with an uninterrupted run.

    A run that finishes before its first kill is started again. `check_end` is called after each kill. Returns the
    number of kills by phase.
    """
    configure(run, chain)
    points = random.Random(f"{seed} {chain.name}")
    phases, signals, resumes, outcome = Counter(), Counter(), 0, "NOT FINISHED"
    try:
        for number in range(chain.kills):
            strike = draw(points, chain, number)
            code, printed, struck = train(run, chain, "--auto_resume", strike=strike)
            resumes += "Resuming training from" in printed
            if code == 0:  # the signal came after the end
                if phases:
                    break
                for folder in (run.run_folder, run.root / "tb_logger"):
                    shutil.rmtree(folder)
                continue
            if check_end is not None:
                check_end(code, printed, struck, strike)
            if code in (-strike["number"], EXIT_CODES[strike["number"]]):
                phases[struck] += 1
                signals[signal.Signals(strike["number"]).name] += 1
        code, printed, _ = train(run, chain, "--auto_resume")
        assert code == 0, printed
        resumes += "Resuming training from" in printed
        run.run_folder.rename(run.root / "broken")
        (run.root / "tb_logger/tiny").rename(run.root / "broken_curves")

        outcome = "NOT EQUAL"
        state = torch.load(run.root / f"broken/training_states/{chain.total_iter}.state", weights_only=True)
        run.options["manual_seed"] = state["seed"]
        code, printed, _ = train(run, chain)
        assert code == 0, printed
        assert_same_runs(run.root / "broken", run.run_folder, chain.total_iter)
        assert_same_curves(run.root / "broken_curves", run.root / "tb_logger/tiny")
        outcome = "equal"
    finally:
        with capsys.disabled():
            print(f"\n{chain.name} (seed {seed}): {_tally(phases)}; {_tally(signals)}; {resumes} resumes: {outcome}")
    return phases


def _tally(counts):
    return ", ".join(f"{name} {counts[name]}" for name in sorted(counts))


def train(run, chain, *arguments, strike=None):
    """Exit code, output, and the phase in which the signal came (None if the run had ended before)."""
    watch = Watch(run.root / "watch")
    watch.enter("start", 0)
    watch.took("start", watch.duration("start") or 0.5)
    run.write()
    processes = run.begin(*TRAIN, *arguments, WATCH="watch", **(two_ranks() if chain.ranks == 2 else {}))
    struck = strike and strike_once(watch, processes, **strike)
    return end_together(processes), processes[0].stdout, struck


def strike_once(watch, processes, *, number, phase, iteration, last, fraction, whom):
    """Send a signal in a phase of `iteration` or a later one; from iteration `last` on, in any phase.

    fraction: the delay, as a part of the last duration of the phase. whom: a rank, or "group": all ranks with their
    data workers, as a terminal or Slurm does.
    """
    while True:
        if any(process.poll() is not None for process in processes):
            return None
        now, done = watch.now()
        if (now == phase and done >= iteration) or done >= last:
            break
        time.sleep(0.0003)
    time.sleep(fraction * watch.duration(now))
    struck = watch.now()[0]
    for process in processes if whom == "group" else [processes[whom]]:
        process.send_signal(number, group=whom == "group")
    return struck


def configure(run, chain):
    if chain.lmdb:
        run.use_lmdb()
    run.options["train"]["total_iter"] = chain.total_iter
    run.options["logger"]["save_checkpoint_freq"] = 4
    run.options["val"]["val_freq"] = 3
    for section, values in chain.options.items():
        (run.options["datasets"]["train"] if section == "data" else run.options[section]).update(values)
    if chain.seed_is_drawn:
        run.options["manual_seed"] = None


def draw(points, chain, number):
    """The signal for the `number`-th run of a chain. Iterations are spread over the whole run."""
    phase = PHASES[number % len(PHASES)]
    iteration = (chain.total_iter - 2) * number // chain.kills + points.randrange(2)
    return {
        "number": points.choice(SIGNALS),
        "phase": phase,
        "iteration": 0 if phase == "start" else iteration,
        "last": chain.total_iter,
        "fraction": points.random(),
        "whom": points.choice(["group", *range(chain.ranks)]),
    }


def check(code, printed, struck, strike):
    """A killed process prints nothing. A process that is asked to end saves and prints a line."""
    expected = {EXIT_CODES[strike["number"]]}
    if struck == "start":
        expected.add(-strike["number"])  # before Python handles signals
    assert code in expected, f"{strike}, struck in {struck}: {code}\n{printed}"
    if code > 0:
        assert "Traceback" not in printed
        assert "DataLoader worker" not in printed
        if struck in ("step", "between"):
            assert re.search(r"the run ends after iteration \d+, which is saved; --auto_resume goes on", printed)
