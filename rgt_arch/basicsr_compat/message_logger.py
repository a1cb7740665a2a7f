"""Log lines with the real epoch and an ETA from the recent pace, and their numbers in metrics.csv.

Where: basicsr/utils/logger.py:44-115 (used at train.py:135). What goes wrong: the ETA averages over everything since
the start, worker start-up included, counts one iteration too many after a resume and ends at "-1 day, 23:59:59"; the
epoch is that of the loop, which makes one pass only (see iterations.py); `use_tb_logger` missing is a KeyError.
Delete it with iterations.py.
"""

from __future__ import annotations

import time
from typing import Any

from rgt_arch.basicsr_compat import training_loop
from rgt_arch.basicsr_compat.csv_log import CsvLog
from rgt_arch.basicsr_compat.iterations import epoch_of

_NO_LOSSES = ("epoch", "iter", "lrs", "time", "data_time")


def with_real_epochs(original: type) -> type:
    """A subclass of BasicSR's MessageLogger; it still formats the lines."""

    class MessageLogger(original):
        def __init__(self, opt: dict[str, Any], start_iter: int = 1, tb_logger: Any = None) -> None:
            super().__init__(opt, start_iter, tb_logger)
            training_loop.keep_tb_logger(tb_logger)
            self.opt = opt
            self.max_iters = int(opt["train"]["total_iter"]) + 1  # the base class takes one off what is left to do
            self.csv: CsvLog | None = getattr(tb_logger, "csv", None)

        def __call__(self, log_vars: dict[str, Any]) -> None:
            iteration = log_vars["iter"]
            log_vars["epoch"] = epoch_of(self.opt, iteration, log_vars["epoch"])
            if (
                "time" in log_vars
            ):  # the base class divides the time since start_time by the iterations since start_iter
                self.start_time = time.time() - log_vars["time"] * (iteration - self.start_iter + 1)
            values = {name: value for name, value in log_vars.items() if name not in _NO_LOSSES}
            if self.csv is not None:
                self.csv.add(iteration, "", {"lr": log_vars["lrs"][0], **values})
            super().__call__(log_vars)

    return MessageLogger
