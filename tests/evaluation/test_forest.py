"""The picture of a comparison says what the numbers say."""

import pytest

import finished_runs
from histo_mlflow.evaluation.compare import paired
from histo_mlflow.evaluation.forest import comparison
from histo_mlflow.evaluation.style import save

cases = finished_runs.cases


def texts(fig) -> list[str]:
    return [text.get_text() for axes in fig.axes for text in axes.texts]


def test_gains_point_to_the_right_whichever_way_the_metric_is_better(tmp_path):
    found = paired({"weak": cases(seed=1, skill=0.3), "strong": cases(seed=2, skill=3)})
    fig = comparison(found, group_kind="lesion")
    shares, nats = fig.axes
    for axes in (shares, nats):
        centres = [line.get_xdata()[0] for line in axes.get_lines() if line.get_marker() == "o"]
        assert len(centres) == len(axes.get_yticklabels())
        assert min(centres) > 0
    assert [label.get_text() for label in nats.get_yticklabels()] == ["log loss (nats)"]
    _, auc = found.named("auc")
    assert f"{auc.value - auc.difference:.3f} → {auc.value:.3f}  (better)" in texts(fig)
    heading = [text.get_text() for text in fig.texts]
    assert heading == ["Gain of strong over weak", "test: 120 images in 60 lesion groups"]
    save(fig, tmp_path / "comparison.png")
    assert (tmp_path / "comparison.png").stat().st_size > 10_000


def test_what_is_undefined_is_said_and_not_drawn():
    only = [
        cases(classes=("benign", "malignant"), seed=s).query("label == 'benign'") for s in (1, 2)
    ]
    fig = comparison(paired({"a": only[0], "b": only[1]}, replicates=30))
    assert "undefined" in texts(fig)
    assert "test: " in fig.texts[1].get_text()
    assert "group groups" not in fig.texts[1].get_text()


@pytest.mark.parametrize("models", [3, 12])
def test_many_models_and_long_names_stay_legible_and_what_is_left_out_is_told(models, tmp_path):
    tables = {f"{i} " + "long-name " * 12: cases(seed=i) for i in range(models)}
    fig = comparison(paired(tables, replicates=20))
    assert ("4 more models not drawn" in fig.texts[1].get_text()) is (models == 12)
    save(fig, tmp_path / "comparison.png")
