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
from torch.utils.data import Dataset

from rgt_arch.data.sampling import Item
from rgt_arch.errors import UnreadableImageError, UserError

UNREADABLE = "unreadable"
"""Key of a sample from TrainingDataset: what could not be read in its place, a line for each image, or ""."""
_ATTEMPTS = 10


class NamingDataset(Dataset[Any]):
    """A BasicSR data set whose errors name the image. Everything else is the wrapped data set's (`opt`, `paths`, …)."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "dataset":  # while unpickling, `dataset` is not set yet
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __getitem__(self, index: Any) -> Any:
        """Sample `index` of the wrapped data set. Raises UserError, one line, for what goes wrong with it;
        UnreadableImageError where that is the image itself."""
        try:
            return self.dataset[index]
        except UserError:
            raise
        except Exception as error:  # a data set of the user's can raise anything
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
    """What is wrong with an image, or with code, then with type and place of the exception."""
    last, text = traceback.extract_tb(error.__traceback__)[-1], " ".join(str(error).split())
    if last.name == "imfrombytes" and isinstance(error, (AttributeError, cv2.error)):
        # BasicSR's decoder (utils/img_util.py:122): cv2.imdecode gave None, or refused empty bytes
        return UnreadableImageError, "not a readable image; replace or remove it"
    if isinstance(error, OSError) or (isinstance(error, ValueError) and "basicsr" in Path(last.filename).parts):
        return UnreadableImageError, f"{text}; replace or remove it"
    place = f"{Path(last.filename).name}:{last.lineno}"
    return UserError, f"{type(error).__name__}: {text} ({place}); --verbose shows the traceback"


class TrainingDataset(NamingDataset):
    """A BasicSR training set read by `IterationSampler`'s items.

    Crops and flips come from (seed, sample number): they do not repeat from epoch to epoch, and depend neither on the
    number of workers nor on what a worker did before. BasicSR seeds workers alike every epoch (data/__init__.py:97).
    """

    def __init__(self, dataset: Any, seed: int) -> None:
        super().__init__(dataset)
        self.seed = seed

    def __getitem__(self, index: Item) -> Any:
        """The sample of an item, or of other images, drawn from (seed, sample number), where its own is unreadable.

        The sample, a dict, says so under UNREADABLE. Raises UserError where the fault is not an image's, and after ten
        unreadable ones.
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
                # text, because that is what every collate function leaves alone
                sample[UNREADABLE] = "\n".join(dict.fromkeys(map(str, failures)))
            elif failures:
                raise failures[0]
            return sample
        raise failures[0]


@contextmanager
def seeded(seed: int, sample_number: int) -> Iterator[None]:
    """Seed Python's, NumPy's and torch's CPU generators from (seed, sample_number), and put them back afterwards.

    Without workers the samples are drawn in the process that trains, whose own randomness (drop path) they must not
    touch.
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
