"""Pairs that look the same are drawn side by side, with what tells them apart written above."""

import matplotlib.text
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from histo_mlflow.evaluation.leak_pairs import leak_pairs


def drawn(n: int, labels: tuple[str, str] = ("nv", "nv")) -> Figure:
    pixels = np.random.default_rng(0).integers(0, 256, (2 * n, 64, 64, 3), dtype=np.uint8)
    pairs = pd.DataFrame(
        [
            {
                "id_a": f"{labels[0]}/{i}.jpg",
                "id_b": f"{labels[1]}/{i}.jpg",
                "group_a": f"a{i}",
                "group_b": f"b{i}",
                "label_a": labels[0],
                "label_b": labels[1],
                "kind": "near",
                "turn": 5,
                "distance": 0.1,
                "across": True,
                "conflict": labels[0] != labels[1],
                "row_a": 2 * i,
                "row_b": 2 * i + 1,
            }
            for i in range(n)
        ]
    )
    return leak_pairs(pixels, pairs, facts="near is below 0.130")


def texts(fig: Figure) -> list[matplotlib.text.Text]:
    return [text for text in fig.findobj(matplotlib.text.Text) if text.get_text()]


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_no_text_leaves_the_picture(n: int) -> None:
    fig = drawn(n, ("Benign", "Malignant"))
    fig.canvas.draw()
    width = fig.bbox.width

    assert "near is below 0.130" in " ".join(text.get_text() for text in texts(fig))
    assert all(text.get_window_extent().x1 <= width for text in texts(fig))


def test_labels_that_differ_are_said_to_above_both_images() -> None:
    said = " ".join(text.get_text() for text in texts(drawn(2, ("Benign", "Malignant"))))
    assert said.count("labels differ: Benign") == said.count("labels differ: Malignant") == 2
    assert "differ" not in " ".join(text.get_text() for text in texts(drawn(2)))
