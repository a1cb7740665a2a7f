"""TensorBoard files on a full disk cost points of a curve, not the run.

Where: basicsr/utils/logger.py:119 (used at train.py:23); the writer's thread meets the full disk, and the next call
that logs a number raises its OSError in the middle of training. Delete it once tensorboard keeps such errors to itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def forgiving(original: Callable[..., Any]) -> Callable[..., Any]:
    """init_tb_logger whose writer, where it cannot write, says so and is made anew for the next number."""

    def init_tb_logger(log_dir: str) -> Any:
        writer = original(log_dir=log_dir)
        return writer and _Writer(writer, lambda: original(log_dir=log_dir), log_dir)  # rank 0 alone has one

    return init_tb_logger


class _Writer:
    """What BasicSR calls of torch.utils.tensorboard.SummaryWriter."""

    def __init__(self, writer: Any, make: Callable[[], Any], folder: str) -> None:
        self._writer = writer
        self._make = make
        self._folder = folder
        self._failing = False

    def add_scalar(self, *arguments: Any, **keywords: Any) -> None:
        self._try(lambda writer: writer.add_scalar(*arguments, **keywords))

    def flush(self) -> None:
        self._try(lambda writer: writer.flush())

    def close(self) -> None:
        self._try(lambda writer: writer.close())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)

    def _try(self, use: Callable[[Any], None]) -> None:
        from basicsr.utils import get_root_logger

        try:
            if self._writer is None:
                self._writer = self._make()
            use(self._writer)
        except OSError as error:
            self._writer = None
            if not self._failing:
                get_root_logger().error(f"{self._folder}: cannot be written ({error.strerror}); curves have a gap")
            self._failing = True
        else:
            self._failing = False
