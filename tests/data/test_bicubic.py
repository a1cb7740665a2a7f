"""MATLAB-exact bicubic resizing, compared with published PSNR and with exact arithmetic."""

import os
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from basicsr.metrics import calculate_psnr

from rgt_arch.data.bicubic import crop_to_multiple, hr_lr_pair, imresize

from .image_files import noise


@pytest.mark.skipif("RGT_DATA" not in os.environ, reason="RGT_DATA names no folder of benchmark images")
@pytest.mark.parametrize(("scale", "published"), [(2, 33.67), (3, 30.40), (4, 28.43)])
def test_bicubic_upsampling_has_the_published_psnr_on_set5(scale, published):
    scores = []
    for file in sorted(Path(os.environ["RGT_DATA"], "benchmark/Set5/HR").glob("*.png")):
        hr, lr = hr_lr_pair(cv2.imread(str(file)), scale)
        scores.append(calculate_psnr(imresize(lr, scale), hr, crop_border=scale, test_y_channel=True))
    assert np.mean(scores) == pytest.approx(published, abs=0.005)


def exact_rows(rows: list[list[Fraction]], scale: Fraction, top: int) -> list[list[Fraction]]:
    """Bicubic resizing of the first axis in exact arithmetic, rounded half up: MATLAB's definition written down."""

    def kernel(x: Fraction) -> Fraction:
        x = abs(x)
        if x <= 1:
            return Fraction(3, 2) * x**3 - Fraction(5, 2) * x**2 + 1
        return -Fraction(1, 2) * x**3 + Fraction(5, 2) * x**2 - 4 * x + 2 if x <= 2 else Fraction(0)

    squeeze = min(scale, Fraction(1))
    out = []
    for o in range(-(-len(rows) * scale.numerator // scale.denominator)):
        centre = (o + Fraction(1, 2)) / scale - Fraction(1, 2)
        reach = range(int(centre - 2 / squeeze) - 2, int(centre + 2 / squeeze) + 3)
        weights = {i: kernel(squeeze * (centre - i)) for i in reach}
        mirrored = {i: (lambda k: min(k, 2 * len(rows) - 1 - k))(i % (2 * len(rows))) for i in reach}
        line = [
            sum(weights[i] * rows[mirrored[i]][column] for i in reach) / sum(weights.values())
            for column in range(len(rows[0]))
        ]
        out.append([Fraction(min(max((value + Fraction(1, 2)).__floor__(), 0), top)) for value in line])
    return out


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    ("height", "width", "scale"),
    [(12, 16, "1/2"), (13, 10, "1/4"), (5, 2, "1/4"), (6, 5, "2"), (3, 4, "4"), (1, 1, "2"), (9, 11, "3/2")],
)
def test_equals_exact_arithmetic_rounded_after_rows_and_after_columns(height, width, scale, dtype):
    top = int(np.iinfo(dtype).max)
    # Extreme samples: over- and undershoots must be clipped between the two passes as well.
    image = np.random.default_rng(5).choice([0, 1, top // 3, top - 1, top], (height, width)).astype(dtype)
    rows = exact_rows([[Fraction(int(value)) for value in line] for line in image], Fraction(scale), top)
    columns = exact_rows([list(line) for line in zip(*rows, strict=True)], Fraction(scale), top)
    expected = np.array([[int(value) for value in line] for line in zip(*columns, strict=True)], dtype)
    result = imresize(image, float(Fraction(scale)))
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, expected)


def test_channels_are_resized_independently():
    image = noise(21, 30, 3)
    together = imresize(image, 1 / 3)
    np.testing.assert_array_equal(together, np.stack([imresize(image[..., c], 1 / 3) for c in range(3)], axis=-1))
    assert together.shape == (7, 10, 3)
    assert together.flags.c_contiguous


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(("shape", "dtype"), [((37, 46, 3), np.uint8), ((29, 26), np.uint8), ((25, 31, 3), np.uint16)])
def test_part_has_the_bits_of_the_whole_result_at_every_place(scale, shape, dtype):
    image = crop_to_multiple(noise(*shape, dtype=dtype), scale)
    whole, side = imresize(image, 1 / scale), 4
    for top in range(whole.shape[0] - side + 1):
        for left in range(whole.shape[1] - side + 1):
            part = slice(top, top + side), slice(left, left + side)
            np.testing.assert_array_equal(imresize(image, 1 / scale, part), whole[part])


def test_pair_is_cropped_at_the_bottom_and_right():
    image = noise(11, 14)
    hr, lr = hr_lr_pair(image, 4)
    np.testing.assert_array_equal(hr, image[:8, :12])
    assert lr.shape == (2, 3)
    assert crop_to_multiple(image, 1).shape == (11, 14)


@pytest.mark.parametrize(
    ("image", "scale", "message"),
    [
        (np.zeros((4, 4), np.int32), 2, "int32"),
        (np.zeros((4, 4, 3, 1), np.uint8), 2, r"\(4, 4, 3, 1\)"),
        (np.zeros((0, 4), np.uint8), 2, r"\(0, 4\)"),
        (np.zeros((4, 4), np.uint8), 0, "scale is 0"),
        (np.zeros((4, 4), np.uint8), float("nan"), "scale is nan"),
    ],
)
def test_error_names_the_invalid_input(image, scale, message):
    with pytest.raises(ValueError, match=message):
        imresize(image, scale)
    with pytest.raises(ValueError, match="smaller than the scale 4"):
        hr_lr_pair(np.zeros((3, 9), np.uint8), 4)
