"""What a run needs is proved before there is a run, the cheapest first."""

import pytest

from histo_mlflow.errors import HistoMlflowError
from histo_mlflow.jobs.ready import get_ready
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.recipe import load


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("model", "resnet19", "Neither torchvision nor timm has a classifier called 'resnet19'"),
        ("weights", "no.safetensors", "there is no file 'no.safetensors'"),
        ("policy", "flipz", "flips"),
        ("device", "cuda:7", "device=cuda:7 was asked for"),
    ],
)
def test_wrong_names_are_refused_before_the_data_are_read(field, value, said, tmp_path):
    """The data folder is not there either, and is not what is told."""
    recipe = load("ham10000", {"data_dir": str(tmp_path / "nowhere"), field: value})
    with pytest.raises(HistoMlflowError, match=said):
        get_ready(recipe, talk=Talk(quiet=True))
