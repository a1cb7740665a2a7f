"""What has its place between two iterations of BasicSR's loop: a bar, ending on a signal, images that cannot be read.

Where: basicsr/train.py:152-193; the loop asks its loader for batches and has no other seam. What goes wrong: see
stopping.py; an unreadable image, one among 100,000, ends a run of two weeks; a run killed while it validates goes on
without that validation. Delete it with stopping.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import torch.distributed as dist

from rgt_arch.basicsr_compat import stopping
from rgt_arch.basicsr_compat.progress_bar import TrainingBar
from rgt_arch.data.loading import UNREADABLE
from rgt_arch.errors import UserError

Options = dict[str, Any]

MOST_UNREADABLE = 0.01
"""Share of a data set's images above which a run ends."""

_current: TrainingLoader | None = None


class TrainingLoader:
    """The training loader as BasicSR's loop sees it: batches, and between them what the loop does not do.

    BasicSR's prefetchers ask for the next batch at the end of each iteration, saving and validation included; so
    whenever this iterator goes on, the weights are those of `iteration`. Everything else is the loader's inside.
    """

    def __init__(self, loader: Any, opt: Options, val_loaders: list[Any]) -> None:
        global _current
        self.loader = loader
        self.opt = opt
        self.val_loaders = val_loaders
        self.model: Any = None
        self.tb_logger: Any = None
        self.bar: TrainingBar | None = None
        self.iteration = int(opt.get("start_iter", 0))
        """Iterations done, those before a resume included."""
        self.saved = self.iteration
        """The last of them that is on the disk."""
        self._unreadable: list[str] = []
        self._reports: list[str] = []
        _current = self

    def __getattr__(self, name: str) -> Any:
        if name == "loader":
            raise AttributeError(name)
        return getattr(self.loader, name)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        if self.model is None:  # batches alone are wanted, by a benchmark
            yield from map(self._take_reports, self.loader)
            return
        stopping.listen()
        if getattr(self.model, "owes_validation", False):
            self._validate()
        total = int(self.opt["train"]["total_iter"])
        self.bar = TrainingBar(self.iteration, total, self.model.device, self.opt["rank"])
        batches = iter(self.loader)
        while True:
            self._between_iterations()
            try:
                batch = next(batches, None)
            except RuntimeError:
                if not stopping.asked():
                    raise
                # workers may die of the signal while they start; those of other ranks may live, and their rank train
                self._leave(stopping.asked(), together=not dist.is_initialized() or dist.get_world_size() == 1)
            if batch is None:
                return
            yield self._take_reports(batch)

    def leave_if_asked(self) -> None:
        """Save what is not saved yet and leave, with 128 and the signal's number, where any rank was told to end."""
        number = stopping.agreed(self.model.device)
        if number:
            self._leave(number)

    def _between_iterations(self) -> None:
        number, reports = stopping.greatest([stopping.asked(), len(self._reports)], self.model.device)
        if reports:
            self._tell_unreadable()
        if number:
            self._leave(number)

    def _leave(self, number: int, together: bool = True) -> NoReturn:
        """together: all ranks are here, between the same two iterations; else none can be asked for anything."""
        from basicsr.utils import get_root_logger

        if together and self.iteration > self.saved:
            self.model.save(0, self.iteration)
        name = {2: "Ctrl-C", 15: "SIGTERM"}.get(number, f"signal {number}")
        if self.iteration > self.saved:
            said = f"{name}: the run ends after iteration {self.iteration}, which is not saved"
        elif self.iteration:
            said = f"{name}: the run ends after iteration {self.iteration}, which is saved; --auto_resume goes on"
        else:
            said = f"{name}: the run ends before its first iteration"
        get_root_logger().warning(said)
        if self.tb_logger is not None:
            self.tb_logger.close()
        if together and dist.is_initialized():
            dist.barrier()  # the first rank that leaves makes torchrun end the others: none may be saving still
            dist.destroy_process_group()
        raise SystemExit(128 + number)

    def _validate(self) -> None:
        """The validation that a run was killed in, so that the best results are those of an unbroken one."""
        from basicsr.utils import get_root_logger

        # `rgt figure curves` reads it: no other line tells when this validation is of
        get_root_logger().info(f"Validating iteration {self.iteration}, as was due when it was saved")
        for val_loader in self.val_loaders:
            self.model.validation(val_loader, self.iteration, self.tb_logger, self.opt["val"]["save_img"])

    def _take_reports(self, batch: Any) -> Any:
        for reports in batch.pop(UNREADABLE, ()) if isinstance(batch, dict) else ():
            self._reports += reports.splitlines()
        if self.model is None:
            self._tell_unreadable()
        return batch

    def _tell_unreadable(self) -> None:
        """Name each unreadable image once, from whatever rank met it; UserError where there are too many of them."""
        from basicsr.utils import get_root_logger

        gathered = [self._reports]
        if dist.is_initialized() and dist.get_world_size() > 1:
            gathered = [[] for _ in range(dist.get_world_size())]
            dist.all_gather_object(gathered, self._reports)
        self._reports = []
        images, logger = len(self.loader.dataset), get_root_logger()
        for reason in (reason for reports in gathered for reason in reports):
            if reason not in self._unreadable:
                self._unreadable.append(reason)
                logger.warning(
                    f"{reason}; another image takes its place ({len(self._unreadable)} of {images:,} cannot be read)"
                )
        if len(self._unreadable) > MOST_UNREADABLE * images:
            raise UserError(
                f"{len(self._unreadable)} of {images:,} training images cannot be read, over {MOST_UNREADABLE:.0%}, "
                f"the last one in {self._unreadable[-1]}; `rgt prepare check` finds them all"
            )


def following_model(original: Callable[[Options], Any]) -> Callable[[Options], Any]:
    """build_model whose model is known to the loader, which is built before it."""

    def build_model(opt: Options) -> Any:
        model = original(opt)
        loader = _current
        if loader is None:
            return model
        step, save, validate = model.optimize_parameters, model.save, model.validation

        def optimize_parameters(current_iter: int) -> None:
            step(current_iter)
            loader.iteration = current_iter
            if loader.bar is not None:
                loader.bar.reach(current_iter, model.get_current_log(), model.get_current_learning_rate()[0])

        def save_and_note(epoch: int, current_iter: int) -> None:
            if loader.tb_logger is not None:
                loader.tb_logger.flush()  # a run that goes on from here does not log these numbers again
            if save(epoch, current_iter) is not False and current_iter != -1:
                loader.saved = current_iter
            if loader.bar is not None:
                loader.bar.leave_out_pause()

        def validation(*arguments: Any, **keywords: Any) -> None:
            validate(*arguments, **keywords)
            if loader.bar is not None:
                loader.bar.leave_out_pause()

        model.optimize_parameters, model.save, model.validation = optimize_parameters, save_and_note, validation
        loader.model = model
        return model

    return build_model


def keep_tb_logger(tb_logger: Any) -> None:
    """Tell the loader what the run logs to, so that it is written out before a save and when a signal ends the run."""
    if _current is not None:
        _current.tb_logger = tb_logger


def leaving_in_order(original: Callable[..., None]) -> Callable[..., None]:
    """train_pipeline that minds a signal which came while it validated for the last time, and gives signals back."""

    def train_pipeline(root_path: str) -> None:
        global _current
        _current = None
        try:
            original(root_path)
            if _current is not None:
                _current.leave_if_asked()
        finally:
            if _current is not None and _current.bar is not None:
                _current.bar.close()
            _current = None
            stopping.stop_listening()

    return train_pipeline
