"""The data sets given to DataLoader: BasicSR's own, wrapped so that workers, randomness and errors are in order.

Spawned workers unpickle the data set first of all; because its class is ours, that imports rgt_arch and with it
everything that lets BasicSR be imported (basicsr_compat), before BasicSR's class inside is looked up.
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
from torch.utils.data import Dataset, get_worker_info

from rgt_arch.data.sampling import Item
from rgt_arch.errors import UserError


class NamingDataset(Dataset[Any]):
    """A BasicSR data set whose errors name the image. Everything else is the wrapped data set's (`opt`, `paths`, …)."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "dataset":  # while unpickling, `dataset` is not there yet
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __getitem__(self, index: Any) -> Any:
        """Sample `index` of the wrapped data set. Raises UserError, one line, for an image that cannot be used."""
        try:
            return self.dataset[index]
        except UserError:
            raise
        except Exception as error:  # a data set of the user's can raise anything
            if isinstance(error, IndexError) and index >= len(self):
                raise  # how iterating over a data set ends
            raise UserError(f"data set {self._name()}, {self._files(index)}: {_reason(error)}") from error

    def _name(self) -> str:
        return str((getattr(self.dataset, "opt", None) or {}).get("name", type(self.dataset).__name__))

    def _files(self, index: int) -> str:
        try:
            files = self.dataset.paths[index]
        except (AttributeError, KeyError, IndexError, TypeError):
            return f"image {index}"
        return " or ".join(sorted({*files.values()})) if isinstance(files, dict) else str(files)


def _reason(error: Exception) -> str:
    """What is wrong with an image, or else with the data set: type and place of the exception."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(str(error).split())
    if last.name == "imfrombytes" and isinstance(error, (AttributeError, cv2.error)):
        # BasicSR's decoder (utils/img_util.py:122): cv2.imdecode gave None, or refused empty bytes
        return "not a readable image; replace or remove it"
    if isinstance(error, OSError) or (isinstance(error, ValueError) and "basicsr" in Path(last.filename).parts):
        return f"{text}; replace or remove it"
    return f"{type(error).__name__}: {text} ({Path(last.filename).name}:{last.lineno}); --verbose shows the traceback"


class TrainingDataset(NamingDataset):
    """A BasicSR training set read by `IterationSampler`'s items.

    Crops and flips come from (seed, sample number): they do not repeat from epoch to epoch, and depend neither on the
    number of workers nor on what a worker did before. BasicSR seeds workers alike every epoch (data/__init__.py:97).
    """

    def __init__(self, dataset: Any, seed: int) -> None:
        super().__init__(dataset)
        self.seed = seed

    def __getitem__(self, index: Item) -> Any:
        image, sample_number = index
        with seeded(self.seed, sample_number):
            return super().__getitem__(image)


@contextmanager
def seeded(seed: int, sample_number: int) -> Iterator[None]:
    """Seed Python's, NumPy's and torch's CPU generators from (seed, sample_number), and put them back afterwards.

    Without workers the samples are drawn in the process that trains, whose own randomness (drop path) they must not
    touch. In a worker nothing else draws, and nothing is put back: that costs more than the seeding.
    """
    is_worker = get_worker_info() is not None
    before = None if is_worker else (random.getstate(), np.random.get_state(), torch.get_rng_state())
    python, numpy, pytorch = (int(word) for word in np.random.SeedSequence([seed, sample_number]).generate_state(3))
    random.seed(python)
    np.random.seed(numpy)
    torch.default_generator.manual_seed(pytorch)  # torch.manual_seed would reset the GPUs' generators too
    try:
        yield
    finally:
        if before is not None:
            random.setstate(before[0])
            np.random.set_state(before[1])
            torch.set_rng_state(before[2])
