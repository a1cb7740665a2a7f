"""BasicSR's root logger gets its log file even when something asked for the logger earlier.

Where: basicsr/utils/logger.py:163 (used at train.py:113 and test.py:21). What goes wrong: the first call in a process
decides; if a module, an earlier run in the process or a warning came first, the later call with `log_file` returns
the old logger, and the run has no log, at level WARNING. A run resumed within the second writes over the log of the one
before, whose name holds the second. Delete it once get_root_logger adds a missing file handler and keeps what is there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import count
from pathlib import Path

from rgt_arch.basicsr_compat.notices import say_through

GetLogger = Callable[..., logging.Logger]


def with_log_file(original: GetLogger) -> GetLogger:
    """BasicSR's get_root_logger, starting over where a log file is asked for; then the waiting notices are said."""

    def get_root_logger(
        logger_name: str = "basicsr", log_level: int = logging.INFO, log_file: str | None = None
    ) -> logging.Logger:
        from basicsr.utils.logger import initialized_logger

        if log_file is not None and initialized_logger.pop(logger_name, False):
            logger = logging.getLogger(logger_name)
            for handler in logger.handlers[:]:
                logger.removeHandler(handler)
                handler.close()
        if log_file is not None:
            log_file = _unused(Path(log_file))
        logger = original(logger_name=logger_name, log_level=log_level, log_file=log_file)
        if log_file is not None:
            say_through(logger)
        return logger

    return get_root_logger


def _unused(path: Path) -> str:
    """`path`, or with a number behind its stem where it exists."""
    names = (path if number == 1 else path.with_stem(f"{path.stem}_{number}") for number in count(1))
    return str(next(name for name in names if not name.exists()))
