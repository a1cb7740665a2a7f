"""Wrappers of BasicSR's data sets for DataLoader: reproducible samples, errors that name the image, spawned workers.

A spawned worker first unpickles the data set. Because its outer class is ours, rgt_arch and the fixes that BasicSR
needs to be imported (basicsr_compat) are loaded before BasicSR's class inside is looked up.
"""

from __future__ import annotations

import random
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from rgt_arch.data.sampling import Item
from rgt_arch.errors import UnreadableImageError, UserError

UNREADABLE = "unreadable"
"""Key in TrainingDataset's samples: errors of the images that the sample replaces, one line each, or ""."""
_ATTEMPTS = 10


class NamingDataset(Dataset[Any]):
    """A BasicSR data set whose errors name the image. Other attributes are the wrapped data set's (`opt`, `paths`)."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "dataset":  # while unpickling, `dataset` is not set yet
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __getitem__(self, index: Any) -> Any:
        """Return sample `index` of the wrapped data set. Raises a one-line UserError for any error,
        UnreadableImageError if the image is the cause."""
        try:
            return self.dataset[index]
        except UserError:
            raise
        except Exception as error:  # a user's data set can raise anything
            if isinstance(error, IndexError) and index >= len(self):
                raise  # how iterating over a data set ends
            kind, reason = _explain(error)
            opt = getattr(self.dataset, "opt", None) or {}
            name = opt.get("name", type(self.dataset).__name__)
            raise kind(f"data set {name}, {self._files(index)}: {reason}") from error

    def _files(self, index: int) -> str:
        try:
            files = self.dataset.paths[index]
        except (AttributeError, KeyError, IndexError, TypeError):
            return f"image {index}"
        return " or ".join(sorted({*files.values()})) if isinstance(files, dict) else str(files)


def _explain(error: Exception) -> tuple[type[UserError], str]:
    """Return the error class and text of a faulty image, or of faulty code, with the exception's type and place."""
    last, text = traceback.extract_tb(error.__traceback__)[-1], " ".join(str(error).split())
    if last.name == "imfrombytes" and isinstance(error, (AttributeError, cv2.error)):
        # BasicSR's decoder (utils/img_util.py:122): cv2.imdecode gave None, or refused empty bytes
        return UnreadableImageError, "not a readable image; replace or remove it"
    if isinstance(error, OSError) or (isinstance(error, ValueError) and "basicsr" in Path(last.filename).parts):
        return UnreadableImageError, f"{text}; replace or remove it"
    place = f"{Path(last.filename).name}:{last.lineno}"
    return UserError, f"{type(error).__name__}: {text} ({place}); --verbose shows the traceback"


class TrainingDataset(NamingDataset):
    """A BasicSR training set, indexed by the items of `IterationSampler`.

    Crops and flips are drawn from (seed, sample number): they differ between epochs and do not depend on the number of
    workers or on earlier samples. BasicSR gives workers the same seeds in every epoch (data/__init__.py:97).
    """

    def __init__(self, dataset: Any, seed: int) -> None:
        super().__init__(dataset)
        self.seed = seed

    def __getitem__(self, index: Item) -> Any:
        """Return the sample of an item. An image drawn from (seed, sample number) replaces an unreadable one.

        A dict gets the errors under UNREADABLE; a sample of another type cannot be replaced. Raises UserError for
        errors other than unreadable images, and after ten of these.
        """
        image, sample_number = index
        others = np.random.default_rng([self.seed, sample_number])
        failures: list[UnreadableImageError] = []
        for _attempt in range(_ATTEMPTS):
            try:
                with seeded(self.seed, sample_number):
                    sample = super().__getitem__(image)
            except UnreadableImageError as error:
                failures.append(error)
                image = int(others.integers(len(self)))
                continue
            if isinstance(sample, dict):
                # text, because every collate function leaves text unchanged
                sample[UNREADABLE] = "\n".join(dict.fromkeys(map(str, failures)))
            elif failures:
                raise failures[0]
            return sample
        raise failures[0]


@contextmanager
def seeded(seed: int, sample_number: int) -> Iterator[None]:
    """Seed Python's, NumPy's and torch's CPU generators from (seed, sample_number), and restore them afterwards.

    Without workers, samples are drawn in the training process and must not change its random numbers (drop path).
    """
    before = random.getstate(), np.random.get_state()
    python, numpy, pytorch = (int(word) for word in np.random.SeedSequence([seed, sample_number]).generate_state(3))
    with torch.random.fork_rng(devices=[]):
        random.seed(python)
        np.random.seed(numpy)
        torch.default_generator.manual_seed(pytorch)  # torch.manual_seed would reset the GPUs' generators too
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])
