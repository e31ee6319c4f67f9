"""What a training says of itself at its end, and what `histo-mlflow evaluate` makes of it later."""

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from PIL import Image

from finished_runs import cases, log_run, write_run
from histo_mlflow import recipe
from histo_mlflow.cli import cli
from histo_mlflow.errors import DataError, DiskError, TrackingError
from histo_mlflow.evaluation import predictions
from histo_mlflow.evaluation.probabilities import probabilities
from histo_mlflow.jobs.evaluate import Wanted, evaluate_run
from histo_mlflow.jobs.judge import calibration_of, run_metrics
from histo_mlflow.jobs.run_folder import RunFolder
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.jobs.train import train
from histo_mlflow.registry.model_folder import CARD, read_model_folder
from histo_mlflow.registry.predictor import Predictor

QUIET = Talk(quiet=True)
FIGURES = {
    "roc", "precision_recall", "reliability", "metrics", "classes", "confusion", "slices",
    "confident_mistakes", "least_certain", "gradcam_hits", "gradcam_mistakes", "embedding",
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory, fresh_database):
    """A real, tiny training with all its pictures; only read by the tests."""
    place = tmp_path_factory.mktemp("trained")
    shutil.copyfile(fresh_database, place / "mlflow.db")
    store = f"sqlite:///{place / 'mlflow.db'}"
    wanted = recipe.load(
        "demo",
        {
            "epochs": "2", "demo_images": "200", "image_px": "32", "device": "cpu", "threads": "1",
            "model": "resnet18",
        },
    )  # fmt: skip
    done = train(wanted, tracking_uri=store, runs_dir=place / "runs", doctor_level=None, talk=QUIET)
    return done, store, RunFolder(done.run_dir)


def artifacts(store, run_id, path):
    return {entry.path for entry in MlflowClient(store).list_artifacts(run_id, path)}


def test_a_training_logs_its_evaluation(trained) -> None:
    done, store, folder = trained
    top = artifacts(store, done.run_id, "evaluation")
    told = ("evaluation.json", "metrics.csv", "slices.csv", "MODEL_CARD.md", "model_card.html")
    assert {f"evaluation/{name}" for name in told} <= top
    drawn = artifacts(store, done.run_id, "evaluation/figures")
    # it may make no mistake, and has no slice of ten images and more
    always = FIGURES - {"gradcam_mistakes", "confident_mistakes", "slices"}
    assert {f"evaluation/figures/{name}.png" for name in always} <= drawn
    for picture in (folder.evaluation / "figures").iterdir():
        assert min(Image.open(picture).size) > 300, picture.name


def test_the_run_has_both_ends_of_every_interval(trained) -> None:
    done, store, folder = trained
    found = MlflowClient(store).get_run(done.run_id).data.metrics
    told = json.loads((folder.results / "evaluation/evaluation.json").read_text())
    overall = {one["metric"]: one for one in told["metrics"] if one["class"] is None}
    for name in ("auc", "accuracy", "f1", "brier"):
        assert found[f"test/{name}"] == pytest.approx(overall[name]["value"])
        assert found[f"test_low/{name}"] == pytest.approx(overall[name]["low"])
        assert found[f"test_high/{name}"] == pytest.approx(overall[name]["high"])
    assert found["test/loss"] == pytest.approx(overall["log_loss"]["value"])
    assert found["temperature"] == told["calibration"]["temperature"]["value"]
    assert told["group_kind"] == "slide"


def test_the_served_model_is_calibrated_by_validation(trained) -> None:
    _, _, folder = trained
    told = json.loads((folder.results / "evaluation/evaluation.json").read_text())
    model = read_model_folder(folder.model)
    temperature = told["calibration"]["temperature"]["value"]
    assert model.calibration["temperature"] == temperature
    by_rule = {one["rule"]: one["value"] for one in told["thresholds"]}
    served = model.calibration["thresholds"]
    assert {rule: one["value"] for rule, one in served.items()} == by_rule
    table = predictions.load(folder.results / "predictions.parquet")
    test = predictions.of_split(table, "test")
    logits = predictions.logits_of(test)
    from histo_mlflow.jobs.run_images import pack_of, rows_of
    from histo_mlflow.jobs.run_record import load_run

    pack = pack_of(load_run(folder.path), folder, talk=QUIET)
    answers = Predictor(folder.model).predict_pixels(pack.pixels()[rows_of(pack, test)])
    expected = probabilities(logits / temperature, predictions.output_of(test))
    np.testing.assert_allclose(answers, expected, atol=1e-5)


def test_the_model_carries_its_card(trained) -> None:
    _, _, folder = trained
    card = (folder.model / CARD).read_text()
    assert card == (folder.results / "evaluation/MODEL_CARD.md").read_text()
    assert "synthetic" in card.lower()
    assert folder.facts().run_id in card


def test_evaluating_again_says_the_same_and_replaces_what_was_there(trained, tmp_path) -> None:
    done, store, folder = trained
    before = json.loads((folder.results / "evaluation/evaluation.json").read_text())
    status = MlflowClient(store).get_run(done.run_id).info.status
    found = evaluate_run(str(done.run_dir), Wanted(pictures=False), out=tmp_path / "ev", talk=QUIET)
    assert found.evaluation.to_dict() == before
    assert json.loads((tmp_path / "ev/evaluation.json").read_text()) == before
    after = MlflowClient(store).get_run(done.run_id)
    assert after.info.status == status
    assert after.data.metrics["test/auc"] == found.evaluation.named("auc").value


def test_test_time_augmentation_is_a_paired_interval(trained, tmp_path) -> None:
    done, _, _ = trained
    found = evaluate_run(
        str(done.run_dir), Wanted(pictures=False, tta=True), out=tmp_path / "ev", talk=QUIET
    )
    one, views = found.tta.named("auc")
    assert one.value == pytest.approx(found.evaluation.named("auc").value)
    assert views.difference == pytest.approx(views.value - one.value)
    assert views.difference_low <= views.difference <= views.difference_high
    combined = predictions.load(tmp_path / "ev/tta/predictions.parquet")
    assert set(combined["split"]) == {"test"}
    assert Image.open(tmp_path / "ev/tta/comparison.png").size[0] > 300


def test_the_command_tells_the_headline(trained, tmp_path) -> None:
    done, _, _ = trained
    done_cli = CliRunner().invoke(
        cli, ["evaluate", str(done.run_dir), "--no-pictures", "--replicates", "200"]
    )
    assert done_cli.exit_code == 0, done_cli.output
    line = done_cli.stdout.splitlines()[0]
    assert line.startswith(f"test auc {done.test['auc']:.4f} (")


def test_a_run_that_is_only_in_the_store_is_judged_without_its_images(store_uri, tmp_path) -> None:
    folder = write_run(tmp_path / "run", "r", cases())
    run_id = log_run(store_uri, folder)
    found = evaluate_run(
        run_id, Wanted(replicates=100), tracking_uri=store_uri, runs_dir=tmp_path / "no", talk=QUIET
    )
    assert found.evaluation.group_kind == "lesion"
    drawn = artifacts(store_uri, run_id, "evaluation/figures")
    assert "evaluation/figures/roc.png" in drawn
    assert "evaluation/figures/gradcam_hits.png" not in drawn


def test_a_table_is_judged_without_a_run(tmp_path) -> None:
    predictions.save(cases(), tmp_path / "mine.parquet")
    found = evaluate_run(
        str(tmp_path / "mine.parquet"), Wanted(replicates=100), out=tmp_path / "ev", talk=QUIET
    )
    assert found.evaluation.rows == 120
    assert (tmp_path / "ev/figures/roc.png").is_file()


def test_the_output_never_goes_over_something_else(tmp_path) -> None:
    predictions.save(cases(), tmp_path / "mine.parquet")
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/thesis.txt").write_text("mine")
    with pytest.raises(DiskError, match="holds something else"):
        evaluate_run(
            str(tmp_path / "mine.parquet"), Wanted(), out=tmp_path / "precious", talk=QUIET
        )
    assert (tmp_path / "precious/thesis.txt").read_text() == "mine"


def test_a_failure_leaves_the_earlier_output_as_it_was(tmp_path, monkeypatch) -> None:
    predictions.save(cases(), tmp_path / "mine.parquet")
    where, out = str(tmp_path / "mine.parquet"), tmp_path / "ev"
    evaluate_run(where, Wanted(replicates=100, pictures=False), out=out, talk=QUIET)
    before = (out / "evaluation.json").read_bytes()

    def fail(*_):
        raise OSError("no more")

    monkeypatch.setattr("histo_mlflow.jobs.evaluate.draw_predictions", fail)
    with pytest.raises(OSError, match="no more"):
        evaluate_run(where, Wanted(replicates=150), out=out, talk=QUIET)
    assert (out / "evaluation.json").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"mine.parquet", "ev"}


def test_a_folder_with_more_than_an_evaluation_is_not_replaced(tmp_path) -> None:
    predictions.save(cases(), tmp_path / "mine.parquet")
    where, out = str(tmp_path / "mine.parquet"), tmp_path / "ev"
    evaluate_run(where, Wanted(replicates=100, pictures=False), out=out, talk=QUIET)
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(DiskError, match="holds something else"):
        evaluate_run(where, Wanted(replicates=100, pictures=False), out=out, talk=QUIET)
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DiskError, match="which is a link"):
        evaluate_run(where, Wanted(), out=tmp_path / "link", talk=QUIET)


def test_the_output_is_kept_when_the_store_refuses(trained, store_uri, tmp_path) -> None:
    done, _, _ = trained
    with pytest.raises(TrackingError):
        evaluate_run(
            str(done.run_dir),
            Wanted(pictures=False, replicates=100),
            tracking_uri=store_uri,
            out=tmp_path / "ev",
            talk=QUIET,
        )
    assert (tmp_path / "ev/evaluation.json").is_file()


def test_validation_is_judged_beside_the_test_and_not_over_it(trained) -> None:
    done, store, _ = trained
    client = MlflowClient(store)
    before = artifacts(store, done.run_id, "evaluation")
    points = client.get_metric_history(done.run_id, "val/auc")
    evaluate_run(str(done.run_dir), Wanted(split="val", pictures=False, replicates=100), talk=QUIET)
    assert artifacts(store, done.run_id, "evaluation") == before
    assert "evaluation_val/metrics.csv" in artifacts(store, done.run_id, "evaluation_val")
    assert len(client.get_metric_history(done.run_id, "val/auc")) == len(points)


def test_a_picture_that_fails_costs_no_training(store_uri, tmp_path, monkeypatch, capsys) -> None:
    def fail(*_, **__):
        raise ValueError("no ink")

    monkeypatch.setattr("histo_mlflow.jobs.illustrate.draw_images", fail)
    wanted = recipe.load(
        "demo", {"epochs": "1", "demo_images": "96", "image_px": "32", "model": "test_resnet"}
    )
    done = train(wanted, tracking_uri=store_uri, runs_dir=tmp_path, doctor_level=None, talk=Talk())
    assert MlflowClient(store_uri).get_run(done.run_id).info.status == "FINISHED"
    assert not (done.run_dir / "evaluation").exists()
    said = capsys.readouterr().err
    assert "no pictures (ValueError: no ink)" in said
    assert f"histo-mlflow evaluate {done.run_dir}" in said


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ("nothing.parquet", "no such file"),
        ("no/such/folder", "which is not there"),
        ("a" * 300, "which is not there"),
        ("", "which is not there"),
    ],
)
def test_what_is_no_run_is_one_sentence(reference, told, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=told):
        evaluate_run(reference, Wanted(), talk=QUIET)
    assert list(tmp_path.iterdir()) == []


def test_calibration_of_many_classes_has_thresholds_by_class() -> None:
    from histo_mlflow.evaluation.evaluate import evaluate

    found = evaluate(cases(), replicates=20)
    told = calibration_of(found)
    assert set(told["thresholds"]) == {"youden", "sensitivity", "cost"}
    assert set(told["thresholds"]["youden"]) == {"bcc", "mel", "nv"}
    assert 0 < told["thresholds"]["youden"]["mel"]["value"] < 1


def test_what_is_undefined_is_no_metric_of_the_run() -> None:
    from histo_mlflow.evaluation.evaluate import evaluate

    rows = cases(classes=("a", "b"))
    found = evaluate(rows[(rows["split"] == "val") | (rows["label"] == "a")], replicates=20)
    assert "test/auc" not in run_metrics(found)
    assert "test/accuracy" in run_metrics(found)
