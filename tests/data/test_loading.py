"""Samples depend only on seed and number, and errors distinguish bad images from wrong code."""

from __future__ import annotations

import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from basicsr.data.transforms import paired_random_crop
from basicsr.utils import imfrombytes
from torch.utils.data import DataLoader

from rgt_arch.data.loading import UNREADABLE, NamingDataset, TrainingDataset
from rgt_arch.errors import UnreadableImageError, UserError

UNDECODED = "not a readable image; replace or remove it"


class Files:
    """A user's data set that calls `work` for each image."""

    def __init__(self, work: Any, count: int = 2) -> None:
        self.opt = {"name": "mine"}
        self.paths = [f"img{number}.png" for number in range(count)]
        self.work = work

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:
        return self.work(self.paths[index])


def draw(path: str) -> Any:
    """Draw from the three generators that BasicSR's data sets use. Images 1 and 2 cannot be read."""
    if path in ("img1.png", "img2.png"):
        return imfrombytes(b"", float32=True)
    return {"image": path, "random": (random.random(), np.random.rand(), torch.rand(1).item())}


def drawn(item: tuple[int, int], seed: int = 5) -> Any:
    return TrainingDataset(Files(draw, 5), seed)[item]["random"]


def test_sample_depends_only_on_seed_and_number_and_does_not_advance_the_generators() -> None:
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    dataset = TrainingDataset(Files(draw, 5), seed=5)
    first = dataset[0, 7]
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before
    dataset[0, 8]
    assert dataset[0, 7] == first == pickle.loads(pickle.dumps(dataset))[0, 7]
    assert drawn((0, 7)) == first["random"]
    for other in (drawn((0, 9)), drawn((0, 7), seed=6)):  # the same image, an epoch later and in another run
        assert not set(first["random"]) & set(other)
    for workers in (0, 1, 3):
        items = [(0, number) for number in (3, 1, 4, 15)]
        loader = DataLoader(dataset, sampler=items, batch_size=None, num_workers=workers)
        assert [tuple(sample["random"]) for sample in loader] == [drawn(item) for item in items]


@pytest.mark.parametrize(
    ("work", "kind", "words"),
    [
        *((lambda _, content=content: imfrombytes(content, float32=True), UnreadableImageError, UNDECODED)
          for content in (b"", b"no picture", b"\x89PNG\r\n")),
        (lambda path: Path(path).read_bytes(), UnreadableImageError,
         "[Errno 2] No such file or directory: 'img1.png'; replace or remove it"),
        (lambda _: paired_random_crop(*[np.zeros((8, 8, 3), np.float32)] * 2, 16, 1), UnreadableImageError,
         "LQ (8, 8) is smaller than patch size (16, 16)."),
        (lambda path: path.no_such_attribute, UserError,
         "AttributeError: 'str' object has no attribute 'no_such_attribute' (test_loading.py:"),
        (lambda path: path + 1, UserError, "TypeError: "),
        (lambda path: {}[path], UserError, "KeyError: 'img1.png' (test_loading.py:"),
        (lambda _: np.zeros(2).reshape(3), UserError, "ValueError: cannot reshape array"),
        (lambda _: [][0], UserError, "IndexError: "),
    ],
)  # fmt: skip
def test_errors_distinguish_bad_images_from_wrong_code(work: Any, kind: type[UserError], words: str) -> None:
    for dataset, index in ((NamingDataset(Files(work)), 1), (TrainingDataset(Files(work), seed=2), (1, 0))):
        with pytest.raises(kind) as caught:
            dataset[index]
        assert type(caught.value) is kind
        assert str(caught.value).startswith(f"data set mine, img1.png: {words}")
        assert "\n" not in str(caught.value)


def test_wrapper_has_the_items_and_attributes_of_its_data_set() -> None:
    dataset = NamingDataset(Files(lambda path: path))
    assert list(dataset) == ["img0.png", "img1.png"]
    assert dataset.opt["name"] == "mine"
    with pytest.raises(AttributeError):
        dataset.missing  # noqa: B018
    dataset.paths = [{"gt_path": "hr/a.png", "lq_path": "lr/a.png"}]
    assert NamingDataset(dataset)._files(0) == "hr/a.png or lr/a.png"


def test_an_unreadable_image_is_replaced_by_one_that_seed_and_sample_number_choose() -> None:
    dataset = TrainingDataset(Files(draw, 5), seed=3)
    taken = [dataset[1, number] for number in range(40)]
    assert {sample["image"] for sample in taken} == {"img0.png", "img3.png", "img4.png"}
    assert [dataset[1, number] for number in range(40)] == taken
    other = [TrainingDataset(Files(draw, 5), seed=4)[1, number]["image"] for number in range(40)]
    assert other != [sample["image"] for sample in taken]
    reported = {sample.pop(UNREADABLE) for sample in taken}
    first, second = (f"data set mine, img{image}.png: {UNDECODED}" for image in (1, 2))
    assert reported == {first, f"{first}\n{second}"}  # the first replacement may be unreadable too
    assert dataset[0, 0][UNREADABLE] == ""
