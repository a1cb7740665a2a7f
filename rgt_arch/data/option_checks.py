"""`validate_options`: every check on one option file and its data, before anything is created on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rgt_arch.config.checks.networks import check_files
from rgt_arch.config.loading import WrittenOptions, sections
from rgt_arch.config.problems import Report
from rgt_arch.config.validation import check_options
from rgt_arch.data.inspect.datasets import DataSet


def validate_options(
    opt: dict[str, Any],
    *,
    file: str | Path,
    is_train: bool,
    root: str | Path,
    resume_root: str | Path | None = None,
    written: WrittenOptions | None = None,
) -> list[str]:
    """Check the options of a training or test run and return warnings, one line each.

    opt: from `load_options` and `apply_overrides`, before BasicSR adds its own keys; `check_options` changes it in
    place. file: its name for messages. root: the folder that relative paths start from. resume_root: with
    --auto_resume, the folder that contains experiments/ (a resumed run needs no initial weights); else None.
    written: the result of `read_written`, for line numbers in messages.

    Raises one UsageError with all problems, one line each: file, line, key, value, remedy. Reads names, at most 64
    image headers and 8 pairs of images per data set, and meta-info files; creates nothing.
    """
    report = Report(str(file), written)
    check_options(opt, report, is_train=is_train)
    check_files(opt, report, Path(root), None if resume_root is None else Path(resume_root))
    for phase, data in sections(opt.get("datasets")):
        DataSet(opt, phase, data, report, Path(root)).check_headers()
    report.raise_errors()
    return report.warnings
