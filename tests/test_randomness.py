"""Randomness is a pure function of its address."""

import numpy as np
import pytest

from histo_mlflow import randomness
from histo_mlflow.randomness import Stream, derive, permutation, uniforms

PLACES = np.arange(20_000, dtype=np.int64)


def test_the_mixer_is_splitmix64():
    # The first outputs of SplitMix64 with seed 1234567, from Vigna's reference implementation.
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    states = np.uint64(1234567) + np.arange(1, 4, dtype=np.uint64) * np.uint64(randomness._GOLDEN)

    assert [int(number) for number in randomness._mix(states)] == expected
    assert [randomness._mix_int(int(state)) for state in states] == expected


def test_the_numbers_do_not_change_between_releases():
    # Written down once: another value would change every run that is resumed or repeated.
    expected = [[0.43500798, 0.12708661], [0.65257566, 0.18633214], [0.96184572, 0.81022641]]

    assert uniforms(1, 2, np.arange(3), 3, 2) == pytest.approx(np.array(expected), abs=1e-8)
    assert permutation(1, 0, 10).tolist() == [5, 7, 3, 8, 1, 9, 6, 0, 2, 4]
    assert derive(1, "a", 2) == 4585698418863576161


def test_a_position_gets_its_numbers_in_whatever_company():
    whole = uniforms(7, 3, PLACES, Stream.AUGMENT, 5)
    order = np.random.default_rng(0).permutation(len(PLACES))

    assert (uniforms(7, 3, PLACES[order], Stream.AUGMENT, 5) == whole[order]).all()
    assert (uniforms(7, 3, PLACES[41:42], Stream.AUGMENT, 5) == whole[41:42]).all()
    assert (uniforms(7, 3, PLACES, Stream.AUGMENT, 2) == whole[:, :2]).all()


@pytest.mark.parametrize("other", [(8, 3, 3), (7, 4, 3), (7, 3, 2), (3, 7, 3), (-7, 3, 3)])
def test_another_seed_epoch_or_stream_shares_nothing(other):
    seed, epoch, stream = other
    ours = uniforms(7, 3, PLACES[:1000], 3, 4)
    theirs = uniforms(seed, epoch, PLACES[:1000], stream, 4)

    assert not np.isin(theirs, ours).any()
    assert abs(np.corrcoef(ours.ravel(), theirs.ravel())[0, 1]) < 0.06


def test_the_numbers_are_uniform_and_uncorrelated():
    numbers = uniforms(0, 0, PLACES, Stream.AUGMENT, 6)
    counts = np.stack([np.histogram(column, 20, (0, 1))[0] for column in numbers.T])
    chi_squared = ((counts - 1000) ** 2 / 1000).sum(axis=1)

    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert chi_squared.max() < 50  # 19 degrees of freedom: p < 0.0002
    assert np.abs(np.corrcoef(numbers.T) - np.eye(6)).max() < 0.03
    assert abs(np.corrcoef(numbers[1:, 0], numbers[:-1, 0])[0, 1]) < 0.03


@pytest.mark.parametrize("n", [0, 1, 2, 1000])
def test_a_permutation_holds_each_number_once(n):
    order = permutation(5, 0, n)

    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(n))


def test_permutations_differ_between_epochs_and_seeds():
    orders = {tuple(permutation(seed, epoch, 50)) for seed in range(5) for epoch in range(5)}

    assert len(orders) == 25


def test_a_derived_seed_is_63_bits_and_tells_parts_apart():
    seeds = [
        derive(1),
        derive(2),
        derive(1, 2),
        derive(1, "2"),
        derive(1, "a", "b"),
        derive(1, "ab"),
    ]

    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
