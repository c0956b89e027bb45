"""Every registered workload: it describes itself, its parts resolve, its model meets its data."""

import json

import jax
import jax.numpy as jnp
import pytest

import workloads
import workloads.datasets
from experiments import space
from workloads.base import resolve

# Shape and dtype of one example's inputs, by dataset.
EXAMPLES = {
    "digits": ((64,), jnp.float32),
    "fashion_mnist": ((28, 28, 1), jnp.uint8),
    "noisy_quadratic": ((1,), jnp.float32),
}
ALL = pytest.mark.parametrize("name", sorted(workloads.WORKLOADS))


@ALL
def test_names_itself_and_describes_itself_as_json(name):
    workload = workloads.get(name)
    assert workload.name == name
    assert json.loads(json.dumps(workload.describe())) == workload.describe()
    assert workload.dataset in workloads.datasets.DATASETS
    assert workload.note


@ALL
def test_search_spaces_are_legal(name):
    for ranges in workloads.get(name).search_spaces.values():
        assert ranges
        for data in ranges.values():
            space.from_json(data)


@ALL
def test_model_losses_and_goal_fit_together(name):
    """One training step's loss by shape evaluation, at full size, from stored examples."""
    workload = workloads.get(name)
    model, losses = resolve(workload.model)(**workload.model_options), resolve(workload.losses)
    shape, dtype = EXAMPLES[workload.dataset]

    def measure(key, batch):
        if workload.preprocess:
            batch = resolve(workload.preprocess)(batch, key, True)
        params, state = model.init(key, batch)
        hyperparameters = dict(workload.hyperparameters)
        outputs, _ = model.apply(
            params, state, batch, key=key, train=True, hyperparameters=hyperparameters
        )
        objective = losses.objective(outputs, batch, hyperparameters)
        return objective, losses.metrics(outputs, batch)

    batch = {
        "inputs": jax.ShapeDtypeStruct((4, *shape), dtype),
        "targets": jax.ShapeDtypeStruct((4,), jnp.int32),
        "weights": jax.ShapeDtypeStruct((4,), jnp.float32),
        "position": jax.ShapeDtypeStruct((4,), jnp.int32),
    }
    objective, metrics = jax.eval_shape(measure, jax.random.key(0), batch)
    assert workload.goal.metric in metrics
    for total, count in (objective, *metrics.values()):
        assert total.shape == count.shape == (4,)
        assert total.dtype == count.dtype == jnp.float32


def test_unknown_workload_lists_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'digits_fc'"):
        workloads.get("digit_fc")
