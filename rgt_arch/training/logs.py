"""Logs of a run: BasicSR's log file and lines, TensorBoard files, metrics.csv, wandb and a progress bar.

The numbers in files are complete up to each checkpoint, and a resumed run does not repeat them. (Exception: if a run
was killed during a validation, TensorBoard draws the points of that validation twice.)
"""

from __future__ import annotations

import logging
import os
import sys
import time
import uuid
from contextlib import ExitStack
from itertools import count
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Any

import psutil
import torch
from basicsr.utils import AvgTimer, MessageLogger, get_env_info, get_root_logger, get_time_str
from basicsr.utils.logger import init_wandb_logger, initialized_logger
from basicsr.utils.options import dict2str
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from rgt_arch.config.loading import Options
from rgt_arch.config.settings import logger_settings
from rgt_arch.errors import UserError
from rgt_arch.files import write_text
from rgt_arch.training.metrics_csv import MetricsCsv

WANDB_ID = "wandb_id.txt"
_BAR_FORMAT = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}, {rate_fmt}, ETA {remaining}{postfix}"


def open_log(opt: Options, notices: list[str]) -> logging.Logger:
    """Return BasicSR's root logger, anew for each run; `notices` become its first warnings.

    It keeps its lines for the file that `write_log` makes: a run that fails before its first step leaves no folder.
    """
    logger = logging.getLogger("basicsr")
    initialized_logger.pop("basicsr", None)
    for handler in logger.handlers[:]:
        logger.removeHandler(handler)
        handler.close()
    get_root_logger()  # for the other ranks this sets ERROR
    if not opt["rank"]:
        logger.setLevel(logging.INFO)
        logger.addHandler(MemoryHandler(sys.maxsize, flushLevel=sys.maxsize))
    while notices:
        logger.warning(notices.pop(0))
    logger.info(get_env_info())
    logger.info(dict2str(opt))
    return logger


def write_log(opt: Options, command: str, logger: logging.Logger) -> None:
    """Write the lines since `open_log`, and all others, to a new log file in the run directory."""
    stem = Path(opt["path"]["log"], f"{command}_{opt['name']}_{get_time_str()}")
    names = (f"{stem}.log" if number == 1 else f"{stem}_{number}.log" for number in count(1))
    for memory in [each for each in logger.handlers if isinstance(each, MemoryHandler)]:
        file = logging.FileHandler(next(name for name in names if not os.path.exists(name)), "w")
        file.setFormatter(logger.handlers[0].formatter)
        memory.setTarget(file)
        memory.close()  # writes its lines
        logger.removeHandler(memory)
        logger.addHandler(file)


class Numbers:
    """Writes the numbers of a run to TensorBoard files and metrics.csv, on rank 0; models use it as a SummaryWriter."""

    def __init__(self, opt: Options, start_iter: int, logger: logging.Logger) -> None:
        """start_iter: later numbers that the files already have are hidden (TensorBoard) or deleted (CSV)."""
        self._logger = logger
        self._writer: Any = None
        self.csv: MetricsCsv | None = None
        self._folder = os.path.join(opt["root_path"], "tb_logger", opt["name"])
        self._purge_step = start_iter + 1 if start_iter else None
        self._failing = False
        self.use_tb = bool(opt["logger"].get("use_tb_logger")) and "debug" not in opt["name"] and not opt["rank"]
        if opt["rank"]:
            return
        if self.use_tb and (opt["logger"].get("wandb") or {}).get("project") is not None:
            _join_wandb(opt, start_iter)  # before TensorBoard: wandb synchronises with it
        if self.use_tb:
            self._try(lambda _writer: None)
        if logger_settings(opt).csv:
            self.csv = MetricsCsv(opt["path"]["experiments_root"], start_iter, logger)

    def add_scalar(self, tag: str, scalar_value: float, global_step: int | None = None, **more: Any) -> None:
        """Log a number; the arguments are SummaryWriter's. Metrics without a step are not written to the CSV."""
        self._try(lambda writer: writer.add_scalar(tag, scalar_value, global_step, **more))
        kind, _, name = tag.partition("/")
        if kind == "metrics":
            dataset, _, metric = name.rpartition("/")
            if self.csv is not None and global_step is not None:
                self.csv.add(global_step, dataset, {metric: scalar_value})
            self.flush()  # the next saved state records that this validation is done

    def __getattr__(self, name: str) -> Any:
        """Return other methods of a SummaryWriter, such as `add_image`; adding does nothing without TensorBoard."""
        if not name.startswith("add_"):
            return getattr(self.__dict__["_writer"], name)
        return lambda *arguments, **keywords: self._try(lambda writer: getattr(writer, name)(*arguments, **keywords))

    def flush(self) -> None:
        """Write all pending numbers to the files."""
        self._try(lambda writer: writer.flush())
        if self.csv is not None:
            self.csv.flush()

    def close(self) -> None:
        """Write all pending numbers to the files, and close the TensorBoard writer."""
        self.flush()
        self._try(lambda writer: writer.close())

    def _try(self, use: Any) -> None:
        """Call `use` with the writer. A full disk costs points of a curve, not the run: the next call opens another."""
        if not self.use_tb:
            return
        from torch.utils.tensorboard import SummaryWriter

        try:
            if self._writer is None:
                self._writer = SummaryWriter(self._folder, purge_step=self._purge_step)
            use(self._writer)
        except OSError as error:  # raised in the writer's thread, reported at the next call
            self._writer = None
            if not self._failing:
                self._logger.error(f"{self._folder}: cannot be written ({error.strerror}); curves have a gap")
            self._failing = True
        else:
            self._failing = False


def _join_wandb(opt: Options, start_iter: int) -> None:
    """Start or resume a wandb run, which receives the TensorBoard data. Raises UserError if wandb refuses.

    The wandb id is stored in the run directory for a resume; `logger.wandb.resume_id` has priority.
    """
    import wandb

    settings, kept = opt["logger"]["wandb"], Path(opt["path"]["experiments_root"], WANDB_ID)
    known = kept.read_text().strip() if start_iter and kept.is_file() else ""
    settings["resume_id"] = settings.get("resume_id") or known or uuid.uuid4().hex[:8]
    write_text(settings["resume_id"], kept)
    try:
        init_wandb_logger(opt)
    except wandb.Error as error:
        raise UserError(
            f"logger:wandb: {' '.join(str(error).split()).rstrip('.')}; or set WANDB_MODE=offline, or project: ~"
        ) from error


class _QuietTqdm(tqdm):
    monitor_interval = 0  # no monitor thread, because data workers are forked


class StepLog:
    """Logs BasicSR's line every `print_freq` iterations, adds the numbers to the files, shows a bar on a terminal.

    The bar, on rank 0, shows rate, ETA, losses, learning rate and memory below the log lines.
    """

    def __init__(self, opt: Options, start_iter: int, numbers: Numbers, device: torch.device) -> None:
        # BasicSR's class counts one remaining iteration too few
        longer = {**opt, "train": {**opt["train"], "total_iter": opt["train"]["total_iter"] + 1}}
        longer["logger"] = {**opt["logger"], "use_tb_logger": numbers.use_tb}
        self._lines = MessageLogger(longer, start_iter, numbers)
        self._start_iter, self._every, self._numbers = start_iter, opt["logger"]["print_freq"], numbers
        self._iteration_timer, self._data_timer, self._device = AvgTimer(), AvgTimer(), device
        self._open = ExitStack()
        self._bar = self._open.enter_context(
            _QuietTqdm(
                initial=start_iter,
                total=opt["train"]["total_iter"],
                bar_format=_BAR_FORMAT,
                dynamic_ncols=True,
                miniters=1,
                unit="it",
                file=sys.stderr,
                disable=opt["rank"] != 0 or not sys.stderr.isatty(),
            )
        )
        if not self._bar.disable:
            self._open.enter_context(logging_redirect_tqdm([get_root_logger()]))

    def batch_arrived(self) -> None:
        """Call between waiting for data and the step."""
        self._data_timer.record()

    def step_done(self, model: Any, iteration: int, epoch: int) -> None:
        """Call after a step. epoch: from 0, the one that the iteration began in."""
        self._iteration_timer.record()
        losses, rates = model.get_current_log(), model.get_current_learning_rate()
        if not self._bar.disable:
            shown = [f"{name} {value:.2e}" for name, value in losses.items()]
            self._bar.set_postfix_str(", ".join([*shown, f"lr {rates[0]:.3g}", self._memory()]), refresh=False)
            self._bar.update(iteration - self._bar.n)
        if iteration % self._every:
            return
        if self._numbers.csv is not None:
            self._numbers.csv.add(iteration, "", {"lr": rates[0], **losses})
        pace = self._iteration_timer.get_avg_time()
        # BasicSR's class divides the time since start_time by the iterations since start_iter
        self._lines.start_time = time.time() - pace * (iteration - self._start_iter + 1)
        data_time = self._data_timer.get_avg_time()
        self._lines({"epoch": epoch, "iter": iteration, "lrs": rates, "time": pace, "data_time": data_time, **losses})

    def next_begins(self, *, after_pause: bool) -> None:
        """Call before waiting for data. after_pause: after saving or validation, which do not count in rate and ETA."""
        self._data_timer.start()
        self._iteration_timer.start()
        if after_pause:
            self._bar.unpause()

    def close(self) -> None:
        """Close the bar, which stays visible; log lines go directly to the terminal again."""
        self._open.close()

    def _memory(self) -> str:
        if self._device.type == "cuda":
            used = torch.cuda.memory_reserved(self._device)
        else:
            used = psutil.Process().memory_info().rss
        return f"{used / 1e9:.1f} GB"
