"""RGTModel: BasicSR's SRModel with tiles and self-ensemble in validation, mixed precision, accumulation, safe files."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from os import path as osp
from typing import Any

import torch
from basicsr.models.sr_model import SRModel
from basicsr.utils import get_root_logger
from basicsr.utils.dist_util import master_only
from basicsr.utils.registry import MODEL_REGISTRY
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from rgt_arch.archs.rgt_arch import RGT
from rgt_arch.errors import UserError
from rgt_arch.models.checkpoints import load_file_weights, plain_metrics, read_best_metrics
from rgt_arch.models.initialisation import start_from_interpolation
from rgt_arch.models.optimisation import StepSettings, build_optimizer, loss_weight
from rgt_arch.models.prediction import Prediction, fit_channels
from rgt_arch.models.validation import validate
from rgt_arch.torch_files import save_whole
from rgt_arch.weights import read_checkpoint
from rgt_arch.weights.building import resolve_path
from rgt_arch.weights.inspecting import constructor_arguments, is_derived

# fp16 overflows now and then and the scaler skips such steps; as many in a row mean that it does not recover.
_BAD_FP16_STEPS = 20


class RGTModel(SRModel):
    """Trains and tests a super-resolution network from a BasicSR option file.

    Beyond SRModel: `val.tile: {size, overlap}`, `val.use_chop`, `val.self_ensemble`; `train.amp: bf16|fp16`,
    `train.grad_clip`, `train.accumulate`, `train.init: interpolation`, any optimiser of torch.optim; validation over
    ranks.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        """Build the network and what training needs; UsageError for options that do not fit."""
        self.iteration = 0
        """Optimiser steps made so far, those before a resume included."""
        self.best_metric_results: dict[str, dict[str, dict[str, Any]]] = {}
        self.metric_results: dict[str, float] = {}
        self._validated: dict[str, tuple[int | str, bool, dict[str, float]]] = {}
        self._warned: set[str] = set()
        self._saved_state: tuple[int, int] | None = None
        self._bad_steps = 0
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

        Raises UserError before the step where the loss or a gradient is not finite, so that the weights stay usable;
        with fp16, where the scaler skips such steps, only after 20 in a row.
        """
        self.iteration = current_iter
        self._validated.clear()
        self.optimizer_g.zero_grad()
        loss_dict = self._accumulate_gradients()
        self.scaler.unscale_(self.optimizer_g)
        params = [param for group in self.optimizer_g.param_groups for param in group["params"]]
        loss_dict["grad_norm"] = nn.utils.get_total_norm([param.grad for param in params if param.grad is not None])
        if self.step_settings.grad_clip:
            nn.utils.clip_grads_with_norm_(params, self.step_settings.grad_clip, loss_dict["grad_norm"])
        self.log_dict = self.reduce_loss_dict(loss_dict)
        self._check_finite()
        if not self.step_settings.grad_clip:
            del self.log_dict["grad_norm"]  # as BasicSR logs it
        self.scaler.step(self.optimizer_g)
        self.scaler.update()
        if self.ema_decay > 0:
            self.model_ema(decay=self.ema_decay)

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

    def _check_finite(self) -> None:
        bad = next((name for name, value in self.log_dict.items() if not math.isfinite(value)), None)
        self._bad_steps = self._bad_steps + 1 if bad else 0
        if bad is None or self._bad_steps <= (_BAD_FP16_STEPS if self.scaler.is_enabled() else 0):
            return
        paths = [self._lq_paths]
        if self.opt["dist"]:  # the values are means over ranks, so that all of them come here
            paths = [[]] * self.opt["world_size"]
            torch.distributed.all_gather_object(paths, self._lq_paths)
        images = ", ".join(path for rank_paths in paths for path in rank_paths)
        what = "norm of the gradients" if bad == "grad_norm" else f"loss {bad}"
        remedy = "set train.amp: bf16" if self.scaler.is_enabled() else "lower train.optim_g.lr or set train.grad_clip"
        raise UserError(
            f"iteration {self.iteration}: the {what} is {self.log_dict[bad]}; the weights were left as they were; "
            f"{remedy}, look for broken images{f' among {images}' if images else ''}, and go on from the last saved "
            "state"
        )

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
        *done, results = self._validated.get(name, (None, None, {}))
        if self.is_train and done == [current_iter, bool(save_img)]:
            self.metric_results = dict(results)
            values = ", ".join(f"{metric}: {value:.4f}" for metric, value in results.items())
            get_root_logger().info(f"Validation {name} at iteration {current_iter}: as just before. {values}")
            return
        validate(self, dataloader, current_iter, tb_logger, save_img)
        self._validated[name] = (current_iter, bool(save_img), dict(self.metric_results))
        if self._saved_state and self._saved_state[1] == current_iter:
            self.save_training_state(*self._saved_state)  # BasicSR saves before it validates: add the best results

    def dist_validation(self, dataloader: DataLoader, current_iter: int | str, tb_logger: Any, save_img: bool) -> None:
        """As `nondist_validation`, which shares the images out."""
        self.nondist_validation(dataloader, current_iter, tb_logger, save_img)

    def _initialize_best_metric_results(self, dataset_name: str) -> None:
        """As BaseModel, but a resumed record may be of other metrics than the options have now."""
        known = self.best_metric_results.pop(dataset_name, {})
        super()._initialize_best_metric_results(dataset_name)
        record = self.best_metric_results[dataset_name]
        record.update({m: best for m, best in known.items() if m in record and record[m]["better"] == best["better"]})

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

    # --- files ---

    def load_network(
        self, net: nn.Module, load_path: str, strict: bool = True, param_key: str | None = "params"
    ) -> None:
        """Load weights of any published layout without running code from the file; UserError where they do not fit.

        `load_path` may be a name that `rgt weights` lists; what is not here yet is downloaded.
        `param_key` None takes the average where there is one, but what was trained where training resumes.
        With `strict` false, what differs is listed and left out; an EMA network then starts from the network's values.
        """
        net, logger = self.get_bare_model(net), get_root_logger()
        checkpoint = read_checkpoint(resolve_path(load_path))
        if param_key is None and self.is_train and self.opt["path"].get("resume_state"):
            param_key = "params"  # training goes on with what the optimiser trained, not with its average
        used = checkpoint.resolve_key(param_key)
        if param_key is not None and used != param_key:
            logger.info(f"Loading: {param_key} does not exist, use {used or 'the state dict that the file is'}.")
        logger.info(f"Loading {type(net).__name__} model from {load_path}, with param key: [{used or None}].")
        weights = checkpoint.state_dict(used)
        if not strict:
            self._print_different_keys_loading(net, weights, strict)
            if net is getattr(self, "net_g_ema", None):
                self.model_ema(0)  # what the file does not have was initialised apart from net_g
        load_file_weights(net, weights, load_path, strict)
        self._validated.clear()

    @master_only
    def save_network(
        self, net: nn.Module | list[nn.Module], net_label: str, current_iter: int, param_key: str | list[str] = "params"
    ) -> None:
        """BasicSR's file, `{param_key: state dict}`, whole or not at all.

        Added are `rgt_info`, the iteration, and `rgt_config`, the arguments of an RGT.
        """
        name = "latest" if current_iter == -1 else current_iter
        nets = net if isinstance(net, list) else [net]
        keys = param_key if isinstance(param_key, list) else [param_key]
        content: dict[str, Any] = {"rgt_info": {"iteration": self.iteration}}
        derived: dict[str, Tensor] = {}  # the same for the network and its average: written once
        is_rgt = isinstance(self.get_bare_model(nets[0]), RGT)
        for net_, key in zip(nets, keys, strict=True):
            state_dict = self.get_bare_model(net_).state_dict()
            content[key] = state_dict
            for entry, tensor in state_dict.items():
                shared = is_rgt and is_derived(entry)
                state_dict[entry] = derived.setdefault(entry, tensor) if shared else tensor.cpu()
        if is_rgt:
            content["rgt_config"] = constructor_arguments(nets[0])
        save_whole(content, osp.join(self.opt["path"]["models"], f"{net_label}_{name}.pth"))

    @master_only
    def save_training_state(self, epoch: int, current_iter: int) -> None:
        """BasicSR's training state, whole or not at all, plus the scaler's state and the best metric results."""
        if current_iter == -1:
            return
        state = {
            "epoch": epoch,
            "iter": current_iter,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "schedulers": [scheduler.state_dict() for scheduler in self.schedulers],
            "scaler": self.scaler.state_dict(),
            "best_metric_results": plain_metrics(self.best_metric_results),
        }
        save_whole(state, osp.join(self.opt["path"]["training_states"], f"{current_iter}.state"))
        self._saved_state = (epoch, current_iter)

    def save(self, epoch: int, current_iter: int) -> None:
        """Save the networks and the training state; -1 stands for the latest, of which only the networks are saved."""
        super().save(epoch, current_iter)
        if current_iter == -1:
            get_root_logger().info(f"Saved iteration {self.iteration} as net_g_latest.pth")

    def resume_training(self, resume_state: Mapping[str, Any]) -> None:
        """Restore what `save_training_state` wrote; official and BasicSR files, which hold less, work too."""
        try:
            super().resume_training(resume_state)
        except (AssertionError, KeyError, ValueError) as error:
            raise UserError(
                f"path.resume_state: the state of iteration {resume_state.get('iter')} does not fit train.optim_g and "
                f"train.scheduler ({error}); resume with the options it was trained with"
            ) from error
        self.iteration = int(resume_state["iter"])
        if self.scaler.is_enabled() and resume_state.get("scaler"):
            self.scaler.load_state_dict(resume_state["scaler"])
        self.best_metric_results = read_best_metrics(resume_state.get("best_metric_results"))


if "RGTModel" not in MODEL_REGISTRY:  # a fork of the official code may have taken the name
    MODEL_REGISTRY.register(RGTModel)
