"""RealRGTModel and RealRGTGANModel: RGT for real pictures, trained on LR images that the model itself degrades."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from basicsr.data.transforms import paired_random_crop
from basicsr.utils import USMSharp
from torch import Tensor

from rgt_arch.config.tables import degradation_values
from rgt_arch.data import degradations  # as a whole: importing it first imports BasicSR, and so this module
from rgt_arch.data.pair_pool import exchange_with_pool
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
            self.queue_size = values["queue_size"] if values["queue_size"] is not None else 180 * is_real
            self._gt_size, self._gt_usm = values["gt_size"], values["gt_usm"]
            self._usm_sharpener = USMSharp()
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
        lq = self._degrade(self._source(gt), data)
        if self._gt_size is not None:
            gt, lq = paired_random_crop(gt, lq, self._gt_size, self._scale)
        super().feed_data({"lq": lq, "gt": gt, "lq_path": data.get("gt_path", ())})
        if self.queue_size:
            exchange_with_pool(self)
        self._prepare_targets()

    def _source(self, gt: Tensor) -> Tensor:
        """The images that are degraded: sharpened if those of a loss are (models/realesrgan_model.py:85)."""
        return self._usm_sharpener(gt) if self._gt_usm else gt

    def _prepare_targets(self) -> None:
        self.gt = self._source(self.gt)

    def validation(self, *args: Any, **kwargs: Any) -> bool:
        """As in RGTModel, with the LR images of the data set."""
        self._validates = True
        try:
            return super().validation(*args, **kwargs)
        finally:
            self._validates = False
