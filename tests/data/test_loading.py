"""What a data set raises is told for what it is: an image that cannot be read, or code that is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from basicsr.utils import imfrombytes

from rgt_arch.data.loading import UNREADABLE, NamingDataset, TrainingDataset, UnreadableImageError
from rgt_arch.errors import UserError


class Files:
    """A data set of a user's: `work` is done for each image."""

    def __init__(self, work: Any, count: int = 2) -> None:
        self.opt = {"name": "mine"}
        self.paths = [f"img{number}.png" for number in range(count)]
        self.work = work

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:
        return self.work(self.paths[index])


def told(work: Any) -> str:
    with pytest.raises(UserError) as caught:
        NamingDataset(Files(work))[1]
    message = str(caught.value)
    assert message.startswith("data set mine, img1.png: ")
    assert "\n" not in message
    return message.removeprefix("data set mine, img1.png: ")


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n"])
def test_bytes_that_do_not_decode_are_no_readable_image(content: bytes) -> None:
    assert told(lambda _path: imfrombytes(content, float32=True)) == "not a readable image; replace or remove it"


@pytest.mark.parametrize(
    ("work", "words"),
    [
        (lambda path: path.no_such_attribute, "AttributeError: 'str' object has no attribute 'no_such_attribute'"),
        (lambda path: path + 1, "TypeError: "),
        (lambda path: {}[path], "KeyError: 'img1.png'"),
        (lambda path: np.zeros(2).reshape(3), "ValueError: cannot reshape array"),
    ],
)
def test_wrong_code_is_named_with_type_and_place(work: Any, words: str) -> None:
    message = told(work)
    assert message.startswith(words)
    assert ".py:" in message
    assert "image" not in message


def test_file_that_cannot_be_opened_is_named_with_the_reason() -> None:
    assert told(lambda path: Path(path).read_bytes()) == (
        "[Errno 2] No such file or directory: 'img1.png'; replace or remove it"
    )  # fmt: skip


def test_patch_larger_than_the_image_is_told_in_basicsr_words() -> None:
    from basicsr.data.transforms import paired_random_crop

    image = np.zeros((8, 8, 3), np.float32)
    message = told(lambda _path: paired_random_crop(image, image, 16, 1))
    assert message.startswith("LQ (8, 8) is smaller than patch size (16, 16).")
    assert message.endswith("; replace or remove it")


def test_iterating_ends_and_what_is_wrong_in_the_middle_does_not_end_it() -> None:
    assert list(NamingDataset(Files(lambda path: path))) == ["img0.png", "img1.png"]
    assert told(lambda _path: [][0]).startswith("IndexError: ")


class Samples(Files):
    """Images 1 and 2 of five cannot be read; a sample says which image it is of, and draws a random number."""

    def __getitem__(self, index: int) -> Any:
        if index in (1, 2):
            return imfrombytes(b"", float32=True)
        return {"image": index, "random": np.random.rand()}


def test_an_unreadable_image_is_replaced_by_one_that_seed_and_sample_number_choose() -> None:
    dataset = TrainingDataset(Samples(None, 5), seed=3)
    taken = [dataset[1, number] for number in range(40)]
    assert {sample["image"] for sample in taken} == {0, 3, 4}
    assert [dataset[1, number] for number in range(40)] == taken
    assert [TrainingDataset(Samples(None, 5), seed=4)[1, number]["image"] for number in range(40)] != [
        sample["image"] for sample in taken
    ]
    told = {sample.pop(UNREADABLE) for sample in taken}
    first, second = (f"data set mine, img{image}.png: not a readable image; replace or remove it" for image in (1, 2))
    assert told == {first, f"{first}\n{second}"}  # the first choice may be as bad
    assert dataset[0, 0][UNREADABLE] == ""
    assert dataset[3, 7]["random"] == next(s["random"] for n, s in enumerate(taken) if n == 7)


def test_wrong_code_is_not_replaced() -> None:
    with pytest.raises(UserError, match="AttributeError") as caught:
        TrainingDataset(Files(lambda path: path.no_such_attribute), seed=0)[0, 0]
    assert not isinstance(caught.value, UnreadableImageError)


def test_images_that_are_all_unreadable_end_in_the_first_ones_error() -> None:
    with pytest.raises(UnreadableImageError, match=r"img1\.png: not a readable image"):
        TrainingDataset(Files(lambda _path: imfrombytes(b"", float32=True)), seed=0)[1, 0]
