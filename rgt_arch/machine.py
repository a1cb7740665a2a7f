"""What this process may use of the machine: its control groups, and the threads of torch.

By default, a thread without work spins: for milliseconds in GNU's OpenMP (torch on Linux), for 200 ms in LLVM's and
Intel's (on macOS and Windows). As soon as another program needs a core, the spinning takes time from the threads that
have work. Sleeping at once costs a wake-up in each of thousands of short operations. A short spin is nearly as fast as
the default on an idle machine, and much faster on a busy one.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_SHORT_SPIN = {"GOMP_SPINCOUNT": "2000", "KMP_BLOCKTIME": "1"}
"""For GNU's OpenMP in rounds (some 20 to 50 µs), for LLVM's and Intel's in ms. Each ignores the other's variable."""
WAITING_VARIABLES = ("OMP_WAIT_POLICY", "KMP_LIBRARY", *_SHORT_SPIN)
"""All that say how threads wait."""
_CGROUP, _MOUNTS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def set_up_threads() -> None:
    """Set variables of the OpenMP libraries, which read them when torch is loaded. Does nothing after that.

    If the user set one of `WAITING_VARIABLES`, none of them is changed; the same with `OMP_NUM_THREADS`.
    """
    if "torch" in sys.modules:
        return
    if not any(name in os.environ for name in WAITING_VARIABLES):
        os.environ.update(_SHORT_SPIN)
    # torch itself counts the cores that it may run on, as of `taskset`, but not how much time a container gets on them
    allowed = cgroup_cpus()
    if "OMP_NUM_THREADS" not in os.environ and allowed < math.inf and allowed < len(os.sched_getaffinity(0)):
        os.environ["OMP_NUM_THREADS"] = str(math.ceil(allowed))


def cores() -> int:
    """Return how many cores this process may use."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return math.ceil(min(found, cgroup_cpus()))


def cgroup_cpus(process: Path = _CGROUP, mounts: Path = _MOUNTS) -> float:
    """Return how many cores' time the control groups of this process allow; without a limit, infinity."""
    allowed = math.inf
    for folder, version in control_groups("cpu", process, mounts):
        files = ("cpu.max",) if version == 2 else ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        with suppress(OSError, ValueError):  # missing, or "max"
            quota, period = map(int, " ".join((folder / file).read_text() for file in files).split())
            if quota > 0:
                allowed = min(allowed, quota / period)
    return allowed


def control_groups(controller: str, process: Path = _CGROUP, mounts: Path = _MOUNTS) -> Iterator[tuple[Path, int]]:
    """Yield folder and version (1 or 2) of each control group with `controller` around this process, innermost first.

    A folder may be missing.
    """
    try:
        lines = process.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = mounts / controller if controllers else mounts
        group = root / path.lstrip("/")
        # Inside a container the path may be the host's; then the root is the container's own group.
        for folder in (group, *group.parents):
            yield folder, 1 if controllers else 2
