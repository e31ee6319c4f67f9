"""An ensemble of runs is a predictions table, and its gain a paired interval."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from finished_runs import cases, write_run
from histo_mlflow.cli import cli
from histo_mlflow.errors import DataError, DiskError
from histo_mlflow.evaluation import predictions
from histo_mlflow.jobs.ensemble import ensemble_runs
from histo_mlflow.jobs.talk import Talk

QUIET = Talk(quiet=True)


@pytest.fixture
def two_runs(tmp_path):
    tables = [cases(seed=seed) for seed in (1, 2)]
    for name, table in zip("ab", tables, strict=True):
        write_run(tmp_path / name, name * 32, table)
    return [str(tmp_path / name) for name in "ab"], tables


def test_the_table_holds_the_mean_of_the_logits(two_runs, tmp_path) -> None:
    references, tables = two_runs
    found = ensemble_runs(references, tmp_path / "e.parquet", talk=QUIET)
    table = predictions.load(tmp_path / "e.parquet")
    expected = np.mean([predictions.logits_of(one) for one in tables], axis=0)
    np.testing.assert_allclose(predictions.logits_of(table), expected, rtol=1e-12)
    *_, mean = found.comparison.named("auc")
    assert mean.name == "e"
    assert mean.difference > 0  # independent noise averages out
    assert mean.difference_low < mean.difference < mean.difference_high


def test_the_command_prints_json_and_keeps_what_is_there(two_runs, tmp_path) -> None:
    references, _ = two_runs
    words = ["runs", "ensemble", *references, "--out", str(tmp_path / "e.parquet"), "--json"]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, done.output
    assert len(json.loads(done.stdout)["runs"]) == 3
    with pytest.raises(DiskError, match="is there already"):
        ensemble_runs(references, tmp_path / "e.parquet", talk=QUIET)


def val_only(folder):
    """Two tables of one name, without test rows."""
    places = []
    for seed in (1, 2):
        table = cases(seed=seed)
        (folder / str(seed)).mkdir()
        places.append(folder / str(seed) / "oof.parquet")
        predictions.save(table[table["split"] == "val"].reset_index(drop=True), places[-1])
    return [str(place) for place in places]


def test_tables_of_one_file_name_are_told_apart(tmp_path) -> None:
    found = ensemble_runs(val_only(tmp_path), tmp_path / "e.parquet", split="val", talk=QUIET)
    assert len(set(found.names)) == 3


def test_what_cannot_be_averaged_is_refused_and_leaves_nothing(two_runs, tmp_path) -> None:
    (first, second), _ = two_runs
    out = tmp_path / "e.parquet"
    with pytest.raises(DataError, match="two runs or more"):
        ensemble_runs([first], out, talk=QUIET)
    with pytest.raises(DataError, match="twice"):
        ensemble_runs([first, first], out, talk=QUIET)
    with pytest.raises(DataError, match="parquet"):
        ensemble_runs([first, second], tmp_path / "e.csv", talk=QUIET)
    with pytest.raises(DataError, match="split 'test'"):
        ensemble_runs(val_only(tmp_path), out, talk=QUIET)
    write_run(tmp_path / "c", "c" * 32, cases(100))
    with pytest.raises(DataError):
        ensemble_runs([first, str(tmp_path / "c")], out, talk=QUIET)
    assert not out.exists()
