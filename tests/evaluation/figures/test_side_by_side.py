"""Comparison pictures: the right pixels, marked and magnified."""

import numpy as np
import pytest
from PIL import Image

from rgt_arch.evaluation.figures import Box, Panel, comparison_figure, save_figure

PHOTOGRAPH = np.random.default_rng(3).integers(0, 256, (60, 80, 3), dtype=np.uint8)


def positions(figure: np.ndarray, part: np.ndarray) -> list[tuple[int, int]]:
    """Where `part` occurs in `figure`, as (top, left)."""
    windows = np.lib.stride_tricks.sliding_window_view(figure, part.shape)[:, :, 0]
    return [tuple(place) for place in np.argwhere((windows == part).all(axis=(2, 3, 4)))]


def test_each_panel_shows_its_own_boxed_pixels_side_by_side():
    box = Box(left=16, top=20, width=24, height=12)
    smaller = PHOTOGRAPH[::2, ::2]
    figure = np.asarray(
        comparison_figure(PHOTOGRAPH, [Panel("LR", smaller), Panel("HR\nsecond line", PHOTOGRAPH)], box, 3)
    )
    lr = smaller[10:16, 8:20].repeat(6, axis=0).repeat(6, axis=1)
    hr = PHOTOGRAPH[20:32, 16:40].repeat(3, axis=0).repeat(3, axis=1)
    places = positions(figure, lr) + positions(figure, hr)
    assert len(places) == 2
    assert places[0][1] == places[1][1]
    assert places[0][0] + lr.shape[0] < places[1][0]


def test_the_box_stands_on_the_photograph_in_its_colour():
    figure = np.asarray(
        comparison_figure(np.zeros((60, 80, 3), np.uint8), [Panel("HR", PHOTOGRAPH)], Box(16, 20, 24, 12), 3)
    )
    rows, columns = np.nonzero((figure == (0x56, 0xB4, 0xE9)).all(axis=-1))
    width, height = np.ptp(columns), np.ptp(rows)
    assert abs(width / height - 24 / 12) < 0.3


def test_labels_are_drawn_below_their_panels():
    box = Box(0, 0, 40, 30)
    plain = np.asarray(comparison_figure(PHOTOGRAPH, [Panel("", PHOTOGRAPH)], box))
    labelled = np.asarray(comparison_figure(PHOTOGRAPH, [Panel("bicubic", PHOTOGRAPH)], box))
    rows = np.nonzero((plain != labelled).any(axis=(1, 2)))[0]
    assert rows.size
    assert rows.min() > 30 * 4


@pytest.mark.parametrize(
    ("panel", "box", "message"),
    [
        (PHOTOGRAPH, Box(70, 0, 20, 10), "does not lie in a photograph of 80×60"),
        (PHOTOGRAPH, Box(0, 0, 0, 10), "does not lie"),
        (PHOTOGRAPH[:-1], Box(0, 0, 20, 10), "no whole factor"),
        (PHOTOGRAPH[::2, ::2], Box(1, 0, 20, 10), "does not lie on the pixels of 'p'"),
    ],
)
def test_a_box_that_does_not_fit_is_named(panel, box, message):
    with pytest.raises(ValueError, match=message):
        comparison_figure(PHOTOGRAPH, [Panel("p", panel)], box)


def test_a_saved_figure_is_the_figure_and_leaves_nothing_beside_it(tmp_path):
    figure = Image.fromarray(PHOTOGRAPH)
    save_figure(figure, tmp_path / "figure.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "figure.png")), PHOTOGRAPH)
    assert [path.name for path in tmp_path.iterdir()] == ["figure.png"]
