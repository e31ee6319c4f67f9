"""The predictions table: complete, self-explaining, and refused when it is not."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from histo_mlflow.errors import DataError
from histo_mlflow.evaluation import predictions
from histo_mlflow.evaluation.probabilities import probabilities

CLASSES = ("akiec", "bcc", "nv")


def softmax_table() -> pd.DataFrame:
    logits = np.array([[2, 0, 0], [0, 1, 3], [5, 5, 1], [0, 0, 0]], dtype=np.float32)
    return predictions.predictions_table(
        ["a", "b", "c", "d"], ["g1", "g1", "g2", "g3"], ["val", "test", "test", "test"],
        np.array([0, 1, 0, 2]), logits, CLASSES, "softmax",
    )  # fmt: skip


def sigmoid_table() -> pd.DataFrame:
    return predictions.predictions_table(
        ["a", "b", "c"], ["g"] * 3, ["test"] * 3, [0, 1, 1], [[-3.0], [0.0], [40.0]],
        ("normal", "tumour"), "sigmoid",
    )  # fmt: skip


def test_a_softmax_table_has_one_logit_and_one_probability_a_class() -> None:
    table = softmax_table()
    assert list(table.columns) == [
        "id", "group", "split", "label", "predicted",
        "logit_akiec", "logit_bcc", "logit_nv", "p_akiec", "p_bcc", "p_nv",
    ]  # fmt: skip
    assert list(table["label"]) == ["akiec", "bcc", "akiec", "nv"]
    assert list(table["predicted"]) == ["akiec", "nv", "akiec", "akiec"]  # ties: the first class
    assert table["p_nv"].iloc[3] == pytest.approx(1 / 3)


def test_what_else_is_known_of_an_image_is_kept_as_it_was_given(tmp_path: Path) -> None:
    table = predictions.predictions_table(
        ["a", "b"], ["g", "g"], ["test"] * 2, [0, 1], [[-3.0], [0.0]], ("normal", "tumour"),
        "sigmoid", {"age": [40.0, float("nan")], "sex": ["male", ""], "slice_x": [1, 2]},
    )  # fmt: skip
    predictions.save(table, tmp_path / "p.parquet")
    found = predictions.attributes_of(predictions.load(tmp_path / "p.parquet"))
    assert list(found.columns) == ["age", "sex", "slice_x"]
    assert found["age"].isna().tolist() == [False, True]
    assert found["sex"].tolist() == ["male", ""]


def test_attributes_of_another_length_are_refused() -> None:
    with pytest.raises(DataError, match="1 values of 'age'"):
        predictions.predictions_table(
            ["a", "b"], ["g", "g"], ["test"] * 2, [0, 1], [[-3.0], [0.0]], ("normal", "tumour"),
            "sigmoid", {"age": [40.0]},
        )  # fmt: skip


def test_a_sigmoid_table_has_one_logit_and_two_probabilities() -> None:
    table = sigmoid_table()
    assert list(table.columns)[5:] == ["logit", "p_normal", "p_tumour"]
    assert list(table["predicted"]) == ["normal", "normal", "tumour"]
    assert table["p_normal"].iloc[2] == pytest.approx(np.exp(-40), rel=1e-12)


@pytest.mark.parametrize("table", [softmax_table(), sigmoid_table()])
def test_the_table_explains_itself(table: pd.DataFrame) -> None:
    output, classes = predictions.output_of(table), predictions.classes_of(table)
    logits = predictions.logits_of(table)
    assert logits.shape == (len(table), 1 if output == "sigmoid" else len(classes))
    np.testing.assert_array_equal(
        predictions.probabilities_of(table), probabilities(logits, output)
    )
    assert [classes[k] for k in predictions.targets_of(table)] == list(table["label"])
    assert predictions.log_odds_of(table).shape == (len(table), len(classes))


@pytest.mark.parametrize("table", [softmax_table(), sigmoid_table()])
def test_what_is_saved_is_what_is_loaded(table: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "predictions.parquet"
    predictions.save(table, path)
    pd.testing.assert_frame_equal(predictions.load(path), table)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_failed_write_leaves_the_file_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "predictions.parquet"
    predictions.save(softmax_table(), path)

    def full(self: pd.DataFrame, target: Path, **_: object) -> None:
        target.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", full)
    with pytest.raises(OSError, match="no space"):
        predictions.save(softmax_table(), path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert len(predictions.load(path)) == 4


def test_numbers_keep_every_bit_in_the_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    n = 500
    table = predictions.predictions_table(
        [f"i{i}" for i in range(n)], ["g"] * n, ["test"] * n, rng.integers(0, 3, n),
        rng.normal(0, 50, (n, 3)), CLASSES, "softmax",
    )  # fmt: skip
    predictions.save(table, tmp_path / "p.parquet")
    np.testing.assert_array_equal(
        predictions.logits_of(predictions.load(tmp_path / "p.parquet")),
        predictions.logits_of(table),
    )


def test_the_rows_of_a_split_are_numbered_anew_and_an_unknown_split_is_refused() -> None:
    assert list(predictions.of_split(softmax_table(), "test").index) == [0, 1, 2]
    with pytest.raises(DataError, match="'train', the table has: test, val"):
        predictions.of_split(softmax_table(), "train")


def altered(**columns: object) -> pd.DataFrame:
    return softmax_table().assign(**columns)


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (softmax_table().drop(columns="group"), "needs the columns id, group"),
        (softmax_table().drop(columns="logit_bcc"), "needs the columns id, group"),
        (altered(age=3), "needs the columns id, group"),
        (
            softmax_table().assign(slice_a=1)[["slice_a", *softmax_table().columns]],
            "needs the columns id",
        ),
        (altered(id=[1, 2, 3, 4]), "text in 'id'; got integer values"),
        (altered(group=[b"a", b"b", b"c", b"d"]), "text in 'group'; got bytes values"),
        (altered(id=["a", "a", "b", "c"]), "occur once; got 1 repeated, first 'a'"),
        (altered(group=["g", " ", None, "g"]), "'group'; got 2 blanks"),
        (altered(label=["akiec", "bcc", "MEL", "nv"]), "a label out of akiec, bcc, nv; got 'MEL'"),
        (altered(predicted=["nv"] * 4), "likeliest class"),
        (altered(p_nv=[0.1] * 4), "follow from the logits; got 4 rows"),
        (altered(p_nv=[np.nan] * 4), "follow from the logits; got 4 rows"),
        (altered(p_nv=np.float32(0.1)), "float64 in 'p_nv'"),
        (altered(logit_nv=[np.nan, 1, 1, 1]), "finite logits, but 1 of 4"),
    ],
)
def test_a_damaged_table_is_refused_when_saved_and_when_loaded(
    table: pd.DataFrame, told: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=told):
        predictions.save(table, tmp_path / "p.parquet")
    table.to_parquet(tmp_path / "p.parquet", index=False)
    with pytest.raises(DataError, match=told):
        predictions.load(tmp_path / "p.parquet")


def test_a_file_that_is_missing_or_no_parquet_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.parquet, but there is no such file"):
        predictions.load(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("id,label\n")
    with pytest.raises(DataError, match=r"Parquet file at .*text\.parquet"):
        predictions.load(tmp_path / "text.parquet")


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"ids": ["a"]}, "got 1 ids, 2 groups"),
        ({"ids": ["a", "a"]}, "occur once"),
        ({"ids": ["a", ""]}, "1 blanks"),
        ({"targets": [0, 2]}, "from 0 to 1, got 0 to 2"),
        ({"targets": [0.0, 1.0]}, "integers, got float64"),
        ({"logits": [[0.0], [np.inf]]}, "finite logits"),
        ({"logits": [[0.0, 1.0]] * 2}, r"of shape \(n, 1\)"),
        ({"classes": ["a", "a"]}, "different names"),
        ({"classes": ["a", "b", "c"]}, "two classes with one sigmoid logit"),
        ({"output": "softmax", "logits": [[0.0] * 3] * 2}, "Expected 2 logits a row"),
    ],
)
def test_columns_that_do_not_fit_are_refused(changed: dict[str, object], told: str) -> None:
    given = {
        "ids": ["a", "b"], "groups": ["g", "g"], "splits": ["val", "test"], "targets": [0, 1],
        "logits": [[0.5], [-0.5]], "classes": ["normal", "tumour"], "output": "sigmoid",
    }  # fmt: skip
    with pytest.raises(DataError, match=told):
        predictions.predictions_table(**(given | changed))


def test_reading_and_plotting_a_table_needs_no_torch(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    predictions.save(softmax_table(), path)
    program = """
import sys
from pathlib import Path
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "timm", "mlflow"):
            raise ImportError(name + " is not wanted here")
sys.meta_path.insert(0, Refuse())
from histo_mlflow.evaluation import grids, metrics, plots, predictions
table = predictions.load(Path(sys.argv[1]))
classes = predictions.classes_of(table)
metrics.summary(predictions.targets_of(table), predictions.logits_of(table), "softmax", classes)
plots.save(plots.roc(table, classes), Path(sys.argv[1]).with_suffix(".png"))
assert "matplotlib.pyplot" not in sys.modules
"""
    source = Path(predictions.__file__).parents[2]
    subprocess.run(
        [sys.executable, "-c", program, str(path)],
        check=True, env={"PYTHONPATH": str(source), "MPLCONFIGDIR": str(tmp_path)},
    )  # fmt: skip
    assert path.with_suffix(".png").stat().st_size > 10_000
