"""Which samples an iteration sees, and that a sample is the same whoever draws it."""

from __future__ import annotations

import pickle
import random
from collections import Counter

import numpy as np
import pytest
import torch
from basicsr.utils import imfrombytes
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from rgt_arch.data.loading import NamingDataset, TrainingDataset
from rgt_arch.data.sampling import IterationSampler
from rgt_arch.errors import UserError

sizes = st.integers(1, 12)


def items(**arguments):
    arguments = {"batch_size": 4, "start_iter": 0, "total_iter": 10, "seed": 3, **arguments}
    return list(IterationSampler(arguments.pop("dataset_size", 6), **arguments))


@settings(deadline=None)
@given(sizes, sizes, sizes, st.integers(1, 4), st.sampled_from([1, 2.5, 100]))
def test_every_rank_gets_exactly_total_iter_batches(images, batch, iterations, world, enlarge):
    for rank in range(world):
        sampler = IterationSampler(
            images,
            batch_size=batch,
            start_iter=0,
            total_iter=iterations,
            seed=0,
            rank=rank,
            world_size=world,
            enlarge_ratio=enlarge,
        )
        drawn = list(sampler)
        assert len(drawn) == len(sampler) == batch * iterations
        assert all(0 <= index < images for index, _ in drawn)


@settings(deadline=None)
@given(sizes, sizes, sizes, st.integers(1, 4))
def test_ranks_together_see_the_batches_of_one_process(images, batch, iterations, world):
    one = items(dataset_size=images, batch_size=batch * world, total_iter=iterations)
    ranks = [
        items(dataset_size=images, batch_size=batch, total_iter=iterations, rank=rank, world_size=world)
        for rank in range(world)
    ]
    for step in range(iterations):
        together = [item for rank in ranks for item in rank[step * batch : (step + 1) * batch]]
        assert sorted(together) == sorted(one[step * batch * world : (step + 1) * batch * world])


@settings(deadline=None)
@given(sizes, sizes, st.integers(0, 10))
def test_resumed_sampler_continues_the_list(images, batch, start):
    whole = items(dataset_size=images, batch_size=batch)
    assert items(dataset_size=images, batch_size=batch, start_iter=start) == whole[start * batch :]


def test_every_epoch_is_another_permutation_of_the_images():
    drawn = [index for index, _ in items(dataset_size=50, batch_size=50)]
    epochs = [tuple(drawn[start : start + 50]) for start in range(0, 500, 50)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert len(set(epochs)) == 10
    assert items(seed=4) != items(seed=3) == items(seed=3)


def test_enlarged_epoch_holds_each_image_so_often_with_distinct_sample_numbers():
    drawn = items(dataset_size=5, batch_size=20, total_iter=1, enlarge_ratio=4)
    assert set(Counter(index for index, _ in drawn).values()) == {4}
    assert len({number for _, number in drawn}) == 20


def test_iterating_twice_gives_the_same():
    """BasicSR's prefetchers made two iterators of a loader; a resume offset must not be used up by the first."""
    sampler = IterationSampler(6, batch_size=4, start_iter=3, total_iter=10, seed=0)
    next(iter(sampler))
    assert list(sampler) == list(sampler)


@pytest.mark.parametrize("wrong", [{"dataset_size": 0}, {"batch_size": 0}])
def test_nothing_to_draw_is_an_error_that_names_the_value(wrong):
    with pytest.raises(ValueError, match="0: a"):
        items(**wrong)


class RandomCrops:
    """A data set that uses all three generators, as BasicSR's do between them."""

    opt = {"name": "crops"}  # noqa: RUF012
    paths = ({"gt_path": "hr/a.png", "lq_path": "lr/a.png"}, {"gt_path": "hr/b.png", "lq_path": "lr/b.png"})

    def __len__(self):
        return 2

    def __getitem__(self, index):
        if index == 1:
            return imfrombytes(b"no picture", float32=True)
        return random.random(), np.random.rand(), torch.rand(1).item()


def test_sample_depends_on_seed_and_number_alone():
    dataset = TrainingDataset(RandomCrops(), seed=5)
    first = dataset[0, 7]
    dataset[0, 8]
    assert dataset[0, 7] == first
    assert pickle.loads(pickle.dumps(dataset))[0, 7] == first
    assert not set(first) & set(dataset[0, 9])  # the same image, an epoch later
    assert not set(first) & set(TrainingDataset(RandomCrops(), seed=6)[0, 7])


def test_samples_are_the_same_whatever_the_number_of_workers():
    dataset = TrainingDataset(RandomCrops(), seed=5)
    drawn = [(0, number) for number in (3, 1, 4, 15)]
    expected = [dataset[item] for item in drawn]
    for workers in (0, 1, 3):
        loader = DataLoader(dataset, sampler=drawn, batch_size=None, num_workers=workers)
        assert [tuple(map(float, sample)) for sample in loader] == expected


def test_drawing_a_sample_leaves_all_generators_as_they_were():
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    TrainingDataset(RandomCrops(), seed=5)[0, 7]
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before


def test_unreadable_image_is_named_with_its_data_set():
    for dataset, index in ((NamingDataset(RandomCrops()), 1), (TrainingDataset(RandomCrops(), seed=0), (1, 0))):
        with pytest.raises(UserError, match=r"data set crops, hr/b.png or lr/b.png: not a readable image; replace"):
            dataset[index]


def test_wrapped_data_set_answers_as_the_one_inside():
    dataset = NamingDataset(RandomCrops())
    assert len(dataset) == 2
    assert dataset.opt["name"] == "crops"
    with pytest.raises(AttributeError):
        dataset.missing  # noqa: B018
