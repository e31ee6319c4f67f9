"""One image for a person, and which job the options are about."""

import json

import pytest
from click.testing import CliRunner

from histo_mlflow.cli import cli
from histo_mlflow.errors import DataError
from histo_mlflow.jobs.predict_one import OneAnswer, in_words, predict_one, render, shows_blocks
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.registry.predictor import Predictor
from tiny_models import CLASSES, image_bytes, write_model

QUIET = Talk(quiet=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "model"
    return write_model(folder, abstain={"below": 0.99, "share": 0.1, "rows": 9})


@pytest.fixture
def image(tmp_path):
    (tmp_path / "image.jpg").write_bytes(image_bytes(5, "jpg"))
    return tmp_path / "image.jpg"


def answer(**values) -> OneAnswer:
    made = {
        "id": "image.jpg",
        "cls": "nv",
        "confidence": "very likely",
        "probabilities": {"nv": 0.9375, "mel": 0.0605, "bkl": 0.002},
        "abstain": False,
        "abstain_below": 0.62,
        "calibrated": True,
        "model_version": "histo-ham10000 v3",
        "model_digest": "0123456789abcdef" * 4,
    }
    return OneAnswer(**{**made, **values})


def test_the_answer_is_that_of_the_plain_predictor(model, image):
    found = predict_one(str(image), models=[str(model)], talk=QUIET)

    (expected,) = Predictor(model).predict_bytes([image.read_bytes()])
    assert found.probabilities == pytest.approx(
        dict(zip(CLASSES, expected.tolist(), strict=True)), abs=1e-6
    )
    assert list(found.probabilities.values()) == sorted(found.probabilities.values())[::-1]
    assert found.cls == CLASSES[expected.argmax()]
    assert found.abstain == (expected.max() < 0.99)


def test_it_is_shown_with_bars():
    assert render(answer()).splitlines() == [
        "nv   ████████████████████████████▏    93.8 %  very likely",
        "mel  █▉                                6.0 %",
        "bkl                                    0.2 %",
        "model histo-ham10000 v3  0123456789ab",
    ]


def test_bars_are_ascii_where_blocks_cannot_be_shown():
    lines = render(answer(cls="é"), blocks=False).splitlines()

    assert lines[0] == f"nv   {'#' * 28}     93.8 %  very likely"
    assert all(line.isascii() for line in lines)
    assert render(answer(probabilities={"é": 1.0}), blocks=False).startswith("\\xe9  ####")


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("utf-8", True), ("ascii", False), ("latin-1", False), (None, False), ("nonsense", False)],
)
def test_which_streams_can_show_blocks(encoding, shown):
    assert shows_blocks(encoding) is shown


def test_it_says_what_is_to_be_known():
    text = render(answer(abstain=True, calibrated=False, abstain_below=0.95))

    assert "abstains: below its threshold 0.95" in text
    assert "not calibrated" in text


def test_many_classes_are_counted():
    lines = render(answer(probabilities={f"c{n}": 1 / 50 for n in range(50)})).splitlines()

    assert lines[10] == "and 40 more classes with 80.0 % together"


@pytest.mark.parametrize(
    ("probability", "words"),
    [
        (1.0, "very likely"),
        (0.90, "very likely"),
        (0.8999, "likely"),
        (0.66, "likely"),
        (0.6599, "unsure"),
        (0.2, "unsure"),
    ],
)
def test_the_words_have_exact_bounds(probability, words):
    assert in_words(probability) == words


def test_a_bad_image_is_told_with_its_path(model, tmp_path):
    (tmp_path / "a.png").write_bytes(b"GIF89a")

    with pytest.raises(DataError, match=r"a\.png cannot be used: not a JPEG, PNG or TIFF"):
        predict_one(str(tmp_path / "a.png"), models=[str(model)], talk=QUIET)


@pytest.fixture
def command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        return CliRunner().invoke(
            cli, ["predict", *map(str, arguments)], standalone_mode=False, catch_exceptions=True
        )

    return run


class TestTheCommand:
    def test_one_image_is_shown_and_no_file_is_written(self, command, model, image, tmp_path):
        done = command("--model", model, image)

        assert done.exit_code == 0, done
        assert " %  " in done.stdout
        assert [path.name for path in tmp_path.iterdir()] == ["image.jpg"]

    def test_or_printed_as_json(self, command, model, image):
        found = json.loads(command("--model", model, image, "--json", "--quiet").stdout)

        assert list(found)[:3] == ["id", "class", "confidence"]
        assert set(found["probabilities"]) == set(CLASSES)

    def test_or_written_where_a_file_is_named(self, command, model, image, tmp_path):
        done = command("--model", model, "--input", image, "--out", "p.csv", "--json")

        assert json.loads(done.stdout)["images"] == 1
        assert (tmp_path / "p.csv").is_file()

    def test_a_folder_goes_into_the_default_file(self, command, model, image, tmp_path):
        done = command("--model", model, tmp_path)

        assert done.stdout.splitlines()[0] == "predictions.parquet  1 images"
        assert (tmp_path / "predictions.parquet").is_file()

    def test_shards_are_joined(self, command, model, image, tmp_path):
        (tmp_path / "b.png").write_bytes(image_bytes(6))
        for shard in ("1/2", "2/2"):
            assert command("--model", model, tmp_path, "--shard", shard).exit_code == 0

        assert command("--merge").stdout == "predictions.parquet  2 images of 2 shards\n"

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ((), "got none"),
            (("x", "--merge"), "Expected only --out beside --merge"),
            (("x", "--shard", "3/2"), "Expected a shard"),
            (("x", "--out", "p.txt"), "end in .parquet or .csv"),
            (("nowhere",), "which is not there"),
            (("x", "--model", ""), "is empty"),
            (("-",), "not read from stdin"),
        ],
        ids=["nothing", "merge", "shard", "suffix", "nowhere", "empty-model", "stdin"],
    )
    def test_mistakes_are_told(self, command, tmp_path, arguments, said):
        (tmp_path / "x").mkdir()

        assert said in str(command(*arguments).exception)
