"""The demo: synthetic, deterministic, atomic, and not separable by colour alone."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from histo_mlflow.data.sources import demo, listing, to_manifest
from histo_mlflow.data.sources._listing import SourceOptions
from histo_mlflow.errors import DataError


def digest(folder: Path) -> str:
    parts = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            parts.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return parts.hexdigest()


def test_the_same_seed_draws_the_same_bytes_and_another_does_not(tmp_path: Path) -> None:
    first = demo.generate(tmp_path / "a", 48, 3)
    again = demo.generate(tmp_path / "b", 48, 3)
    other = demo.generate(tmp_path / "c", 48, 4)

    assert digest(first) == digest(again)
    assert digest(first) != digest(other)


def test_images_are_drawn_once(tmp_path: Path) -> None:
    folder = demo.generate(tmp_path, 48, 0)
    before = (folder / demo.ABOUT).stat().st_mtime_ns

    assert demo.generate(tmp_path, 48, 0) == folder
    assert (folder / demo.ABOUT).stat().st_mtime_ns == before
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_a_generated_folder_can_be_listed_itself(tmp_path: Path) -> None:
    folder = demo.generate(tmp_path, 48, 5)

    found = listing("demo", folder)  # the default of 1,200 images plays no part

    assert found.root == folder
    assert len(found.rows) == found.expected.images == 48


def test_an_altered_description_is_refused(tmp_path: Path) -> None:
    folder = demo.generate(tmp_path, 48, 0)
    (folder / demo.ABOUT).write_text("{}")

    with pytest.raises(DataError, match="was altered"):
        listing("demo", folder)


def test_a_lost_table_says_how_to_mend_it(tmp_path: Path) -> None:
    (demo.generate(tmp_path, 48, 0) / demo.TABLE).unlink()

    with pytest.raises(DataError, match="delete that folder"):
        listing("demo", tmp_path, SourceOptions(demo_images=48))


def test_a_failure_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "draw_patch", break_down)

    with pytest.raises(KeyboardInterrupt):
        demo.generate(tmp_path, 48, 0)
    assert list(tmp_path.iterdir()) == []


def test_when_another_process_was_faster_its_images_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = demo._write

    def slow_write(folder: Path, images: int, seed: int) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(demo, "_write", write)
            demo.generate(tmp_path, images, seed)
        write(folder, images, seed)

    monkeypatch.setattr(demo, "_write", slow_write)

    folder = demo.generate(tmp_path, 48, 0)

    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    assert (folder / demo.ABOUT).is_file()


@pytest.mark.parametrize(("images", "seed"), [(47, 0), (0, 0), (48, -1)])
def test_impossible_numbers_are_refused(images: int, seed: int, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"got {images} and {seed}"):
        demo.generate(tmp_path, images, seed)


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")

    with pytest.raises(DataError, match="taken"):
        demo.generate(tmp_path / "taken", 48, 0)


def test_it_is_called_synthetic_wherever_it_shows(tmp_path: Path) -> None:
    manifest = to_manifest(listing("demo", tmp_path, SourceOptions(demo_images=50)))

    assert manifest.label_source == "synthetic"
    assert manifest.root.name.startswith("synthetic_")
    assert manifest.table["id"].str.startswith("synthetic_").all()
    assert set(manifest.table["origin"]) == {"synthetic"}
    assert "Not tissue" in json.loads((manifest.root / demo.ABOUT).read_text())["what"]
    assert len(manifest.table) == 50


def test_each_slide_holds_both_classes(tmp_path: Path) -> None:
    table = to_manifest(listing("demo", tmp_path, SourceOptions(demo_images=100))).table

    assert (table.groupby("group")["label"].nunique() == 2).all()


def test_patches_are_rgb_of_96_px_and_never_constant(tmp_path: Path) -> None:
    manifest = to_manifest(listing("demo", tmp_path, SourceOptions(demo_images=48)))

    for path in manifest.table["path"]:
        with Image.open(manifest.root / path) as image:
            assert (image.size, image.mode) == ((96, 96), "RGB")
            assert np.asarray(image).std() > 5


def test_the_mean_colour_does_not_tell_the_classes_apart(tmp_path: Path) -> None:
    manifest = to_manifest(listing("demo", tmp_path, SourceOptions(demo_images=240)))
    colours = np.stack(
        [
            np.asarray(Image.open(manifest.root / path), dtype=np.float64).mean(axis=(0, 1))
            for path in manifest.table["path"]
        ]
    )
    model = make_pipeline(StandardScaler(), LogisticRegression())

    chances = cross_val_predict(
        model,
        colours,
        manifest.targets(),
        groups=manifest.table["group"],
        cv=GroupKFold(5),
        method="predict_proba",
    )

    assert roc_auc_score(manifest.targets(), chances[:, 1]) < 0.7
