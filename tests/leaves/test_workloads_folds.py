"""Nets of cross-validation side by side: each is the net it would be alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.tolerances import FLOAT32_SUMS

from workloads.datasets.labels import folds_by_class
from workloads.losses import CLASSIFICATION, FOLDED
from workloads.models.families import dense
from workloads.models.folds import Folds
from workloads.models.linen import LinenModel

N, CLASSES = 3, 2
NET = dense({"dense_depth": 1, "dense_width": 4}, CLASSES)


@pytest.mark.parametrize("folds", [2, 5])
def test_folds_differ_by_one_example_at_most_of_every_class_and_in_all(folds):
    numbers = np.repeat([0, 1, 2], [13, 4, 9])
    found = folds_by_class(numbers, 7, folds)
    for own in (numbers >= 0, *(numbers == kind for kind in range(3))):
        counts = np.bincount(found[own], minlength=folds)
        assert counts.max() - counts.min() <= 1
    assert np.array_equal(found, folds_by_class(numbers, 7, folds))
    assert not np.array_equal(found, folds_by_class(numbers, 8, folds))


def test_a_fold_has_the_gradient_of_its_net_alone_on_the_other_folds():
    """d objective / d net n = N / (N - 1) / B sum of d CE_i / d net n over i outside fold n."""
    chance = np.random.default_rng(0)
    inputs, labels = chance.normal(size=(6, 5)).astype(np.float32), np.arange(6) % CLASSES
    folds = np.arange(6) % N
    targets = np.column_stack([labels, folds[:, None] != np.arange(N)])
    places = {"weights": jnp.ones(6), "position": jnp.arange(6)}
    batch = {"inputs": jnp.array(inputs), "targets": jnp.array(targets), **places}
    model, alone = LinenModel(Folds(NET, N)), LinenModel(NET)
    params, state = model.init(jax.random.key(0), batch)
    assert not np.array_equal(*params["net"]["Dense_0"]["kernel"][:2])  # drawn independently

    def objective(params, model, losses, batch):
        outputs, _ = model.apply(params, state, batch, key=None, train=False, hyperparameters={})
        return jnp.sum(losses.objective(outputs, batch, {})[0])

    gradient = jax.jit(jax.grad(objective), static_argnums=(1, 2))
    together = gradient(params, model, FOLDED, batch)["net"]
    for n in range(N):
        outside = {key: value[folds != n] for key, value in batch.items()}
        outside["targets"] = jnp.array(labels[folds != n])
        own = jax.tree.map(lambda x, n=n: x[n], params["net"])
        expected = gradient(own, alone, CLASSIFICATION, outside)
        for found, true in zip(*map(jax.tree.leaves, (together, expected)), strict=True):
            np.testing.assert_allclose(found[n], N / (N - 1) * true, rtol=10 * FLOAT32_SUMS,
                                       atol=FLOAT32_SUMS)  # fmt: skip
