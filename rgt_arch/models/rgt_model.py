"""RGTModel: BasicSR's SRModel with tiles and self-ensemble in validation, mixed precision and accumulation."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from basicsr.utils import get_root_logger
from basicsr.utils.registry import MODEL_REGISTRY
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from rgt_arch.models.guards import GRAD_NORM
from rgt_arch.models.initialisation import start_from_interpolation
from rgt_arch.models.optimisation import StepSettings, build_optimizer, loss_weight
from rgt_arch.models.prediction import Prediction, fit_channels
from rgt_arch.models.resumable_model import ResumableModel
from rgt_arch.models.validation import validate


class RGTModel(ResumableModel):
    """Trains and tests a super-resolution network from a BasicSR option file.

    Beyond SRModel: `val.tile: {size, overlap}`, `val.use_chop`, `val.self_ensemble`; `train.amp: bf16|fp16`,
    `train.grad_clip`, `train.accumulate`, `train.init: interpolation`, `train.nan_patience`, any optimiser of
    torch.optim; `logger.keep_checkpoints` and `logger.keep_best`; validation over ranks; exact resuming.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        """Build the network and what training needs; UsageError for options that do not fit."""
        self.metric_results: dict[str, float] = {}
        self._warned: set[str] = set()
        self.prediction = Prediction.from_options(opt)
        network = opt["network_g"]
        self._channels_in: int | None = network.get("in_chans", network.get("num_in_ch"))
        self._channels_out: int | None = network.get("num_out_ch", self._channels_in)
        self.step_settings = StepSettings.from_options(opt["train"]) if opt["is_train"] else StepSettings()
        super().__init__(opt)

    # --- training ---

    def model_to_device(self, net: nn.Module) -> nn.Module:
        """As SRModel, with the weights that `train.init` asks for."""
        if self.is_train and self.opt["train"].get("init") == "interpolation":
            start_from_interpolation(net)
        return super().model_to_device(net)

    def init_training_settings(self) -> None:
        """As SRModel, plus mixed precision."""
        self.amp_dtype = self.step_settings.autocast_dtype(self.device)
        if self.step_settings.amp == "fp16" and self.amp_dtype is not torch.float16:
            self.warn_once(f"train.amp: fp16 needs CUDA; bf16 is used on {self.device.type}")
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.amp_dtype is torch.float16)
        super().init_training_settings()

    def get_optimizer(self, optim_type: str, params: list[nn.Parameter], lr: float, **kwargs: Any) -> Optimizer:
        """An optimiser of torch.optim by name."""
        return build_optimizer(optim_type, params, lr, **kwargs)

    def feed_data(self, data: Mapping[str, Any]) -> None:
        """Take a batch: `lq` and perhaps `gt`, both (B, C, H, W) in [0, 1], and the names `lq_path`, for messages."""
        self._lq_paths: list[str] = list(data.get("lq_path", ()))
        self.lq = fit_channels(data["lq"], self._channels_in).to(self.device, non_blocking=True)
        if "gt" in data:
            self.gt = fit_channels(data["gt"], self._channels_out).to(self.device, non_blocking=True)
        elif hasattr(self, "gt"):
            del self.gt  # of an earlier image

    def optimize_parameters(self, current_iter: int) -> None:
        """One optimiser step on the batch that `feed_data` took, in `train.accumulate` passes.

        Where the loss or a gradient is not finite, the weights stay as they are; UserError at the last of
        `train.nan_patience` such steps in a row. The step after a resume draws the random numbers of an unbroken run.
        """
        self.restore_generators()
        self.iteration = current_iter
        self.validated.clear()
        self.optimizer_g.zero_grad()
        loss_dict = self._accumulate_gradients()
        scale = self.scaler.get_scale()
        self.scaler.unscale_(self.optimizer_g)
        params = [param for group in self.optimizer_g.param_groups for param in group["params"]]
        loss_dict[GRAD_NORM] = nn.utils.get_total_norm([param.grad for param in params if param.grad is not None])
        if self.step_settings.grad_clip:
            nn.utils.clip_grads_with_norm_(params, self.step_settings.grad_clip, loss_dict[GRAD_NORM])
        self.log_dict = self.reduce_loss_dict(loss_dict)
        remedy = "set train.amp: bf16" if self.scaler.is_enabled() else "lower train.optim_g.lr or set train.grad_clip"
        if self.guard.allows(current_iter, self.log_dict, self._image_names, scale, remedy):
            self.scaler.step(self.optimizer_g)
            if self.ema_decay > 0:
                self.model_ema(decay=self.ema_decay)
        self.scaler.update()
        if not self.step_settings.grad_clip:
            del self.log_dict[GRAD_NORM]  # as BasicSR logs it

    def _accumulate_gradients(self) -> dict[str, Tensor]:
        """Forward and backward of every micro-batch; returns the losses of the whole batch."""
        totals: dict[str, Tensor] = {}
        parts = list(self.step_settings.micro_batches(self.lq, self.gt))
        for number, (lq, gt, share) in enumerate(parts, 1):
            with self._gradients_stay_local(number < len(parts)):
                with torch.autocast(self.device.type, dtype=self.amp_dtype, enabled=self.amp_dtype is not None):
                    output = self.net_g(lq)
                losses = self._losses(output.to(gt.dtype), gt, share)
                self.scaler.scale(torch.stack(list(losses.values())).sum()).backward()
            for name, loss in losses.items():
                totals[name] = totals[name] + loss.detach() if name in totals else loss.detach()
        self.output = output.detach()
        return totals

    def _gradients_stay_local(self, local: bool) -> AbstractContextManager[None]:
        """Under DDP, gradients are averaged over ranks in the last micro-batch only."""
        if local and isinstance(self.net_g, DistributedDataParallel):
            return self.net_g.no_sync()
        return nullcontext()

    def _losses(self, output: Tensor, gt: Tensor, share: float) -> dict[str, Tensor]:
        """Losses of a micro-batch, weighted so that they add up to the batch's (models/sr_model.py:99-113)."""
        losses: dict[str, Tensor] = {}
        if self.cri_pix:
            losses["l_pix"] = self.cri_pix(output, gt) * loss_weight(self.cri_pix, share)
        if self.cri_perceptual:
            weight = loss_weight(self.cri_perceptual, share)
            for name, loss in zip(("l_percep", "l_style"), self.cri_perceptual(output, gt), strict=True):
                if loss is not None:
                    losses[name] = loss * weight
        return losses

    def reduce_loss_dict(self, loss_dict: Mapping[str, Tensor]) -> OrderedDict[str, float]:
        """Means over ranks, the same on each of them (BasicSR's only reach rank 0), in one copy to the CPU."""
        with torch.no_grad():
            values = torch.stack([value.float().mean() for value in loss_dict.values()])
            if self.opt["dist"]:
                torch.distributed.all_reduce(values)
                values /= self.opt["world_size"]
            return OrderedDict(zip(loss_dict, values.tolist(), strict=True))

    def _image_names(self) -> str:
        """The images of the batch, on all ranks; all of them must call it."""
        paths = [self._lq_paths]
        if self.opt["dist"]:
            paths = [[]] * self.opt["world_size"]
            torch.distributed.all_gather_object(paths, self._lq_paths)
        return ", ".join(path for rank_paths in paths for path in rank_paths)

    # --- validation ---

    def test(self) -> None:
        """Run the EMA network, or else the network, on `self.lq`, as the `val` options say; float32, no gradients."""
        network = self.net_g_ema if hasattr(self, "net_g_ema") else self.get_bare_model(self.net_g)
        was_training = network.training
        network.eval()
        try:
            # not inference_mode: a network that keeps a tensor would hand it to training, which may not use it
            with torch.no_grad():
                self.output = self.prediction(network, self.lq)
        finally:
            network.train(was_training)

    def nondist_validation(
        self, dataloader: DataLoader, current_iter: int | str, tb_logger: Any, save_img: bool
    ) -> None:
        """Validate, or repeat the result where nothing was trained since (BasicSR validates again after training)."""
        if self.iteration and isinstance(current_iter, int):
            current_iter = min(current_iter, self.iteration)  # after its loop BasicSR counts one step more than it made
        name = self.dataset_name(dataloader)
        *done, results = self.validated.get(name, (None, None, {}))
        if self.is_train and done == [current_iter, bool(save_img)]:
            self.metric_results = dict(results)
            values = ", ".join(f"{metric}: {value:.4f}" for metric, value in results.items())
            get_root_logger().info(f"Validation {name} at iteration {current_iter}: as just before. {values}")
            return
        if not validate(self, dataloader, current_iter, tb_logger, save_img):
            return  # the run was told to end: it will owe this validation
        self.validated[name] = (current_iter, bool(save_img), dict(self.metric_results))
        if self.is_train:
            self.record_validation(name, int(current_iter))

    def dist_validation(self, dataloader: DataLoader, current_iter: int | str, tb_logger: Any, save_img: bool) -> None:
        """As `nondist_validation`, which shares the images out."""
        self.nondist_validation(dataloader, current_iter, tb_logger, save_img)

    @staticmethod
    def dataset_name(dataloader: DataLoader) -> str:
        """`name` of a loader's data set in the option file."""
        dataset: Any = dataloader.dataset
        return dataset.opt["name"]

    def warn_once(self, message: str) -> None:
        """Log a warning that would be the same every time."""
        if message not in self._warned:
            self._warned.add(message)
            get_root_logger().warning(message)


if "RGTModel" not in MODEL_REGISTRY:  # a fork of the official code may have taken the name
    MODEL_REGISTRY.register(RGTModel)
