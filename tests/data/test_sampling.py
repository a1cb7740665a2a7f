"""The samples of each iteration."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rgt_arch.data.sampling import IterationSampler

sizes = st.integers(1, 12)


def items(**arguments):
    arguments = {"batch_size": 4, "start_iter": 0, "total_iter": 10, "seed": 3, **arguments}
    return list(IterationSampler(arguments.pop("dataset_size", 6), **arguments))


@settings(deadline=None)
@given(sizes, sizes, sizes, st.integers(1, 4), st.sampled_from([1, 2.5, 100]))
def test_every_rank_gets_exactly_total_iter_batches(images, batch, iterations, world, enlarge):
    settings = {"batch_size": batch, "start_iter": 0, "total_iter": iterations, "world_size": world}
    for rank in range(world):
        sampler = IterationSampler(images, seed=0, rank=rank, enlarge_ratio=enlarge, **settings)
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


def test_enlarged_epoch_repeats_each_image_with_distinct_sample_numbers():
    drawn = items(dataset_size=5, batch_size=20, total_iter=1, enlarge_ratio=4)
    assert set(Counter(index for index, _ in drawn).values()) == {4}
    assert len({number for _, number in drawn}) == 20


def test_iterating_twice_gives_the_same():
    """A resume offset must not be used up by the first of two iterators."""
    sampler = IterationSampler(6, batch_size=4, start_iter=3, total_iter=10, seed=0)
    next(iter(sampler))
    assert list(sampler) == list(sampler)


@pytest.mark.parametrize("wrong", [{"dataset_size": 0}, {"batch_size": 0}])
def test_size_of_zero_is_an_error_that_names_the_value(wrong):
    with pytest.raises(ValueError, match="0: a"):
        items(**wrong)
