"""`python -m histo_mlflow.cli` is `histo-mlflow`."""

from histo_mlflow.cli import main

main()
