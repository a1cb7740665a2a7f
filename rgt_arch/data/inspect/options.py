"""Option files: every mistake in them, and every image of their data sets."""

from __future__ import annotations

import copy
from pathlib import Path

from rgt_arch import config
from rgt_arch.config.loading import read_written
from rgt_arch.config.report import Report
from rgt_arch.config.tree import sections, subsection
from rgt_arch.data.inspect.datasets import DataSet
from rgt_arch.data.inspect.report import Section, counted
from rgt_arch.errors import UsageError, printable


def check_options(file: Path, *, bicubic: bool, jobs: int) -> list[Section]:
    """The reports on an option file and on each of its data sets, of which the last says whether it can be used.

    Relative paths are relative to the current directory, as in `basicsr train`. Raises UsageError for a file that
    cannot be read, or names no data set.
    """
    written = read_written(file)
    opt = copy.deepcopy(written.options)  # the checks change it, and compare it with what is written
    datasets = sections(opt.get("datasets"))
    if not datasets:
        raise UsageError(f"{file}: no data set in it, at datasets:")
    head = Section(str(file))
    head.facts.append(counted("{n} data set{s}: ", len(datasets)) + ", ".join(phase for phase, _ in datasets))
    is_train = "train" in opt or "train" in subsection(opt, "datasets")
    report = Report(str(file), written)
    config.check_options(opt, report, is_train=is_train)
    found = len(report.errors)
    config.check_files(opt, report, Path.cwd())
    report.errors, weights = report.errors[:found], report.errors[found:]
    result = [head]
    trained: dict[bytes, str] = {}
    for phase, data in datasets:
        data_set = DataSet(opt, phase, data, report, Path.cwd())
        result += data_set.sections(bicubic=bicubic, jobs=jobs)
        looks = data_set.gt.looks
        if data_set.is_train:
            trained = {look.digest: name for name, look in looks.items()}
            continue
        shared = [(name, trained[look.digest]) for name, look in looks.items() if look.digest in trained]
        result[-1].note(
            "{n} HR image{s} that the training data has too",
            (f"{printable(name)} = {printable(other)}" for name, other in shared),
        )
    command = f"`basicsr {'train' if is_train else 'test'}`"
    head.problem(f"{{n}} mistake{{s}} at which {command} stops", report.errors, stops="everything")
    head.note(f"{{n}} file{{s}} other than data that {command} misses", weights)
    return result
