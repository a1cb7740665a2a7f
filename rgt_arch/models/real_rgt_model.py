"""RealRGTModel and RealRGTGANModel: RGT for real pictures, trained on LR images that the model itself degrades."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
from basicsr.data.transforms import paired_random_crop
from basicsr.models.srgan_model import SRGANModel
from basicsr.utils import USMSharp
from torch import Tensor

from rgt_arch.config.tables import QUEUE, degradation_values
from rgt_arch.data import degradations  # as a whole: importing it first imports BasicSR, and so this module
from rgt_arch.data.pair_pool import exchange_with_pool
from rgt_arch.models.optimisation import add_losses, micro_batches
from rgt_arch.models.rgt_model import RGTModel


class RealRGTModel(RGTModel):
    """RGTModel that makes the LR images of training from HR images, with `degradation: real` or `photo`.

    `real` is that of BasicSR's RealESRNetModel, with its keys at the top level and its data set RealESRGANDataset;
    `photo` takes any data set with HR images. Validation takes the LR images of its data set.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        """As RGTModel; raises UsageError for values of degradations that do not fit."""
        if opt["is_train"]:
            values = degradation_values(opt)
            is_real = values["degradation"] == "real"
            scale = opt["scale"]
            self._degrade = (
                degradations.RealDegradation(scale, values) if is_real else degradations.PhotoDegradation(scale)
            )
            queue = values["queue_size"]
            self.queue_size = QUEUE[values["degradation"]] if queue is None else queue
            self._gt_size = values["gt_size"]
            self._sharpened = {loss: opt.get(f"{loss}_gt_usm", values["gt_usm"]) for loss in ("l1", "percep", "gan")}
            self._usm_sharpener = lru_cache(maxsize=1)(USMSharp())  # slow, and two losses may have one target
            self._validates = False
        super().__init__(opt)

    def feed_data(self, data: Mapping[str, Any]) -> None:
        """Take a batch as RGTModel does, in training only its `gt`; the LR images are made here.

        With `degradation: real` the batch has the kernels of RealESRGANDataset.
        """
        if not self.is_train or self._validates:
            super().feed_data(data)
            return
        gt = data["gt"].to(self.device, non_blocking=True)
        sharpened = any(self._sharpened.values())  # if the images of a loss are (models/realesrgan_model.py:85)
        lq = self._degrade(self._usm_sharpener(gt) if sharpened else gt, data)
        if self._gt_size is not None:
            gt, lq = paired_random_crop(gt, lq, self._gt_size, self._scale)
        names = () if self.queue_size else data.get("gt_path", ())  # the pool gives other images
        super().feed_data({"lq": lq, "gt": gt, "lq_path": names})
        if self.queue_size:
            exchange_with_pool(self)

    def _target(self, gt: Tensor, loss: str) -> Tensor:
        return self._usm_sharpener(gt) if self._sharpened[loss] else gt

    def validation(self, *args: Any, **kwargs: Any) -> bool:
        """As in RGTModel, with the LR images of the data set."""
        self._validates = True
        try:
            return super().validation(*args, **kwargs)
        finally:
            self._validates = False


class RealRGTGANModel(RealRGTModel, SRGANModel):
    """RealRGTModel with a discriminator: pixel, perceptual and adversarial loss, as BasicSR's RealESRGANModel.

    Both networks make their steps from the losses of one forward of the generator, so that a step with a loss or
    gradient that is not finite changes neither. `train.grad_clip` limits the norm of each network's gradient.
    """

    def _accumulate_gradients(self) -> dict[str, Tensor]:
        """Add the gradients of the generator, if it is its turn, and of the discriminator (srgan_model.py:82-136)."""
        losses: dict[str, Tensor] = {}
        if self.iteration % self.net_d_iters == 0 and self.iteration > self.net_d_init_iters:
            self.net_d.requires_grad_(False)
            losses = super()._accumulate_gradients()
            self.net_d.requires_grad_(True)
        else:
            with torch.no_grad():
                batch = self.lq.tensor_split(self.step_settings.accumulate)
                self.output = torch.cat([self._forward(self.net_g, part) for part in batch])
        parts = list(micro_batches(self.output, self._target(self.gt, "gan"), self.step_settings.accumulate))
        for number, (output, gt, share) in enumerate(parts, 1):
            for name, images, is_real in (("real", gt, True), ("fake", output, False)):
                with self._reduced(self.net_d, number == len(parts) and not is_real):
                    judged = self._forward(self.net_d, images)
                    loss = self.cri_gan(judged, is_real, is_disc=True) * share
                    self.scaler.scale(loss).backward()
                add_losses(losses, {f"l_d_{name}": loss, f"out_d_{name}": judged.mean() * share})
        return losses

    def _losses(self, output: Tensor, gt: Tensor, share: float) -> dict[str, Tensor]:
        losses = super()._losses(output, gt, share)
        judged = self._forward(self.get_bare_model(self.net_d), output)  # DDP would wait for gradients of net_d
        return {**losses, "l_g_gan": self.cri_gan(judged, True, is_disc=False) * share}

    def save_networks(self, current_iter: int | str) -> None:
        """As in RGTModel, and `net_d_{current_iter}.pth`."""
        super().save_networks(current_iter)
        self.save_network(self.net_d, "net_d", current_iter)
