"""`BicubicDataset`: HR images alone; LR patches are made while loading. Only BasicSR's registry imports this module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from basicsr.data.data_util import paths_from_lmdb
from basicsr.data.transforms import augment, paired_random_crop
from basicsr.utils import FileClient, bgr2ycbcr, imfrombytes, img2tensor
from torch import Tensor
from torch.utils.data import Dataset

from rgt_arch.data.bicubic import crop_to_multiple, imresize
from rgt_arch.data.pairing import images_below, pairs_from_meta_info, read_list
from rgt_arch.errors import UnreadableImageError


class BicubicDataset(Dataset[dict[str, Any]]):
    """HR images of a folder with its sub-folders, a list or an LMDB, and their LR by MATLAB's bicubic `imresize`.

    Its samples, order and random draws are those of BasicSR's PairedImageDataset with the LR images of `rgt prepare lr`
    of 8-bit images, bit for bit. As there, images are read in 8-bit colour; HR loses the pixels at the right and
    bottom that are over a multiple of the scale.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        """opt: dataroot_gt, io_backend, scale, phase, optionally meta_info_file (BasicSR's list of images) and color
        (y: the Y channel); gt_size, use_hflip and use_rot for phase train, others get whole images."""
        self.opt = opt
        self._client: FileClient | None = None
        folder, backend, listed = Path(opt["dataroot_gt"]), opt["io_backend"], opt.get("meta_info_file")
        if backend["type"] == "lmdb":
            self.paths: list[str] = paths_from_lmdb(str(folder))
            return
        pairs = pairs_from_meta_info(read_list(Path(listed)), "{}", comma=False).pairs if listed else []
        names = [name for name, _ in pairs] if listed else images_below(folder)
        self.paths = [str(folder / name) for name in names]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return `gt` (C, H, W) and `lq` (C, H / scale, W / scale), float32 RGB or Y in [0, 1], and their path twice.

        Raises UnreadableImageError for a damaged file, ValueError for an image that is smaller than the patch.
        """
        path, scale = self.paths[index], self.opt["scale"]
        image = imfrombytes(self._read(path))
        if image is None:
            raise UnreadableImageError(f"{path}: not a readable image; replace or remove it")
        image = gt = crop_to_multiple(image, scale)
        rows, columns = np.broadcast_arrays(*np.ogrid[: len(gt) // scale, : gt.shape[1] // scale])
        is_train = self.opt["phase"] == "train"
        if is_train:  # BasicSR draws the place of the patch: the numbers of its LR pixels are cropped for LR
            gt, (rows, columns) = paired_random_crop(gt, [rows, columns], self.opt["gt_size"], scale, path)
        part = slice(rows[0, 0], rows[-1, 0] + 1), slice(columns[0, 0], columns[0, -1] + 1)
        pair = [each.astype(np.float32) / 255.0 for each in (gt, imresize(image, 1 / scale, part))]
        if is_train:
            pair = augment(pair, self.opt["use_hflip"], self.opt["use_rot"])
        if self.opt.get("color") == "y":
            pair = [bgr2ycbcr(each, y_only=True)[..., None] for each in pair]
        tensors: list[Tensor] = img2tensor(pair, bgr2rgb=True, float32=True)
        return {"lq": tensors[1], "gt": tensors[0], "lq_path": path, "gt_path": path}

    def _read(self, path: str) -> bytes:
        if self._client is None:  # opened by the process that reads
            options = {key: value for key, value in self.opt["io_backend"].items() if key != "type"}
            if self.opt["io_backend"]["type"] == "lmdb":
                options |= {"db_paths": str(self.opt["dataroot_gt"]), "client_keys": "gt"}
            self._client = FileClient(self.opt["io_backend"]["type"], **options)
        content: bytes = self._client.get(path, "gt")
        return content
