"""Names of metrics, params and tags as MLflow takes them."""

import pytest
from mlflow.utils.validation import _validate_metric_name

from histo_mlflow.tracking.entries import name, named

CLASSES = ("SCC/", "AK//BCC", "/", "..", "a/../b", "./x", "<50%", "Mélanome & nevus: (x)", "\n")


@pytest.mark.parametrize("class_name", CLASSES)
@pytest.mark.parametrize("prefix", ["", "test/auc_", "test/"])
def test_every_class_gives_a_name_that_mlflow_takes(prefix: str, class_name: str) -> None:
    _validate_metric_name(name(prefix + class_name))


def test_a_name_that_needs_no_change_stays() -> None:
    plain = {"train/loss": 1, "system/disk usage": 2, "val/auc_b-c.d": 3}
    assert named(plain) == plain


def test_keys_whose_names_would_be_the_same_stay_apart() -> None:
    found = named({"auc_<50%": 0.1, "auc_>50%": 0.2, "auc__50_": 0.3, "auc_other?": 0.4})
    assert sorted(found.values()) == [0.1, 0.2, 0.3, 0.4]
    assert found["auc__50_"] == 0.3
    assert found["auc_other_"] == 0.4
    first, second = (key for key, value in found.items() if value < 0.3)
    assert first.startswith("auc__50_-")
    assert second.startswith("auc__50_-")
    assert named({"auc_<50%": 0.1, "auc_>50%": 0.2}).keys() == {first, second}
