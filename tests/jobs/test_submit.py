"""From a competition's folder to a checked file, noted at the run of its model, sent by a fake."""

import csv
import hashlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from click.testing import CliRunner, Result
from mlflow import MlflowClient

import model_folders
from histo_mlflow.cli import cli
from histo_mlflow.data.findings import Level
from histo_mlflow.errors import DataError, HistoMlflowError, ModelFolderError, SubmissionError
from histo_mlflow.inference.kaggle import faults, read_sample
from histo_mlflow.jobs.submit import Order, Wanted, check, ordered, submit
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.registry.predictor import Predictor
from histo_mlflow.vision.decode import DecodeRule, decode

IDS = tuple(f"{k:08x}" for k in (5, 3, 9, 1, 7))
QUIET = Talk(quiet=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folders.write(tmp_path_factory.mktemp("models") / "model")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "pcam"
    (folder / "test").mkdir(parents=True)
    for k, name in enumerate([*IDS, "f" * 8]):
        (folder / "test" / f"{name}.tif").write_bytes(model_folders.image(k))
    sample = "id,label\n" + "".join(f"{name},0\n" for name in IDS)
    (folder / "sample_submission.csv").write_text(sample)
    return folder


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_the_file_holds_the_probabilities_of_the_images_in_the_order_of_the_sample(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out" / "submission.csv"
    done = submit(str(model), data, out, Wanted(log=False), talk=Talk())
    header, *found = rows(out)
    assert header == ["id", "label"]
    assert tuple(row[0] for row in found) == IDS
    images = [(data / "test" / f"{name}.tif").read_bytes() for name in IDS]
    expected = Predictor(model).predict_bytes(images)[:, 1]
    np.testing.assert_allclose([float(row[1]) for row in found], expected, atol=1e-6)
    assert done.sha256 == hashlib.sha256(out.read_bytes()).hexdigest()
    assert (done.positive, done.unused, done.sent, done.run_id) == ("tumour", 1, None, None)
    assert faults(done.findings) == {}
    talk = capsys.readouterr().err
    assert "WARN     1 image not in the sample, left out: ffffffff.tif" in talk
    assert f"{out}: 5 rows, p(tumour)" in talk


def test_the_other_class_is_the_other_probability(model: Path, data: Path, tmp_path: Path) -> None:
    p = []
    for name in ("normal", "tumour"):
        submit(str(model), data, tmp_path / name, Wanted(name, log=False), talk=QUIET)
        p.append([float(row[1]) for row in rows(tmp_path / name)[1:]])
    np.testing.assert_allclose(np.sum(p, axis=0), 1, atol=1e-9)


@pytest.mark.parametrize("engine", ["torch", pytest.param("onnx", marks=pytest.mark.slow)])
def test_eight_views_are_one_probability_of_their_mean_logits(
    model: Path, data: Path, tmp_path: Path, engine: Literal["torch", "onnx"]
) -> None:
    """By either engine; the reference turns the pixels itself and asks the plain model."""
    if engine == "onnx":
        pytest.importorskip("onnxruntime")
    plain, views = tmp_path / "plain.csv", tmp_path / "views.csv"
    submit(str(model), data, plain, Wanted(engine=engine, log=False), talk=QUIET)
    submit(str(model), data, views, Wanted(tta=True, engine=engine, log=False), talk=QUIET)
    images = np.stack(
        [decode((data / "test" / f"{name}.tif").read_bytes(), DecodeRule(32)) for name in IDS]
    )
    predictor = Predictor(model)
    turned = [np.rot90(seen, k, (1, 2)) for seen in (images, images[:, :, ::-1]) for k in range(4)]
    logits = [predictor.logits_pixels(np.ascontiguousarray(one)) for one in turned]
    mean = np.mean(logits, axis=0)
    expected = 1 / (1 + np.exp(mean[:, 0] - mean[:, 1]))
    found = [float(row[1]) for row in rows(views)[1:]]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert rows(plain) != rows(views)


def test_images_beside_the_sample_do_as_well(model: Path, data: Path, tmp_path: Path) -> None:
    for path in (data / "test").iterdir():
        path.rename(data / path.name)
    (data / "test").rmdir()
    done = submit(str(model), data, tmp_path / "s.csv", Wanted(log=False), talk=QUIET)
    assert done.unused == 1


def refused(match: str, model: Path, data: Path, **more: object) -> None:
    out = data.parent / "s.csv"
    with pytest.raises(HistoMlflowError, match=match):
        submit(str(model), data, out, Wanted(log=False), talk=QUIET, **more)  # type: ignore[arg-type]
    assert not out.exists()


def test_missing_images_are_named(model: Path, data: Path) -> None:
    for name in IDS[1:3]:
        (data / "test" / f"{name}.tif").unlink()
    refused(rf"2 images of the 5 .* are missing in .*test: {IDS[1]}, {IDS[2]}; fetch", model, data)


def test_unreadable_images_are_all_listed_with_reasons(model: Path, data: Path) -> None:
    (data / "test" / f"{IDS[0]}.tif").write_bytes(b"")
    whole = (data / "test" / f"{IDS[4]}.tif").read_bytes()
    (data / "test" / f"{IDS[4]}.tif").write_bytes(whole[:-2000])
    refused(
        rf"2 images of 5 .* cannot be predicted.*: {IDS[0]}: empty file; {IDS[4]}: truncated",
        model,
        data,
    )


def test_without_a_sample_the_place_it_is_looked_for_is_named(model: Path, data: Path) -> None:
    (data / "sample_submission.csv").unlink()
    refused("Expected a CSV file at .*sample_submission.csv, got nothing there", model, data)


def test_an_altered_model_is_refused(model: Path, data: Path, tmp_path: Path) -> None:
    altered = Path(shutil.copytree(model, tmp_path / "altered"))
    (altered / "MODEL_CARD.md").write_text("# Better")
    refused("MODEL_CARD.md was altered", altered, data)
    refused("Expected a model", tmp_path / "none", data)
    with pytest.raises(ModelFolderError):
        submit(str(altered), data, tmp_path / "s.csv", talk=QUIET)


def test_a_class_that_the_model_does_not_have_is_refused_before_it_predicts(
    model: Path, data: Path
) -> None:
    (data / "test" / f"{IDS[0]}.tif").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"a class of the model \(normal, tumour\), got 'cancer'"):
        submit(str(model), data, data / "s.csv", Wanted("cancer"), talk=QUIET)


YES = "print('Successfully submitted to Cancer')"


@pytest.fixture
def kaggle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `kaggle` that takes everything and notes what it got."""
    path = tmp_path / "bin" / "kaggle"
    path.parent.mkdir()
    note = "open(__file__ + '.told', 'w').write('\\n'.join(sys.argv[1:]))"
    path.write_text(f"#!{sys.executable}\nimport sys\n{note}\n{YES}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")
    return path


def told(kaggle: Path) -> list[str]:
    return kaggle.with_name("kaggle.told").read_text().splitlines()


def test_a_submission_is_sent_once_it_has_passed(
    model: Path, data: Path, tmp_path: Path, kaggle: Path
) -> None:
    out = tmp_path / "s.csv"
    done = submit(str(model), data, out, Wanted(log=False), order=Order("pcam-1"), talk=QUIET)
    assert done.sent is not None
    assert done.sent.said == "Successfully submitted to Cancer"
    assert done.digest is not None
    short = done.digest[:12]
    assert told(kaggle)[2:] == ["-c", "pcam-1", "-f", str(out), f"--message={short} {short}"]


def test_what_cannot_be_sent_is_told_before_anything_is_predicted(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SubmissionError, match="pip install"):
        submit("nowhere", data, tmp_path / "s.csv", order=Order("pcam"), talk=QUIET)


def test_a_file_that_somebody_else_made_is_sent_only_without_a_fault(
    data: Path, tmp_path: Path, kaggle: Path
) -> None:
    path = tmp_path / "theirs.csv"
    good = "id,label\n" + "".join(f"{name},0.{k}\n" for k, name in enumerate(IDS, 1))
    path.write_text(good.replace(f"{IDS[2]},", f"{IDS[2]}.tif,"))
    with pytest.raises(SubmissionError, match=r"is not sent[\s\S]*suffix-in-ids"):
        check(path, data_dir=data, order=Order("pcam", "theirs"), talk=QUIET)
    assert not kaggle.with_name("kaggle.told").exists()
    path.write_text(good)
    assert check(path, data_dir=data, order=Order("pcam", "theirs"), talk=QUIET).sent is not None
    assert told(kaggle)[-1] == "--message=theirs"


def test_sending_needs_a_competition_and_a_competition_needs_sending() -> None:
    assert ordered(False, None, None) is None
    assert ordered(True, "pcam", None) == Order("pcam", None)
    for wrong in ((True, None, "m"), (False, "pcam", None), (False, None, "m")):
        with pytest.raises(SubmissionError, match="--send"):
            ordered(*wrong)


@pytest.fixture(scope="module")
def at_a_store(
    model: Path, fresh_database: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, str, str]:
    """A store with the model: its address, the run, the logged model."""
    folder = tmp_path_factory.mktemp("store")
    uri = f"sqlite:///{shutil.copy(fresh_database, folder / 'mlflow.db')}"
    return (uri, *model_folders.logged(model, uri))


def test_the_submission_is_noted_at_the_run_of_its_model(
    at_a_store: tuple[str, str, str], data: Path, tmp_path: Path, kaggle: Path
) -> None:
    uri, run_id, model_id = at_a_store
    out = tmp_path / "submission.csv"
    order = Order("pcam", "first")
    done = submit(
        f"models:/{model_id}", data, out, Wanted(), order=order, tracking_uri=uri, talk=QUIET
    )
    assert (done.run_id, done.model) == (run_id, model_id)
    client = MlflowClient(tracking_uri=uri)
    run = client.get_run(run_id)
    place = f"submissions/{done.sha256[:12]}"
    assert run.info.status == "FINISHED"
    assert run.data.tags["histo.submission"] == f"{place}/submission.csv"
    assert run.data.tags["histo.submission.sent"] == "pcam: first"
    got = Path(client.download_artifacts(run_id, place, str(tmp_path)))
    assert (got / "submission.csv").read_bytes() == out.read_bytes()
    record = json.loads((got / "submission.json").read_text())
    assert record["sha256"] == done.sha256
    assert record["digest"] == done.digest
    assert record["sent"]["said"] == "Successfully submitted to Cancer"
    assert str(tmp_path) not in json.dumps(record)


def test_a_store_that_cannot_be_reached_costs_a_warning(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = f"sqlite:///{tmp_path / 'none.db'}"
    out = tmp_path / "s.csv"
    done = submit(str(model), data, out, tracking_uri=nowhere, talk=Talk())
    assert done.run_id is None
    assert out.exists()
    warning = f"WARN     the submission is not noted at run {'0' * 32}: there is no tracking store"
    assert warning in capsys.readouterr().err


def test_the_sample_beside_a_file_is_found_and_not_taken_for_it(data: Path) -> None:
    path = data / "mine.csv"
    path.write_text("id,label\n" + "".join(f"{name},0.{k}\n" for k, name in enumerate(IDS[:3], 1)))
    assert faults(check(path, talk=QUIET).findings) == {"missing-ids": 2}
    sample = data / "sample_submission.csv"
    assert set(faults(check(sample, talk=QUIET).findings)) == {"no-sample", "constant"}


def command(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["submit", *map(str, arguments)])


def test_the_command_writes_and_says_what_the_check_found(
    model: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "s.csv"
    asked = ["--model", model, "--data-dir", data, "--out", out, "--no-log"]
    done = command(*asked)
    assert done.exit_code == 0, done.exception
    assert done.stdout.startswith("PASS  submission  5 rows, the ids of the sample")
    as_json = json.loads(command(*asked, "--json", "--quiet").stdout)
    assert (as_json["positive"], as_json["findings"]["worst"]) == ("tumour", "PASS")


def test_the_command_names_every_fault_at_once_and_exits_with_1(data: Path) -> None:
    path = data / "theirs.csv"
    path.write_bytes(b"\xef\xbb\xbfid,label\r\n" + f"{IDS[0]}.tif,nan\r\n".encode())
    done = command("--check", path)
    assert done.exit_code == 1
    for name in ("byte-order-mark", "line-ends", "suffix-in-ids", "empty-values", "missing-ids"):
        assert name in done.stdout
    assert "line 2: nan" in done.stdout


def test_a_warning_exits_with_1_where_strictness_is_asked_for(data: Path) -> None:
    path = data / "theirs.csv"
    path.write_text("id,label\n" + "".join(f"{name},{k % 2}\n" for k, name in enumerate(IDS)))
    assert command("--check", path).exit_code == 0
    done = command("--check", path, "--strict")
    assert (done.exit_code, "hard-labels" in done.stdout) == (1, True)


def test_the_command_needs_a_model_and_data_or_a_file(model: Path) -> None:
    for arguments in ([], ["--model", model], ["--data-dir", model]):
        done = command(*arguments)
        assert done.exit_code == 2
        assert "give --model and --data-dir, or --check FILE" in done.output


def test_the_real_test_images_of_pcam(model: Path, realdata: Path, tmp_path: Path) -> None:
    """29 rows are asked for, 28 or 29 images are there: whichever it is, it is told."""
    folder = realdata / "pcam_kaggle"
    out = tmp_path / "submission.csv"
    done = submit(str(model), folder, out, Wanted(log=False), talk=QUIET)
    sample = read_sample(folder / "sample_submission.csv")
    assert tuple(row[0] for row in rows(out)[1:]) == sample.ids
    assert len(sample.ids) == 29
    assert {one.level for one in done.findings} == {Level.PASS}
