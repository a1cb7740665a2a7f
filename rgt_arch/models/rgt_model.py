"""RGTModel: BasicSR's SRModel with tiles and self-ensemble in validation, mixed precision and accumulation."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from os import path as osp
from typing import Any

import torch
from basicsr.models.sr_model import SRModel
from basicsr.utils import get_root_logger
from basicsr.utils.dist_util import master_only
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from rgt_arch.archs.rgt_arch import RGT
from rgt_arch.config.settings import train_settings, val_settings
from rgt_arch.errors import UsageError, UserError, few
from rgt_arch.inference.precision import has_native_bfloat16, instead_of_bfloat16
from rgt_arch.models.initialisation import start_from_interpolation
from rgt_arch.models.optimisation import (
    GRAD_NORMS,
    FiniteGuard,
    add_losses,
    build_optimizer,
    loss_weight,
    micro_batches,
)
from rgt_arch.models.validation import fit_channels, measure, predict
from rgt_arch.torch_files import save_whole
from rgt_arch.weights.building import load_weights
from rgt_arch.weights.inspecting import constructor_arguments, is_derived
from rgt_arch.weights.reading import read_checkpoint
from rgt_arch.weights.zoo import resolve_path


class RGTModel(SRModel):
    """Trains and tests a super-resolution network from a BasicSR option file.

    In addition to SRModel: `val.tile: {size, overlap}`, `val.use_chop`, `val.self_ensemble`;
    `train.amp: auto|bf16|fp16`, `train.grad_clip`, `train.accumulate`, `train.init: interpolation`,
    `train.nan_patience`, any optimiser of torch.optim, and Muon; validation on all ranks; reads network files of any
    published layout, and writes them atomically.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        """Build the network, losses and optimiser. Raises UsageError for options that do not fit."""
        self.metric_results: dict[str, float] = {}
        self.iteration = 0
        """Iterations done so far, including iterations before a resume."""
        self._warned: set[str] = set()
        self._val, network = val_settings(opt), opt["network_g"]
        self._scale = int(opt.get("scale") or network.get("upscale") or 1)
        self._channels_in: int | None = network.get("in_chans", network.get("num_in_ch"))
        self._channels_out: int | None = network.get("num_out_ch", self._channels_in)
        if opt["is_train"]:
            self.step_settings = train_settings(opt)
            self.guard = FiniteGuard(self.step_settings.nan_patience)
        super().__init__(opt)

    # --- training ---

    def model_to_device(self, net: nn.Module) -> nn.Module:
        """As in SRModel, with the initial weights of `train.init`."""
        if self.is_train and net is self.net_g and self.step_settings.init == "interpolation":
            start_from_interpolation(net)
        return super().model_to_device(net)

    def init_training_settings(self) -> None:
        """As in SRModel, plus mixed precision. fp16 needs loss scaling, so without CUDA bf16 or float32 replaces it."""
        amp, native = self.step_settings.amp, has_native_bfloat16(self.device)
        if amp == "fp16" and self.device.type != "cuda":
            used = "bf16" if native else "float32"
            self.warn_once(f"train.amp: fp16 needs CUDA; on this {self.device.type} {used} is used instead")
            amp = "auto"
        elif amp == "bf16" and not native:
            self.warn_once(instead_of_bfloat16("train.amp: bf16", self.device))
        self.amp_dtype = torch.float16 if amp == "fp16" else torch.bfloat16 if amp and native else None
        if self.step_settings.amp == "auto":
            get_root_logger().info(f"train.amp: auto is {'bf16' if native else 'float32'} on this {self.device.type}")
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.amp_dtype is torch.float16)
        super().init_training_settings()

    def get_optimizer(self, optim_type: str, params: list[nn.Parameter], lr: float, **kwargs: Any) -> Optimizer:
        """As in SRModel, with any optimiser of torch.optim, and Muon."""
        return build_optimizer(optim_type, params, lr, **kwargs)

    def feed_data(self, data: Mapping[str, Any]) -> None:
        """Take a batch: `lq` and optionally `gt`, both (B, C, H, W) in [0, 1], and the names `lq_path` for messages."""
        self._lq_paths: list[str] = list(data.get("lq_path", ()))
        self.lq = fit_channels(data["lq"], self._channels_in).to(self.device, non_blocking=True)
        if "gt" in data:
            self.gt = fit_channels(data["gt"], self._channels_out).to(self.device, non_blocking=True)
        elif hasattr(self, "gt"):
            del self.gt  # of an earlier image

    def optimize_parameters(self, current_iter: int) -> None:
        """Make one optimiser step on the batch of `feed_data`, in `train.accumulate` micro-batches.

        If a loss or gradient is not finite, the weights stay unchanged. Raises UserError at the last of
        `train.nan_patience` such steps in a row.
        """
        self.iteration = current_iter
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        loss_dict = self._accumulate_gradients()
        scale = self.scaler.get_scale()
        norms: dict[str, Optimizer] = {}  # of the networks that this step trains
        for name, optimizer in zip(GRAD_NORMS, self.optimizers, strict=False):
            params = [param for group in optimizer.param_groups for param in group["params"] if param.grad is not None]
            if not params:
                continue
            norms[name] = optimizer
            self.scaler.unscale_(optimizer)
            loss_dict[name] = nn.utils.get_total_norm([param.grad for param in params])
            if self.step_settings.grad_clip:
                nn.utils.clip_grads_with_norm_(params, self.step_settings.grad_clip, loss_dict[name])
        self.log_dict = self.reduce_loss_dict(loss_dict)
        remedy = "set train.amp: bf16" if self.scaler.is_enabled() else "lower train.optim_g.lr or set train.grad_clip"
        if self.guard.allows(current_iter, self.log_dict, self._lq_paths, scale, remedy):
            for optimizer in norms.values():
                self.scaler.step(optimizer)
            if self.ema_decay > 0:
                self.model_ema(decay=self.ema_decay)
        self.scaler.update()
        if not self.step_settings.grad_clip:
            for name in norms:
                del self.log_dict[name]  # BasicSR does not log it

    def _accumulate_gradients(self) -> dict[str, Tensor]:
        """Run forward and backward on every micro-batch; return the losses of the whole batch."""
        totals: dict[str, Tensor] = {}
        parts, outputs = list(micro_batches(self.lq, self.gt, self.step_settings.accumulate)), []
        for number, (lq, gt, share) in enumerate(parts, 1):
            with self._reduced(self.net_g, number == len(parts)):
                output = self._forward(self.net_g, lq)
                outputs.append(output.detach())
                losses = self._losses(output, gt, share)
                self.scaler.scale(torch.stack(list(losses.values())).sum()).backward()
            add_losses(totals, losses)
        self.output = torch.cat(outputs)
        return totals

    def _forward(self, network: nn.Module, images: Tensor) -> Tensor:
        """Run a network with `train.amp`; the result has the type of the images."""
        with torch.autocast(self.device.type, dtype=self.amp_dtype, enabled=self.amp_dtype is not None):
            output: Tensor = network(images)
        return output.to(images.dtype)

    @staticmethod
    def _reduced(network: nn.Module, is_last: bool) -> AbstractContextManager[None]:
        """Under DDP, gradients are averaged over ranks in the last backward of a step only."""
        return network.no_sync() if isinstance(network, DistributedDataParallel) and not is_last else nullcontext()

    def _losses(self, output: Tensor, gt: Tensor, share: float) -> dict[str, Tensor]:
        """Losses of a micro-batch, weighted so that they add up to the batch's (models/sr_model.py:99-113)."""
        losses: dict[str, Tensor] = {}
        if self.cri_pix:
            losses["l_pix"] = self.cri_pix(output, self._target(gt, "l1")) * loss_weight(self.cri_pix, share)
        if self.cri_perceptual:
            weight = loss_weight(self.cri_perceptual, share)
            values = self.cri_perceptual(output, self._target(gt, "percep"))
            for name, loss in zip(("l_percep", "l_style"), values, strict=True):
                if loss is not None:
                    losses[name] = loss * weight
        return losses

    def _target(self, gt: Tensor, _loss: str) -> Tensor:
        """The HR images of a loss: "l1", "percep" or "gan"."""
        return gt

    def reduce_loss_dict(self, loss_dict: Mapping[str, Tensor]) -> OrderedDict[str, float]:
        """Return the means over ranks, on every rank (BasicSR: only on rank 0), with one copy to the CPU."""
        with torch.no_grad():
            values = torch.stack([value.float().mean() for value in loss_dict.values()])
            if self.opt["dist"]:
                torch.distributed.all_reduce(values)
                values /= self.opt["world_size"]
            return OrderedDict(zip(loss_dict, values.tolist(), strict=True))

    # --- validation ---

    def test(self) -> None:
        """Run the EMA network, else the network, on `self.lq` with the `val` options, in float32 without gradients."""
        network = self.net_g_ema if hasattr(self, "net_g_ema") else self.get_bare_model(self.net_g)
        was_training = network.training
        network.eval()
        try:
            # not inference_mode: training cannot use an inference tensor that a network keeps
            with torch.no_grad():
                self.output = predict(network, self.lq, self._val, self._scale)
        finally:
            network.train(was_training)

    def validation(
        self,
        dataloader: DataLoader,
        current_iter: int | str,
        tb_logger: Any,
        save_img: bool = False,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Upscale the images of a data set on all ranks, save them and log the mean metrics, as SRModel does.

        should_stop: called before each image; true stops. Returns whether the validation finished.
        """
        results = measure(
            self, dataloader, lambda name: self._image_path(dataloader, name, current_iter, save_img), should_stop
        )
        if results is None:
            return False
        dataset_name = self.dataset_name(dataloader)
        if results.without_gt:
            left_out = ", ".join(sorted(results.without_gt))
            self.warn_once(f"{dataset_name}: {left_out} left out, because there are images without GT")
        for metric in dict.fromkeys(metric for metric, _, _ in results.failures):
            images, reasons = zip(*(failure[1:] for failure in results.failures if failure[0] == metric), strict=True)
            get_root_logger().warning(
                f"{dataset_name}: {metric} fails on {few(images)} and its mean leaves them out ({reasons[0]})"
            )
        if results.means:
            self.metric_results = results.means
            self._initialize_best_metric_results(dataset_name)
            for metric, value in results.means.items():
                self._update_best_metric_result(dataset_name, metric, value, current_iter)
            self._log_validation_metric_values(current_iter, dataset_name, tb_logger)
        return True

    def _image_path(self, dataloader: DataLoader, name: str, current_iter: int | str, save_img: bool) -> str | None:
        """BasicSR's path of an SR image (models/sr_model.py:172-183); None without `save_img`."""
        if not save_img:
            return None
        folder = self.opt["path"]["visualization"]
        if self.is_train:
            return osp.join(folder, name, f"{name}_{current_iter}.png")
        suffix = (self.opt.get("val") or {}).get("suffix") or self.opt["name"]
        return osp.join(folder, self.dataset_name(dataloader), f"{name}_{suffix}.png")

    # --- files ---

    def load_network(
        self, net: nn.Module, load_path: str, strict: bool = True, param_key: str | None = "params"
    ) -> None:
        """Load weights of any published layout without running code. Raises UserError if they do not fit.

        load_path: may be a name that `rgt weights` lists; a missing file is downloaded. param_key: None takes
        `params_ema` if the file has it. strict: if False, weights that differ are logged and skipped; an EMA network
        then has the network's values for them.
        """
        letter = "d" if net is getattr(self, "net_d", None) else "g"  # in the keys of option files
        net, logger = self.get_bare_model(net), get_root_logger()
        checkpoint = read_checkpoint(resolve_path(load_path))
        used = checkpoint.resolve_key(param_key)
        if param_key is not None and used != param_key:
            logger.info(f"Loading: {param_key} does not exist, use {used or 'the plain state dict of the file'}.")
        logger.info(f"Loading {type(net).__name__} model from {load_path}, with param key: [{used or None}].")
        weights = checkpoint.state_dict(used)
        if not strict:
            self._print_different_keys_loading(net, weights, strict)  # this renames weights of another shape
            if net is getattr(self, "net_g_ema", None):
                self.model_ema(0)  # weights missing in the file were initialised independently of net_g
            own = net.state_dict()
            common = own.keys() & weights.keys()
            if not common:
                raise UserError(
                    f"{load_path}: has no weight in common with {type(net).__name__} (it holds "
                    f"{few(sorted(weights))}); check path.pretrain_network_{letter} and network_{letter}.type"
                )
            logger.info(f"{len(common)} of {len(own)} tensors come from the file.")
        try:
            load_weights(net, weights, strict)
        except UsageError as error:
            raise UserError(
                f"{load_path}: {error}; set network_{letter} as the file was trained, or path.strict_load_{letter}: "
                "false to take what fits"
            ) from error

    @master_only
    def save_network(
        self,
        net: nn.Module | list[nn.Module],
        net_label: str,
        current_iter: int | str,
        param_key: str | list[str] = "params",
    ) -> None:
        """Write BasicSR's network file, `{param_key: state dict}` on the CPU, atomically. Raises UserError on failure.

        The file also has `rgt_info` (the iteration) and `rgt_config` (the arguments of an RGT).
        """
        nets = net if isinstance(net, list) else [net]
        keys = param_key if isinstance(param_key, list) else [param_key]
        content: dict[str, Any] = {"rgt_info": {"iteration": self.iteration}}
        derived: dict[str, Tensor] = {}  # equal for the network and its EMA: written once
        for key, network in zip(keys, map(self.get_bare_model, nets), strict=True):
            content[key] = state_dict = network.state_dict()
            for entry, tensor in state_dict.items():
                shared = isinstance(network, RGT) and is_derived(entry)
                state_dict[entry] = derived.setdefault(entry, tensor) if shared else tensor.cpu()
            if isinstance(network, RGT):
                content["rgt_config"] = constructor_arguments(network)
        name = "latest" if current_iter == -1 else current_iter
        save_whole(content, osp.join(self.opt["path"]["models"], f"{net_label}_{name}.pth"))

    def save_networks(self, current_iter: int | str) -> None:
        """Write `net_g_{current_iter}.pth`, or net_g_latest.pth for -1, with EMA weights if there are any."""
        if hasattr(self, "net_g_ema"):
            self.save_network([self.net_g, self.net_g_ema], "net_g", current_iter, param_key=["params", "params_ema"])
        else:
            self.save_network(self.net_g, "net_g", current_iter)

    def save(self, epoch: int, current_iter: int) -> None:
        """Write networks and training state, for BasicSR's loop; ours calls `save_networks` and writes its own."""
        self.save_networks(current_iter)
        self.save_training_state(epoch, current_iter)

    def extra_state(self) -> dict[str, Any]:
        """Return the values, besides optimisers and schedulers, that a resumed run needs for the same next step."""
        return {"scaler": self.scaler.state_dict(), "bad_steps": self.guard.in_a_row}

    def resume_training(self, resume_state: Mapping[str, Any]) -> None:
        """Restore a training state, also one of the official code or of BasicSR, which holds less."""
        super().resume_training(resume_state)
        self.iteration = int(resume_state["iter"])
        if self.scaler.is_enabled() and resume_state.get("scaler"):
            self.scaler.load_state_dict(resume_state["scaler"])
        self.guard.in_a_row = int(resume_state.get("bad_steps", 0))

    @staticmethod
    def dataset_name(dataloader: DataLoader) -> str:
        """Return the `name` of a loader's data set in the option file."""
        dataset: Any = dataloader.dataset
        return dataset.opt["name"]

    def warn_once(self, message: str) -> None:
        """Log a warning only the first time."""
        if message not in self._warned:
            self._warned.add(message)
            get_root_logger().warning(message)
