"""Wrong input: one plain sentence on stderr, exit code 1, and no run."""

import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

import layouts
from histo_mlflow.cli import main

HISTO = Path(sys.executable).parent / "histo-mlflow"

MISTAKES = {
    "unknown option": (["--lrr", "1"], "No such option '--lrr'"),
    "unknown dataset": (["--dataset", "ham1000"], "did you mean ham10000?"),
    "recipe file that is not there": (["--dataset", "mine.yaml"], "no recipe file at mine.yaml"),
    "text for a number": (["--lr", "fast"], "lr should be a valid number, got 'fast'"),
    "negative rate": (["--lr", "-1"], "lr should be greater than 0"),
    "no epochs": (["--epochs", "0"], "epochs should be greater than or equal to 1"),
    "fraction over one": (["--val_fraction", "1.5"], "val_fraction should be less than 1"),
    "splits that leave nothing": (
        ["--val_fraction", "0.5", "--test_fraction", "0.5"],
        "leave nothing to train on",
    ),
    "fold without folds": (["--fold", "2"], "fold=2 needs folds"),
    "unknown policy": (["--policy", "flipz"], "flips"),
    "crop without its size": (["--fit", "crop"], "crop_px belongs to fit=crop"),
    "unknown model": (["--model", "resnet19"], "resnet1"),
    "unknown stage": (["--group_lrs", "layer9=1e-3"], "layer4"),
    "weights that are not there": (["--weights", "no.safetensors"], "no.safetensors"),
    "a sigmoid for seven classes": (
        ["--dataset", "HAM", "--output", "sigmoid"],
        "sigmoid",
    ),
    "data that is not there": (
        ["--dataset", "ham10000", "--data_dir", "nowhere"],
        "HAM10000_metadata.csv",
    ),
    "a device that is not there": (["--device", "cuda:7"], "cuda"),
    "a device that does not exist": (["--device", "gpu"], "should be auto, cpu, mps, cuda"),
    "a store that is a folder": (["--tracking_uri", "./mlruns"], "sqlite:///mlflow.db"),
    "a server that is not there": (
        ["--tracking_uri", "http://127.0.0.1:9"],
        "the connection was refused",
    ),
    "monitoring the test split": (["--monitor", "test/auc"], "monitor should be 'val/auc'"),
    "stage rates that cannot be read": (["--group_lrs", "head"], "should be written stage=rate"),
    "a table column that is not there": (
        ["--dataset", "SPIDER", "--class_column", "tissue"],
        "tissue",
    ),
    "an empty id, as of an unset variable": (["--resume", ""], "an unset variable"),
    "an empty folder's name": (["--run_dir", ""], "an unset variable"),
    "an id for a number": (["--seed", "one"], "seed should be a valid integer"),
}


@pytest.fixture(scope="module")
def data_sets(tmp_path_factory):
    """A tiny HAM10000 and a tiny SPIDER-Skin."""
    folder = tmp_path_factory.mktemp("mistakes")
    layouts.build_ham10000(folder / "ham")
    layouts.build_spider(folder / "spider")
    return folder


@pytest.fixture
def say(monkeypatch, capsys, store_uri, tmp_path):
    """Run the command line in this process, in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store_uri)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["histo-mlflow", *words])
        with pytest.raises(SystemExit) as left:
            main()
        return (left.value.code, *capsys.readouterr())

    return run


def arguments(words, data_sets):
    known = {
        "HAM": ["ham10000", "--data_dir", str(data_sets / "ham"), "--weights", "none"],
        "SPIDER": ["spider_skin", "--data_dir", str(data_sets / "spider"), "--weights", "none"],
    }
    given = [part for word in words for part in known.get(word, [word])]
    if "--weights" not in given:
        given += ["--weights", "none"]
    return given if "--dataset" in given else [*given, "--demo_images", "120"]


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_plain_sentence_and_makes_no_run(
    name, say, data_sets, tmp_path, store_uri
):
    words, said = MISTAKES[name]

    code, out, err = say("train", *arguments(words, data_sets))

    assert code == 1, err
    assert said in err
    assert "Traceback" not in err
    assert err.count("histo-mlflow: ") == 1
    assert out == ""
    assert not (tmp_path / "runs").exists()
    client = MlflowClient(store_uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    assert client.search_runs(experiments) == []


def test_a_wrong_command_is_one_plain_sentence():
    """The real console command, as its own process."""
    done = subprocess.run([HISTO, "trian"], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "histo-mlflow: No such command 'trian'. Did you mean 'train'?\n"


def test_missing_weights_say_how_to_get_them_and_are_never_replaced_by_random_ones(
    say, monkeypatch, tmp_path
):
    """Without a network ImageNet weights cannot be had."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    code, _, err = say("train", "--weights", "imagenet", "--demo_images", "120")

    assert code == 1, err
    assert "weights=none" in err
    assert not (tmp_path / "runs").exists()
