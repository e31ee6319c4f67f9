"""Figures of a data set state their n, draw what is there and survive odd data."""

import matplotlib.text
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from histo_mlflow.data.overview import Intensities
from histo_mlflow.errors import DataError
from histo_mlflow.evaluation import explore


def classes(images, groups=None):
    images = np.asarray(images)
    groups = images if groups is None else np.asarray(groups)
    return pd.DataFrame(
        {
            "images": images,
            "share": images / images.sum(),
            "groups": groups,
            "images_per_group": images / np.where(groups > 0, groups, 1),
            "largest_group": images,
        },
        index=[f"class {k}" for k in range(len(images))],
    )


def texts(fig):
    FigureCanvasAgg(fig).draw()
    return [t.get_text() for t in fig.findobj(matplotlib.text.Text) if t.get_text()]


def test_the_balance_tells_every_count():
    told = texts(explore.class_balance(classes([6705, 115, 0], [5403, 73, 0]), group_kind="lesion"))

    assert {"6,705  (98.3 %)", "115  (1.7 %)", "0  (0.0 %)", "images", "lesions"} <= set(told)
    assert {"5,403  (1.24 images each)", "73  (1.58 images each)", "0"} <= set(told)
    assert "6,820 images, 3 classes" in told


def test_without_groups_there_is_one_panel():
    fig = explore.class_balance(classes([3, 4]), group_kind="image")

    assert len(fig.axes) == 1


def test_of_ten_thousand_classes_the_largest_are_drawn():
    fig = explore.class_balance(classes(np.arange(1, 10_001)), group_kind="image")

    assert len(fig.axes[0].patches) == explore.MOST_BARS
    assert any("10,000 classes · the 40 largest are drawn" in told for told in texts(fig))


@pytest.mark.parametrize(
    "sizes", [{1: 5514, 2: 1423, 6: 4}, {30: 40}, dict.fromkeys(range(1, 900, 7), 1)]
)
def test_group_sizes_state_groups_and_images(sizes):
    series = pd.Series(sizes)
    told = texts(explore.group_sizes(series, group_kind="slide"))

    images = sum(size * n for size, n in sizes.items())
    stated = next(text for text in told if "on average" in text)
    assert f"{series.sum():,} slide" in stated
    assert f"{images:,} images" in stated
    assert {"images of one slide", "slides"} <= set(told)


def test_intensities_of_each_channel_are_drawn_to_one_scale():
    counts = np.zeros((3, 256), dtype=np.int64)
    counts[:, 100:150] = 10
    counts[2, 255] = 5_000  # a white background
    fig = explore.intensity_histograms(Intensities(counts, 7), image_px=32, of=9)
    told = texts(fig)

    assert len({axes.get_ylim() for axes in fig.axes}) == 1
    assert "7 images of 9, as the model is given them (32 x 32 px)" in told
    assert "red   mean 124.5, SD 14.4" in told
    assert "90.9 %" in told  # what rises above the scale is told
    assert told.count("value (0-255)") == 3


def test_sizes_are_named_where_they_are_few():
    one = pd.DataFrame({"width": [200], "height": [150], "images": [10_015]})
    many = pd.DataFrame({"width": range(50, 90), "height": range(40, 80), "images": 1})

    assert "200 x 150 px\n10,015 images" in texts(explore.image_sizes(one, image_px=96))
    told = texts(explore.image_sizes(many, image_px=96))
    assert {"width (px)", "height (px)", "40 images of 40 sizes"} <= set(told)


def test_nothing_to_draw_is_a_sentence():
    with pytest.raises(DataError, match="Expected at least one class to draw, got none"):
        explore.class_balance(classes([1]).iloc[:0], group_kind="image")
