"""The list of seams in BasicSR's behaviour: which name is replaced, and by what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rgt_arch.basicsr_compat import (
    curves,
    devices,
    distributed,
    iterations,
    message_logger,
    options,
    prefetchers,
    registries,
    resume,
    root_logger,
    run_folders,
    tensorboard_files,
    torch_files,
    training_loop,
    validation,
    wandb_runs,
)
from rgt_arch.data.lmdb_reader import SharedLmdbBackend


def install() -> None:
    """Replace the names. Call once; BasicSR must be imported."""
    import basicsr
    import basicsr.data.prefetch_dataloader
    import basicsr.models.base_model
    import basicsr.models.sr_model
    import basicsr.test
    import basicsr.train
    import basicsr.utils.file_client
    import basicsr.utils.misc
    import basicsr.utils.options
    import basicsr.utils.registry

    for pipeline in (basicsr.train, basicsr.test):
        _replace(pipeline, "parse_options", options.parsing_safely)
        _replace(pipeline, "make_exp_dirs", run_folders.with_known_folders)
        _replace(pipeline, "get_root_logger", root_logger.with_log_file)
    for module in (basicsr.utils.misc, basicsr.train):
        _replace(module, "mkdir_and_rename", run_folders.archiving_apart)
    _replace(basicsr.train, "copy_opt_file", lambda _: run_folders.copy_opt_file)
    _replace(basicsr.train, "load_resume_state", lambda _: resume.load_resume_state)
    _replace(basicsr.train, "create_train_val_dataloader", lambda _: iterations.create_train_val_dataloader)
    _replace(basicsr.train, "build_model", iterations.saving_real_epochs)
    _replace(basicsr.train, "build_model", training_loop.following_model)
    for module in (basicsr.train, basicsr):
        _replace(module, "train_pipeline", training_loop.leaving_in_order)
    _replace(basicsr.train, "MessageLogger", message_logger.with_real_epochs)
    _replace(basicsr.train, "init_tb_logger", tensorboard_files.forgiving)
    _replace(basicsr.train, "init_tb_loggers", curves.going_on)
    _replace(basicsr.train, "init_wandb_logger", lambda _: wandb_runs.init_wandb_logger)
    _replace(basicsr.train, "CPUPrefetcher", prefetchers.lazy_cpu)
    _replace(basicsr.train, "CUDAPrefetcher", prefetchers.lazy_cuda)
    _replace(basicsr.data.prefetch_dataloader, "PrefetchGenerator", prefetchers.raising_errors)
    _replace(basicsr.test, "build_dataset", iterations.naming_errors)
    _replace(basicsr.test, "build_model", validation.without_benchmark)
    _replace(basicsr.utils.options, "init_dist", lambda _: distributed.init_dist)
    _replace(basicsr.utils.registry.Registry, "_do_register", registries.keep_first)
    _replace(basicsr.models.base_model, "torch", torch_files.safe_torch)
    for name in ("save_network", "save_training_state"):
        _replace(basicsr.models.base_model.BaseModel, name, torch_files.failing_loudly)
    _replace(basicsr.models.base_model.BaseModel, "model_to_device", devices.to_device)
    _replace(basicsr.models.sr_model, "calculate_metric", validation.nan_without_gt)
    basicsr.utils.file_client.FileClient._backends["lmdb"] = SharedLmdbBackend


def _replace(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    """Set `owner.name` to `make(what it was)`; a host whose BasicSR has no such name keeps its own ways."""
    original = getattr(owner, name, None)
    if original is not None:
        setattr(owner, name, make(original))
