"""Batches are one gather; the order is a pure function; torch's DataLoader works too."""

import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from histo_mlflow.data.batches import Batch, PackedDataset, as_is, batches, epoch_order
from histo_mlflow.data.pack import Item, pack_images
from histo_mlflow.errors import DataError
from histo_mlflow.vision.decode import DecodeRule
from layouts import picture

N = 20


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    items = [Item(str(i), folder / f"{i}.png") for i in range(N)]
    for i, item in enumerate(items):
        picture(i, i % 3, (12, 12)).save(item.path)
    return pack_images(items, [item.id for item in items], DecodeRule(12), folder, progress=False)


@pytest.fixture
def dataset(pack):
    """Every other row of the pack, backwards."""
    rows = np.arange(N - 1, 0, -2)
    return PackedDataset(pack.path, rows, rows % 3)


def test_a_sample_is_its_row_of_the_pack_and_its_label(dataset, pack):
    image, label = dataset[2]

    assert len(dataset) == 10
    assert image.dtype == torch.uint8
    assert (image.numpy() == pack.pixels()[15]).all()
    assert label == 0


def test_a_batch_holds_the_samples_asked_for(dataset, pack):
    batch = dataset.__getitems__([3, 0, 3])

    assert isinstance(batch, Batch)
    assert batch.images.shape == (3, 3, 12, 12)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert (batch.images.permute(0, 2, 3, 1).numpy() == pack.pixels()[[13, 19, 13]]).all()
    assert batch.labels.tolist() == [1, 1, 1]
    assert batch.labels.dtype == torch.int64
    assert batch.index.tolist() == batch.positions.tolist() == [3, 0, 3]
    assert len(batch) == 3


def test_changing_a_batch_leaves_the_pack_alone(dataset, pack):
    before = np.array(pack.pixels())
    dataset.__getitems__([0]).images.zero_()
    dataset[0][0].zero_()

    assert (pack.pixels() == before).all()


def test_a_pickled_data_set_opens_its_own_map(dataset):
    batch = dataset.__getitems__([1])
    pickled = pickle.dumps(dataset)

    assert len(pickled) < 2000
    assert torch.equal(pickle.loads(pickled).__getitems__([1]).images, batch.images)


def test_a_spawned_worker_gives_the_same_batches(dataset):
    loader = DataLoader(
        dataset, batch_size=4, num_workers=1, multiprocessing_context="spawn", collate_fn=as_is
    )
    ours = list(batches(dataset, np.arange(10), 4, drop_last=False))

    for theirs, batch in zip(loader, ours, strict=True):
        assert torch.equal(theirs.images, batch.images)
        assert torch.equal(theirs.labels, batch.labels)
        assert theirs.index.tolist() == batch.index.tolist()


def test_labels_and_rows_that_do_not_fit_are_refused(pack, tmp_path):
    with pytest.raises(DataError, match="one label for each row"):
        PackedDataset(pack.path, np.arange(3), np.arange(2))
    with pytest.raises(DataError, match=r"rows 0 to 19 were expected, got 0 to 20"):
        PackedDataset(pack.path, np.array([0, 20]), np.zeros(2, np.int64))[0]
    with pytest.raises(DataError, match="no whole pack"):
        PackedDataset(tmp_path, np.arange(3), np.arange(3))[0]


@pytest.mark.parametrize(("drop_last", "sizes"), [(False, [4, 4, 2]), (True, [4, 4])])
def test_batches_go_through_the_order(dataset, drop_last, sizes):
    order = epoch_order(10, 1, 0, sampling="shuffled")
    made = list(batches(dataset, order, 4, drop_last=drop_last))

    assert [len(batch) for batch in made] == sizes
    assert np.concatenate([batch.index for batch in made]).tolist() == order[: sum(sizes)].tolist()
    assert np.concatenate([batch.positions for batch in made]).tolist() == list(range(sum(sizes)))
    for batch in made:
        assert torch.equal(batch.images, dataset.__getitems__(batch.index.tolist()).images)
        assert batch.labels.tolist() == dataset.labels[batch.index].tolist()


def test_starting_later_gives_the_rest_unchanged(dataset):
    order = epoch_order(10, 1, 0, sampling="shuffled")
    whole = list(batches(dataset, order, 3, drop_last=False))
    rest = list(batches(dataset, order, 3, drop_last=False, start=2))

    assert len(rest) == 2
    for ours, theirs in zip(rest, whole[2:], strict=True):
        assert torch.equal(ours.images, theirs.images)
        assert ours.positions.tolist() == theirs.positions.tolist()


def test_nothing_is_pinned_without_cuda(dataset, monkeypatch):
    def refuse(self):
        raise AssertionError("page-locked memory without CUDA")

    monkeypatch.setattr(torch.Tensor, "pin_memory", refuse)
    for device in ("cpu", "meta"):
        assert (
            next(batches(dataset, np.arange(10), 4, drop_last=True, device=device)).images.shape[0]
            == 4
        )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_batches_for_cuda_are_the_same(dataset):
    for ours, theirs in zip(
        batches(dataset, np.arange(10), 4, drop_last=False, device="cuda"),
        batches(dataset, np.arange(10), 4, drop_last=False),
        strict=True,
    ):
        assert ours.images.is_cuda
        assert torch.equal(ours.images.cpu(), theirs.images)
        assert torch.equal(ours.labels.cpu(), theirs.labels)


def test_an_empty_order_gives_no_batches(dataset):
    assert list(batches(dataset, np.arange(0), 4, drop_last=False)) == []


@pytest.mark.parametrize(("batch_size", "start"), [(0, 0), (4, -1)])
def test_a_batch_size_or_start_without_meaning_is_refused(dataset, batch_size, start):
    with pytest.raises(ValueError, match="were expected"):
        next(batches(dataset, np.arange(4), batch_size, drop_last=False, start=start))


def test_shuffled_takes_each_once_and_differs_between_epochs():
    orders = [epoch_order(100, 1, epoch, sampling="shuffled") for epoch in (0, 1, 0)]

    assert all(sorted(order.tolist()) == list(range(100)) for order in orders)
    assert (orders[0] == orders[2]).all()
    assert (orders[0] != orders[1]).any()
    assert epoch_order(3, 1, 0, sampling="sequential").tolist() == [0, 1, 2]


def test_balanced_draws_classes_equally_and_their_samples_too():
    labels = np.repeat([0, 2, 5], [9000, 900, 100])  # classes 1, 3 and 4 are not there
    order = epoch_order(10_000, 1, 0, sampling="balanced", labels=labels)
    counts = np.bincount(labels[order], minlength=6)

    assert order.shape == (10_000,)
    assert counts[[1, 3, 4]].tolist() == [0, 0, 0]
    assert np.abs(counts[[0, 2, 5]] - 10_000 / 3).max() < 200
    assert np.unique(order[labels[order] == 5]).size == 100
    assert (order == epoch_order(10_000, 1, 0, sampling="balanced", labels=labels)).all()


@pytest.mark.parametrize(
    ("sampling", "labels", "message"),
    [
        ("balanced", None, "label for each of 3 samples, got none"),
        ("balanced", np.zeros(2, np.int64), r"got shape \(2,\)"),
        ("random", None, "shuffled, balanced or sequential, got 'random'"),
    ],
)
def test_an_order_that_cannot_be_made_is_refused(sampling, labels, message):
    with pytest.raises(DataError, match=message):
        epoch_order(3, 0, 0, sampling=sampling, labels=labels)
