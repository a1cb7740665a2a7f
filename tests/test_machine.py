"""Commands set how threads wait, and their number, before torch reads it, and never over the user's settings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rgt_arch.machine import cgroup_cpus, set_up_threads

V1 = "cpu.cfs_quota_us", "cpu.cfs_period_us"


@pytest.mark.skipif(sys.platform != "linux", reason="OMP_DISPLAY_ENV of GNU's OpenMP")
@pytest.mark.parametrize(
    ("set_by_user", "read"),
    [
        ({}, "GOMP_SPINCOUNT = '2000'"),
        ({"GOMP_SPINCOUNT": "77"}, "GOMP_SPINCOUNT = '77'"),
        ({"OMP_WAIT_POLICY": "passive"}, "GOMP_SPINCOUNT = '0'"),
    ],
    ids=["default", "spin", "passive"],
)
@pytest.mark.parametrize("command", ["info RGT_T_x2", "test -opt empty.yml"])
def test_openmp_reads_the_variables_of_commands_and_users(
    command: str, set_by_user: dict[str, str], read: str, tmp_path: Path
) -> None:
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    (tmp_path / "empty.yml").touch()
    ended = subprocess.run(
        [sys.executable, "-m", "rgt_arch.cli", *command.split()],
        env=environment | {"OMP_DISPLAY_ENV": "verbose"} | set_by_user,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert read in ended.stderr


def test_nothing_is_set_once_torch_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    before = dict(os.environ)
    monkeypatch.setitem(sys.modules, "torch", sys)
    set_up_threads()
    assert dict(os.environ) == before


GROUPS = {
    "no limit": ("0::/\n", {"": "max 100000"}, None),
    "no groups": (None, {}, None),
    "version 2, container": ("0::/\n", {"": "150000 100000"}, 1.5),
    "version 2, the strictest parent": ("0::/a/b\n", {"a": "200000 100000", "a/b": "max 100000"}, 2.0),
    "version 1": ("4:memory:/x\n1:cpu,cpuacct:/\n", {"cpu": ("50000", "100000")}, 0.5),
    "version 1, group of the host": ("2:cpu:/docker/0f\n", {"cpu": ("300000", "100000")}, 3.0),
    "version 1, no limit": ("1:cpu:/\n0::/\n", {"cpu": ("-1", "100000")}, None),
    "version 1, not of cpuset": ("3:cpuset:/\n", {"cpu": ("50000", "100000")}, None),
}


@pytest.mark.parametrize("case", GROUPS)
def test_threads_are_as_many_as_the_groups_allow(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of_process, limits, expected = GROUPS[case]
    if of_process is not None:
        (tmp_path / "process").write_text(of_process)
    for name, limit in limits.items():
        (group := tmp_path / name).mkdir(parents=True, exist_ok=True)
        for file, text in [("cpu.max", limit)] if isinstance(limit, str) else zip(V1, limit, strict=True):
            (group / file).write_text(f"{text}\n")
    allowed = cgroup_cpus(tmp_path / "process", tmp_path)
    assert allowed == (float("inf") if expected is None else expected)
    monkeypatch.setattr("rgt_arch.machine.cgroup_cpus", lambda: allowed)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(os, "environ", {"OMP_WAIT_POLICY": "active"})
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    set_up_threads()
    rounded_up = {} if expected is None else {"OMP_NUM_THREADS": str(-int(-expected // 1))}
    assert os.environ == {"OMP_WAIT_POLICY": "active", **rounded_up}
    monkeypatch.setattr(os, "environ", {"OMP_NUM_THREADS": "5"})
    set_up_threads()
    assert os.environ["OMP_NUM_THREADS"] == "5"
    assert os.environ["GOMP_SPINCOUNT"] == "2000"
