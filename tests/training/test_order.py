"""The order of examples: a keyed permutation an epoch, computed at any place alone."""

import tracemalloc

import numpy as np
import pytest

from benchmarks.soak import is_permutation
from experiments.training.order import BLOCK, LARGEST, ExampleOrder, permuted

KEY = 0x0123456789ABCDEF
CHI_SQUARE_QUANTILE = 3.7
"""Standard normal quantile of 1 - 1e-4: with fixed seeds a test that passes once passes always."""


def chi_square(counts, expected):
    """Wilson and Hilferty's standard normal deviate of Pearson's statistic."""
    freedom = counts.size - 1
    statistic = np.sum((counts - expected) ** 2 / expected)
    spread = 2 / (9 * freedom)
    return float(((statistic / freedom) ** (1 / 3) - 1 + spread) / spread**0.5)


def test_it_is_one_permutation_an_epoch_however_it_is_taken():
    whole = ExampleOrder(3, 5, 100).take(350)
    assert whole.dtype == np.int32
    for epoch in range(3):
        assert sorted(whole[100 * epoch : 100 * (epoch + 1)]) == list(range(100))
    assert whole[:100].tolist() != whole[100:200].tolist()
    for size in (1, 7, 64, 100, 256):
        order = ExampleOrder(3, 5, 100)
        pieces = np.concatenate([order.take(size) for _ in range(-(-350 // size))])
        assert pieces[:350].tolist() == whole.tolist()
    resumed = ExampleOrder(3, 5, 100, epoch=2, offset=37)
    assert resumed.take(50).tolist() == whole[237:287].tolist()
    assert (resumed.epoch, resumed.offset) == (2, 87)
    for other in (ExampleOrder(3, 6, 100), ExampleOrder(4, 5, 100)):
        assert other.take(100).tolist() != whole[:100].tolist()
    # Frozen: a change here changes every recorded study.
    assert whole[:6].tolist() == FROZEN_ORDER


FROZEN_ORDER = [55, 90, 89, 7, 96, 65]


@pytest.mark.parametrize("examples", [BLOCK - 1, BLOCK + 1, 1_281_167, 30_301_028])
def test_a_place_far_away_is_computed_alone(examples):
    """Across blocks and an epoch's end: what is taken is what each place says."""
    start = examples - 7
    taken = ExampleOrder(1, 2, examples, epoch=9, offset=start).take(20)
    order = ExampleOrder(1, 2, examples)
    for i, number in enumerate(taken.tolist()):
        epoch, offset = divmod(9 * examples + start + i, examples)
        order.move(epoch, offset)
        assert order.take(1)[0] == number


def test_every_size_to_2000_gives_a_bijection():
    for size in range(1, 2001):
        images = permuted(KEY, np.arange(size % 3, size % 3 + 2), np.arange(size), size)
        assert images.shape == (2, size)
        assert (np.sort(images, axis=1) == np.arange(size)).all(), size


def test_two_hundred_sizes_to_a_hundred_thousand_give_a_bijection():
    """Evenly spaced sizes, with the squares and what lies beside them among the last."""
    sizes = [*np.linspace(2001, 100_000, 182).astype(int)]
    sizes += [
        root * root + beside for root in (50, 91, 128, 200, 256, 316) for beside in (-1, 0, 1)
    ]
    assert len(set(sizes)) == 200
    for size in sizes:
        assert is_permutation(int(size), KEY, epoch=0), size


@pytest.mark.parametrize("size", [2, 3, 5, 7, 10, 12, 30])
def test_places_and_pairs_are_uniform(size):
    """Over 40,000 epochs: every place's image, and the images of two places together."""
    epochs = 40_000
    images = permuted(KEY, np.arange(epochs), np.arange(size), size).astype(np.int64)
    for place in range(size):
        counts = np.bincount(images[:, place], minlength=size)
        assert chi_square(counts, epochs / size) < CHI_SQUARE_QUANTILE, place
    different = ~np.eye(size, dtype=bool)
    for one, other in ((0, 1), (0, size - 1), (size // 2, size - 1)):
        if one == other or size == 2:
            continue
        pairs = np.bincount(images[:, one] * size + images[:, other], minlength=size * size)
        pairs = pairs.reshape(size, size)
        assert not np.diag(pairs).any()
        deviate = chi_square(pairs[different], epochs / (size * (size - 1)))
        assert deviate < CHI_SQUARE_QUANTILE, (one, other)


@pytest.mark.parametrize("size", [1437, 60_000, 1_281_167, 30_301_028])
def test_neighbours_of_a_large_set_are_independent(size):
    """(image of i, image of i + d), each in 16 classes, over 200,000 places of one epoch; and the
    images of one place in two epochs, or in trials whose keys differ by a bit."""
    places = np.arange(min(size - 128, 200_000))

    def classes(key, epoch, shift):
        images = permuted(key, np.array([epoch]), places + shift, size)[0]
        return images.astype(np.int64) * 16 // size

    here = classes(KEY, 0, 0)
    for other in (
        classes(KEY, 0, 1),
        classes(KEY, 0, 2),
        classes(KEY, 0, 64),
        classes(KEY, 1, 0),
        classes(KEY, 2, 0),
        classes(KEY ^ 1, 0, 0),
        classes(KEY ^ 1 << 63, 0, 0),
    ):
        counts = np.bincount(here * 16 + other, minlength=256)
        # Sixteenths of ``size`` are whole numbers of examples only nearly: below 1 % of a class.
        assert chi_square(counts, len(places) / 256) < CHI_SQUARE_QUANTILE


def test_memory_does_not_grow_with_the_training_set():
    tracemalloc.start()
    order = ExampleOrder(0, 0, 30_301_028, epoch=3, offset=17_000_000)
    order.take(1 << 16)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 << 20


@pytest.mark.parametrize("examples", [0, -1, LARGEST + 1])
def test_a_size_that_int32_cannot_count_is_refused(examples):
    with pytest.raises(ValueError, match=f"examples must lie in .*, got {examples}"):
        ExampleOrder(0, 0, examples)
