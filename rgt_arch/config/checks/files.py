"""The files that `path:` names: weights and training states."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rgt_arch.config.checks.networks import check_weights
from rgt_arch.config.report import Report
from rgt_arch.config.tree import subsection
from rgt_arch.errors import UsageError
from rgt_arch.weights.zoo import find_entry, require


def check_files(opt: dict[str, Any], report: Report, root: Path, resume_root: Path | None = None) -> None:
    """Weights and training states that the file points at, but for weights that a resumed run takes elsewhere.

    Published weights go by their names, which the model looks up.
    """
    paths = subsection(opt, "path")
    resumed = isinstance(paths.get("resume_state"), str) or _has_states(opt, resume_root)
    kept = paths.get("ignore_resume_networks") or ()
    for key, value in paths.items():
        is_weights = key.startswith("pretrain_network") and not (resumed and key.removeprefix("pretrain_") not in kept)
        if isinstance(value, str) and (is_weights or key == "resume_state"):
            file = root / Path(value).expanduser()
            entry = find_entry(value) if is_weights and not file.exists() else None
            if entry:
                try:
                    require(entry)
                except UsageError as error:
                    report.error(("path", key), str(error).removeprefix(f"{entry.name}: "), value)
            elif not file.is_file():
                what = "is a folder, not a file" if file.is_dir() else f"no such file{_under(root, value)}"
                report.error(("path", key), f"{what}; correct the path, or ~ for none", value)
            elif is_weights:
                check_weights(opt, key, file, report)


def _has_states(opt: dict[str, Any], resume_root: Path | None) -> bool:
    """Whether --auto_resume finds a state of this run."""
    if resume_root is None or not isinstance(opt.get("name"), str):
        return False
    states = resume_root / "experiments" / opt["name"] / "training_states"
    return any(states.glob("[0-9]*.state"))


def _under(root: Path, value: str) -> str:
    return "" if Path(value).expanduser().is_absolute() else f" under {root}"
