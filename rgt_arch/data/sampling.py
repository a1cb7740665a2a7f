"""Which images an iteration sees: a function of (seed, iteration) alone, so that runs resume exactly and never stop
short."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

Item = tuple[int, int]  # (index into the data set, sample number within the whole run)


class IterationSampler(Sampler[Item]):
    """Items of the iterations `start_iter` to `total_iter` of one rank, in one pass over as many epochs as that takes.

    The run is one endless list of samples: epoch after epoch, each a permutation of its own drawn from (seed, epoch).
    Iteration i (from 0) takes positions i·B·W to (i+1)·B·W of it, rank r every W-th from the r-th, so that W ranks
    with batch B see the samples of one process with batch W·B. Iterating changes nothing in the sampler. Replaces
    basicsr.data.data_sampler.EnlargedSampler.
    """

    def __init__(
        self,
        dataset_size: int,
        *,
        batch_size: int,
        start_iter: int,
        total_iter: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        enlarge_ratio: float = 1,
    ) -> None:
        """dataset_size: images. batch_size: samples of one rank in an iteration. seed: ≥ 0. enlarge_ratio: repeats of
        the data set in an epoch (BasicSR's dataset_enlarge_ratio). Raises ValueError for an empty data set or
        batch."""
        if dataset_size < 1:
            raise ValueError(f"dataset_size {dataset_size}: a data set needs at least one image")
        if batch_size < 1:
            raise ValueError(f"batch_size {batch_size}: a batch needs at least one sample")
        self.dataset_size = dataset_size
        self.epoch_size = max(1, math.ceil(dataset_size * enlarge_ratio))
        self.global_batch = batch_size * world_size
        self.seed = seed
        self._positions = range(start_iter * self.global_batch + rank, total_iter * self.global_batch, world_size)

    def __len__(self) -> int:
        return len(self._positions)

    def __iter__(self) -> Iterator[Item]:
        epoch, order = -1, np.empty(0, dtype=np.int64)
        for position in self._positions:
            if position // self.epoch_size != epoch:
                epoch = position // self.epoch_size
                order = np.random.default_rng([self.seed, epoch]).permutation(self.epoch_size)
            yield int(order[position % self.epoch_size]) % self.dataset_size, position

    def epoch_of(self, iteration: int) -> int:
        """Return the epoch (from 0) in which an iteration (from 1) begins."""
        return max(0, iteration - 1) * self.global_batch // self.epoch_size
