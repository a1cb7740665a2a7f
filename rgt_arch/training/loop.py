"""The steps of `basicsr train` and `basicsr test`, in order."""

from __future__ import annotations

import copy
import datetime
import logging
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from basicsr.models import build_model

from rgt_arch.config.loading import Options
from rgt_arch.config.settings import train_settings
from rgt_arch.models.optimisation import GRAD_NORM, FiniteGuard
from rgt_arch.models.rgt_model import RGTModel
from rgt_arch.training import ranks, run_folder
from rgt_arch.training.checkpoints import CheckpointManager
from rgt_arch.training.loaders import (
    MetricError,
    UnreadableImages,
    batches,
    first_image,
    training_loader,
    validation_loaders,
)
from rgt_arch.training.logs import Numbers, StepLog, open_log, write_log
from rgt_arch.training.options import Flags, read_options, resolve_weights
from rgt_arch.training.signals import StopRequest
from rgt_arch.training.snapshots import (
    Snapshot,
    find_snapshot,
    finished_iterations,
    generator_states,
    restore_generators,
)


def train(flags: Flags, root: str, notices: list[str], stop: StopRequest) -> None:
    """Train with an option file: exactly `total_iter` iterations, however often the run is killed and resumed.

    root: the folder of experiments/ and tb_logger/. notices: gets warnings; opening the log empties it. stop: after it
    has recorded a signal, the run saves the iteration and raises SystemExit with 128 + the signal's number. Raises
    UserError for errors that a user can fix.
    """
    with ExitStack() as at_the_end:
        opt = read_options(flags, root, notices, is_train=True)
        torch.backends.cudnn.benchmark = True
        lock = at_the_end.enter_context(closing(run_folder.FolderLock(opt["path"]["experiments_root"])))
        _prepare_flags(opt, flags, notices)
        if flags.auto_resume and (done := ranks.on_rank_zero(lambda: finished_iterations(opt))):
            if opt["rank"] == 0:
                print(
                    f"{opt['path']['experiments_root']}: this run is finished ({done} iterations); "
                    "raise train:total_iter to continue it, or pass --restart to begin again"
                )
            return
        snapshot = _find_snapshot(opt, flags, lock, notices)
        start, total = 0 if snapshot is None else snapshot.iteration, int(opt["train"]["total_iter"])

        logger = open_log(opt, notices)
        loader, sampler = training_loader(opt, start, lock, logger)
        val_loaders = validation_loaders(opt, logger)
        model = build_model(opt)
        if snapshot is not None:
            snapshot.restore(model, opt, sampler.global_batch, logger)
        guard = FiniteGuard(train_settings(opt).nan_patience)
        if not isinstance(model, RGTModel):  # which has a guard of its own
            guard.watch(model.optimizers)
        _try_validation(opt, model, val_loaders, logger)

        _prepare_folder(opt, flags, lock, goes_on=snapshot is not None and snapshot.in_run)
        write_log(opt, "train", logger)
        numbers = at_the_end.enter_context(closing(Numbers(opt, start, logger)))
        checkpoints = CheckpointManager(opt, model, sampler.global_batch, snapshot, logger)
        run = _Run(opt, model, checkpoints, numbers, stop, UnreadableImages(len(loader.dataset), logger), logger)
        logger.info(f"Start training from epoch: {sampler.epoch_of(start + 1)}, iter: {start}")
        began, iteration, epoch = time.time(), start, sampler.epoch_of(start)
        at_the_end.enter_context(stop)
        if snapshot is not None and snapshot.owes_validation:
            run.validate(val_loaders, start)
        run.leave_if_asked(epoch, start)
        steps = at_the_end.enter_context(closing(StepLog(opt, start, numbers, model.device)))
        if snapshot is not None:
            snapshot.restore_generators(opt, model.device)
            snapshot = None  # frees its tensors
        for iteration, batch in enumerate(batches(loader, opt, stop), start + 1):
            steps.batch_arrived()
            epoch, last = sampler.epoch_of(iteration), iteration == total
            run.unreadable.take(batch)
            model.update_learning_rate(iteration, warmup_iter=opt["train"].get("warmup_iter", -1))
            model.feed_data(batch)
            model.optimize_parameters(iteration)
            if not isinstance(model, RGTModel):
                _allow_step(guard, model, iteration, batch)
            steps.step_done(model, iteration, epoch)
            validation_due = bool(opt.get("val")) and (last or iteration % opt["val"]["val_freq"] == 0)
            save_due = last or iteration % opt["logger"]["save_checkpoint_freq"] == 0
            if save_due:
                logger.info("Saving models and training states.")
                run.save(epoch, iteration, owes_validation=validation_due)
            validated = run.validate(val_loaders, iteration) if validation_due else True
            run.leave_if_asked(epoch, iteration, owes_validation=not validated)
            steps.next_begins(after_pause=save_due or validation_due)

        if iteration < total:  # a signal killed the data workers
            run.leave(epoch, iteration, together=opt["world_size"] == 1)
        logger.info(f"End of training. Time consumed: {datetime.timedelta(seconds=int(time.time() - began))}")
        checkpoints.save_latest(iteration)


def test(flags: Flags, root: str, notices: list[str]) -> None:
    """Run a network over the test sets of an option file. Raises UserError for errors that a user can fix."""
    opt = read_options(flags, root, notices, is_train=False)
    resolve_weights(opt)
    torch.backends.cudnn.benchmark = False  # images have many sizes, and each would be timed again
    ranks.on_rank_zero(lambda: run_folder.prepare_results(opt, notices))
    logger = open_log(opt, notices)
    write_log(opt, "test", logger)
    opt["datasets"] = dict(sorted(opt["datasets"].items()))
    loaders = validation_loaders(opt, logger)
    model = build_model(opt)
    for loader in loaders:
        logger.info(f"Testing {loader.dataset.opt['name']}...")
        with loader.dataset.naming_image():
            model.validation(loader, current_iter=opt["name"], tb_logger=None, save_img=opt["val"]["save_img"])


@dataclass
class _Run:
    """State for saving, validating and leaving; all ranks call the methods at the same place."""

    opt: Options
    model: Any
    checkpoints: CheckpointManager
    numbers: Numbers
    stop: StopRequest
    unreadable: UnreadableImages
    logger: logging.Logger

    def save(self, epoch: int, iteration: int, *, owes_validation: bool) -> None:
        self.numbers.flush()  # a run resumed from here does not log these numbers again
        self.checkpoints.save(epoch, iteration, owes_validation=owes_validation)

    def validate(self, loaders: list[Any], iteration: int) -> bool:
        """Return whether the validation finished: RGTModel's stops at a signal, and the resumed run repeats it."""
        generators = generator_states(self.model.device)  # user-defined data sets may draw from them
        for loader in loaders:
            if len(loaders) > 1:  # pictures of two data sets may have one name
                folder = Path(self.opt["path"]["visualization"], loader.dataset.opt["name"])
                self.model.opt["path"]["visualization"] = str(folder)
            arguments = (loader, iteration, self.numbers, self.opt["val"]["save_img"])
            try:
                with loader.dataset.naming_image():
                    if not isinstance(self.model, RGTModel):
                        self.model.validation(*arguments)
                    elif not self.model.validation(*arguments, should_stop=lambda: bool(self.stop.signal)):
                        return False
            except MetricError as error:  # does not end a training that has begun; RGTModel leaves out this image only
                self.logger.warning(f"{error}; this validation of the data set is left out")
        restore_generators(generators, self.model.device)
        self.checkpoints.save_validation(iteration)
        return True

    def leave_if_asked(self, epoch: int, iteration: int, *, owes_validation: bool = False) -> None:
        """Log the unreadable images of all ranks, and leave if a signal has reached any rank."""
        signal, reports = ranks.greatest([self.stop.signal, len(self.unreadable.waiting)], self.model.device)
        if reports:
            self.unreadable.report()
        if signal:
            self.stop.signal = signal
            self.leave(epoch, iteration, owes_validation=owes_validation)

    def leave(self, epoch: int, iteration: int, *, owes_validation: bool = False, together: bool = True) -> NoReturn:
        """Save an unsaved iteration and exit. together: all ranks are here; if not, no collective call is possible."""
        if together and iteration > self.checkpoints.saved:
            self.save(epoch, iteration, owes_validation=owes_validation)
        name = {2: "Ctrl-C", 15: "SIGTERM"}.get(self.stop.signal, f"signal {self.stop.signal}")
        if iteration > self.checkpoints.saved:
            said = f"{name}: the run ends after iteration {iteration}, which is not saved"
        elif iteration:
            said = f"{name}: the run ends after iteration {iteration}, which is saved; --auto_resume goes on"
        else:
            said = f"{name}: the run ends before its first iteration"
        self.logger.warning(said)
        if together and dist.is_initialized():
            dist.barrier()  # torchrun ends the other ranks when the first one leaves: none may still be saving
            ranks.leave()
        raise SystemExit(self.stop.exit_code)


def _try_validation(opt: Options, model: Any, loaders: list[Any], logger: logging.Logger) -> None:
    """Validate the first image of each data set, before anything is written, so that errors do not come after
    `val_freq` iterations. The model and the random generators stay as they are."""
    if not opt.get("val") or not loaders:
        return
    logger.info("Trying the first image of each validation set.")
    generators, trial = generator_states(model.device), copy.copy(model)
    trial.best_metric_results = {}  # the trial's results are attributes of the copy
    logging.disable(logging.INFO)
    try:
        for loader in map(first_image, loaders):
            with loader.dataset.naming_image():
                trial.validation(loader, 0, None, False)
    finally:
        logging.disable(logging.NOTSET)
    restore_generators(generators, model.device)


def _allow_step(guard: FiniteGuard, model: Any, iteration: int, batch: Any) -> None:
    """Warn of a step that was left out, because a loss or gradient is not finite; UserError for too many in a row."""
    norm, guard.norm = guard.norm, 0.0  # equal on all ranks
    is_used = norm and isinstance(batch, dict) and not hasattr(model, "queue_lr")  # the pool gives other images
    images: Any = (batch.get("lq_path") or batch.get("gt_path")) if is_used else None
    losses = model.get_current_log() if norm else {}
    guard.allows(iteration, {**losses, GRAD_NORM: norm}, list(images or ()), 1, "lower train.optim_g.lr")


def _find_snapshot(opt: Options, flags: Flags, lock: run_folder.FolderLock, notices: list[str]) -> Snapshot | None:
    """Find the snapshot to resume from, on rank 0, and the weights. Raises UsageError if a run would be lost."""
    ranks.on_rank_zero(lock.take)
    if not (flags.auto_resume or flags.restart or flags.debug):
        ranks.on_rank_zero(lambda: run_folder.refuse_unfinished(opt))
    snapshot = find_snapshot(opt, auto_resume=flags.auto_resume, restart=flags.restart, notices=notices)
    if snapshot is not None:
        snapshot.prepare(opt, notices)
    resolve_weights(opt)
    return snapshot


def _prepare_folder(opt: Options, flags: Flags, lock: run_folder.FolderLock, *, goes_on: bool) -> None:
    """Make the run directory, on rank 0. Raises UsageError if another process has begun this run."""

    def prepare() -> None:
        lock.take()
        run_folder.prepare_run(opt, goes_on=goes_on)
        run_folder.copy_option_file(flags.opt, opt["path"]["experiments_root"])
        lock.take()

    ranks.on_rank_zero(prepare)


def _prepare_flags(opt: Options, flags: Flags, notices: list[str]) -> None:
    """Set --auto_resume in a run that torchrun's `--max-restarts` started again.

    Not if the first try was refused, or ended before it had done the work of --restart.
    """
    since = ranks.on_rank_zero(ranks.trying_since)
    if since is not None and ranks.on_rank_zero(lambda: run_folder.begun_since(opt, since)):
        notices.append("torchrun started this run again; it goes on from its last checkpoint")
        flags.restart, flags.auto_resume = False, True
