"""Embeddings keep neighbourhoods, say what they cannot do, and their figures hide nothing."""

import matplotlib.text
import numpy as np
import pytest
from matplotlib.collections import PathCollection
from sklearn.neighbors import NearestNeighbors

from histo_mlflow.errors import DataError
from histo_mlflow.evaluation.embedding import (
    MOST_CLASSES,
    embedding_figure,
    neighbour_agreement,
    tsne,
)

CLASSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc", "other", "more")


def clusters(n=60, d=80, k=3, apart=12.0):
    """Well separated clouds in d dimensions."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % k
    centres = rng.normal(0, apart / np.sqrt(d), (k, d))
    return (centres[labels] + rng.normal(0, 0.3, (n, d))).astype(np.float32), labels


def drawn(fig):
    (axes,) = fig.axes
    return {c.get_label().split("\n")[0]: c for c in axes.collections if len(c.get_offsets())}


def texts(fig):
    return [t.get_text() for t in fig.findobj(matplotlib.text.Text) if t.get_text()]


def test_clusters_stay_apart_and_the_layout_is_repeatable():
    features, labels = clusters()
    points = tsne(features, seed=3)

    assert points.shape == (60, 2)
    near = NearestNeighbors(n_neighbors=1).fit(points).kneighbors(return_distance=False)[:, 0]
    assert (labels[near] == labels).all()
    np.testing.assert_array_equal(points, tsne(features, seed=3))


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_scale_of_features_does_not_matter(scale):
    features, labels = clusters(30)
    points = tsne(features.astype(np.float64) * scale + 7 * scale, seed=0)

    near = NearestNeighbors(n_neighbors=1).fit(points).kneighbors(return_distance=False)[:, 0]
    assert (labels[near] == labels).all()


@pytest.mark.parametrize(("n", "d"), [(5, 80), (6, 1), (12, 2), (120, 3)])
def test_few_images_and_few_features_are_laid_out(n, d):
    points = tsne(np.random.default_rng(1).normal(size=(n, d)), seed=0)

    assert points.shape == (n, 2)
    assert np.isfinite(points).all()


@pytest.mark.parametrize(
    ("features", "said"),
    [
        (np.ones((4, 3)) * np.arange(4)[:, None], r"at least 5 images for a t-SNE, got shape \(4,"),
        (np.zeros((9, 3)), "got 9 equal rows"),
        (np.full((9, 3), np.nan), "got NaN or infinity for 9 images"),
        (np.zeros(9), r"got shape \(9,\)"),
    ],
    ids=["four rows", "equal rows", "NaN", "no table"],
)
def test_what_cannot_be_laid_out_is_a_sentence(features, said):
    with pytest.raises(DataError, match=said):
        tsne(features, seed=0)


def test_agreement_is_that_of_the_nearest_image_of_another_group():
    """Against brute force; a twin of the same group never counts."""
    rng = np.random.default_rng(2)
    half = rng.normal(size=(40, 6))
    features = np.concatenate([half, half + 1e-3])
    groups = [f"g{i % 40}" for i in range(80)]
    labels = [CLASSES[k] for k in rng.integers(0, 3, 40)] * 2
    apart = np.linalg.norm(features[:, None] - features[None], axis=2)
    apart[np.array(groups)[:, None] == np.array(groups)[None]] = np.inf
    same = np.array(labels) == np.array(labels)[apart.argmin(axis=1)]

    found = neighbour_agreement(features, labels, groups, CLASSES)

    assert found.share == pytest.approx(same.mean())
    assert found.images == 80
    for k in range(3):
        assert found.by_class[k] == pytest.approx(same[np.array(labels) == CLASSES[k]].mean())
    assert found.by_class[3:] == (None,) * 6
    counts = np.array([labels.count(name) for name in CLASSES])
    assert found.chance == pytest.approx((counts * (counts - 1)).sum() / (80 * 79))


def test_agreement_without_another_group_is_undefined():
    for n in (1, 6):
        found = neighbour_agreement(np.eye(n), ["mel"] * n, ["g"] * n, CLASSES)
        assert (found.share, found.images) == (None, 0)


def test_every_class_is_drawn_with_its_count_and_told_from_the_others():
    labels = [CLASSES[i % 9] for i in range(100)]
    fig = embedding_figure(np.random.default_rng(0).normal(size=(100, 2)), labels, CLASSES)
    clouds = drawn(fig)

    assert set(clouds) == set(CLASSES)
    assert {name: len(cloud.get_offsets()) for name, cloud in clouds.items()} == {
        name: labels.count(name) for name in CLASSES
    }
    looks = {
        (tuple(cloud.get_facecolor()[0]), cloud.get_paths()[0].vertices.tobytes())
        for cloud in clouds.values()
    }
    assert len(looks) == 9
    assert {"t-SNE 1", "t-SNE 2", "100 images", "akiec\nn = 12"} <= set(texts(fig))


def test_a_rare_class_lies_on_top():
    labels = ["nv"] * 90 + ["df"] * 3 + ["mel"] * 30
    clouds = drawn(embedding_figure(np.zeros((123, 2)), labels, CLASSES))

    order = sorted(clouds, key=lambda name: clouds[name].get_zorder())
    assert order == ["nv", "mel", "df"]


def test_wrong_images_are_ringed_and_counted():
    points = np.arange(20.0).reshape(10, 2)
    wrong = np.arange(10) % 4 == 0
    fig = embedding_figure(points, ["mel"] * 10, CLASSES, wrong=wrong, facts="test split")
    ring = drawn(fig)["predicted wrongly"]

    np.testing.assert_array_equal(ring.get_offsets(), points[wrong])
    assert isinstance(ring, PathCollection)
    assert {"predicted wrongly\nn = 3 of 10", "10 images · test split"} <= set(texts(fig))


def test_of_very_many_classes_the_largest_have_colours():
    classes = [f"class {k}" for k in range(10_000)]
    labels = [classes[k] for k in (*range(40), 0, 7)]
    clouds = drawn(embedding_figure(np.zeros((42, 2)), labels, classes))

    assert len(clouds) == MOST_CLASSES + 1
    assert len(clouds["20 other classes"].get_offsets()) == 20
    assert {"class 0", "class 7"} <= set(clouds)


@pytest.mark.parametrize(
    ("points", "labels", "said"),
    [
        (np.zeros((0, 2)), [], "n at least 1"),
        (np.full((2, 2), np.nan), ["mel", "mel"], "Expected finite points"),
        (np.zeros((2, 2)), ["mel"], "Expected a label"),
        (np.zeros((1, 2)), ["melanoma"], "labels among the 9 classes, got melanoma"),
    ],
    ids=["empty", "NaN", "lengths", "unknown label"],
)
def test_points_that_do_not_fit_are_refused(points, labels, said):
    with pytest.raises(DataError, match=said):
        embedding_figure(points, labels, CLASSES)
