"""Whatever ends a training while its evaluation is drawn, nothing is missing in the end."""

import signal

import pytest

SMALL = (
    *("--model", "test_resnet", "--weights", "none", "--demo_images", "96", "--image_px", "32"),
    *("--batch_size", "16", "--epochs", "1", "--precision", "fp32", "--threads", "1"),
    *("--doctor", "off", "--run_dir", "run"),
)


def drawn(folder):
    return {path.name for path in (folder / "evaluation" / "figures").iterdir()}


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("drawing", signal.SIGKILL),
        pytest.param("drawing", signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param("upload:3", signal.SIGKILL, marks=pytest.mark.slow),
    ],
    ids=["killed", "terminated", "killed while they are sent"],
)
def test_the_same_command_draws_what_is_missing_and_trains_nothing(
    moment, number, command, store_uri, found, tmp_path
):
    train = ("train", *SMALL, "--tracking_uri", store_uri)
    ended = command(*train, moment=moment, signals=[(number, 0.0)])
    assert ended.code != 0
    weights = (tmp_path / "run/model/weights.safetensors").read_bytes()
    assert found(store_uri).models == ["READY"]
    if moment == "drawing":
        assert not (tmp_path / "run/evaluation").exists()

    again = command(*train)
    assert again.code == 0, again.said
    assert "epoch" not in again.said.replace("best epoch", "")
    assert (tmp_path / "run/model/weights.safetensors").read_bytes() == weights
    seen = found(store_uri)
    assert seen.ended == ("FINISHED", "finished")
    assert seen.models == ["READY"]
    assert {"roc.png", "embedding.png", "gradcam_hits.png"} <= drawn(tmp_path / "run")
    assert {f"evaluation/figures/{name}" for name in drawn(tmp_path / "run")} <= seen.artifacts
    assert not [path for path in (tmp_path / "run").iterdir() if path.name.startswith(".")]
