"""What the command line of `tune` says of itself."""

from histo_mlflow.cli.tune import _again


def test_the_command_that_goes_on_is_the_same_without_password_and_process():
    words = ["tune", "--study", "my study.yaml", "--started-by", "77", "--storage"]
    again = _again([*words, "postgresql://me:hunter2@host/optuna"])

    assert again == (
        "histo-mlflow tune --study 'my study.yaml' "
        "--storage 'postgresql://me:[redacted]@host/optuna'"
    )
