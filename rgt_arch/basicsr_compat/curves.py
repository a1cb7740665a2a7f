"""The numbers that a run logs, in TensorBoard files and metrics.csv: complete up to each checkpoint, and none twice.

Where: basicsr/train.py:15-25 (used at :118). What goes wrong: TensorBoard's writer holds numbers back (in a thread; for
two minutes where TensorFlow is installed), which a kill loses, and those after the checkpoint that a run goes on from
are drawn a second time; there is no CSV. Delete it once BasicSR flushes before it saves and passes `purge_step`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rgt_arch.basicsr_compat.csv_log import CsvLog

Options = dict[str, Any]


class Curves:
    """A SummaryWriter for TensorBoard files, for metrics.csv, or for both; pictures and the like are TensorBoard's."""

    def __init__(self, writer: Any, csv: CsvLog | None) -> None:
        """writer: a SummaryWriter, or None."""
        self.writer = writer
        self.csv = csv

    def __getattr__(self, name: str) -> Any:
        """What else models call of SummaryWriter, as `add_image`; without one, adding does nothing."""
        if name == "writer" or (self.writer is None and not name.startswith("add_")):
            raise AttributeError(f"{type(self).__name__} has no {name} without logger.use_tb_logger")
        return _add_nothing if self.writer is None else getattr(self.writer, name)

    def add_scalar(
        self,
        tag: str,
        scalar_value: float,
        global_step: int | None = None,
        walltime: float | None = None,
        **more: Any,
    ) -> None:
        """Log a number; what training logs reaches the CSV through MessageLogger, a row's worth at a time.

        The arguments are SummaryWriter's. A metric without a step is none of the CSV's, whose rows have iterations.
        """
        if self.writer is not None:
            self.writer.add_scalar(tag, scalar_value, global_step, walltime, **more)
        kind, _, name = tag.partition("/")
        if kind == "metrics":
            dataset, _, metric = name.rpartition("/")
            if self.csv is not None and global_step is not None:
                self.csv.add(global_step, dataset, {metric: scalar_value})
            self.flush()  # the state that is saved next says that this validation is done

    def flush(self) -> None:
        """Have all numbers in the files."""
        if self.writer is not None:
            self.writer.flush()
        if self.csv is not None:
            self.csv.flush()

    def close(self) -> None:
        """Have all numbers in the files, for good."""
        self.flush()
        if self.writer is not None:
            self.writer.close()


def _add_nothing(*_arguments: Any, **_keywords: Any) -> None:
    """Stands for the methods of a SummaryWriter that is not there."""


def going_on(original: Callable[[Options], Any]) -> Callable[[Options], Any]:
    """init_tb_loggers whose result is a Curves, on rank 0 and where there is anything to log to, else None."""

    def init_tb_loggers(opt: Options) -> Curves | None:
        writer, start_iter = original(opt), int(opt.get("start_iter", 0))
        if writer is not None and start_iter:
            _hide_from(writer, start_iter + 1)
        csv = None
        if opt["logger"].get("csv") and opt["rank"] == 0:
            csv = CsvLog(opt["path"]["experiments_root"], start_iter)
        return None if writer is None and csv is None else Curves(writer, csv)

    return init_tb_loggers


def _hide_from(writer: Any, step: int) -> None:
    """Have TensorBoard leave out what earlier files hold from `step` on, as SummaryWriter's `purge_step` does."""
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog

    writer.file_writer.add_event(Event(step=step, session_log=SessionLog(status=SessionLog.START)))
