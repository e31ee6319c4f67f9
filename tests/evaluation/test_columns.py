"""A column of metadata is drawn with its counts."""

import matplotlib.text
import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg

from histo_mlflow.data.overview import QUANTILES, Column
from histo_mlflow.evaluation.columns import category_by_class, number_by_class


def texts(fig):
    FigureCanvasAgg(fig).draw()
    return [t.get_text() for t in fig.findobj(matplotlib.text.Text) if t.get_text()]


def test_columns_are_drawn_with_their_counts_also_where_a_class_has_none():
    by_class = pd.DataFrame([[3, 1, 2, 3, 4, 5], [0, *[np.nan] * 5]], ["mel", "nv"])
    by_class.columns = ["n", *QUANTILES]
    age = Column("age", "number", 4, 30, by_class, 0.47)
    levels = pd.DataFrame([[995, 1, 4], [0, 0, 0]], ["mel", "nv"], ["m", "f", "(missing)"])
    sex = Column("sex", "category", 4, 2, levels, None)

    told = texts(number_by_class(age, classes=["mel", "nv"]))
    assert "3 images with a value, 4 without · correlation ratio with the class 0.47" in told
    assert {"mel (3)", "nv (0)"} <= set(told)
    told = texts(category_by_class(sex, classes=["mel", "nv"]))
    assert "share of each class in % · 1,000 images" in told
    assert {"m (995)", "(missing) (4)", "100", "<1"} <= set(told)
    assert told.count("-") == 3
