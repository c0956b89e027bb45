"""Every registered workload: it describes itself, its parts resolve, its model meets its data."""

import json

import jax
import jax.numpy as jnp
import pytest

import workloads
from experiments.spec import space
from workloads import datasets
from workloads.registry import resolve

# Shapes of one example's inputs and targets, and the inputs' dtype, by dataset.
EXAMPLES = {
    "cifar10": ((32, 32, 3), (), jnp.uint8),
    "cifar100": ((32, 32, 3), (), jnp.uint8),
    "digits": ((64,), (), jnp.float32),
    "fashion_mnist": ((28, 28, 1), (), jnp.uint8),
    "imagenet": ((256, 256, 3), (), jnp.uint8),
    "lm1b": ((64,), (64,), jnp.uint16),
    "mnist": ((28, 28, 1), (), jnp.uint8),
    "noisy_quadratic": ((1,), (), jnp.float32),
    "synthetic_images": ((32, 32, 3), (), jnp.uint8),
    "synthetic_tokens": ((32,), (32,), jnp.uint16),
    "text": ((64,), (64,), jnp.uint8),
    "timit": ((360,), (), jnp.float32),
}
LOADABLE_HERE = (
    *("digits", "noisy_quadratic", "synthetic_images", "synthetic_tokens"),
    pytest.param("text", marks=pytest.mark.needs("bible")),
)
ALL = pytest.mark.parametrize("name", sorted(workloads.WORKLOADS))


@ALL
def test_names_itself_and_describes_itself_as_json(name):
    workload = workloads.get(name)
    assert workload.name == name
    assert json.loads(json.dumps(workload.describe())) == workload.describe()
    assert workload.dataset in datasets.DATASETS
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
    shape, target_shape, dtype = EXAMPLES[workload.dataset]

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
        "targets": jax.ShapeDtypeStruct((4, *target_shape), jnp.int32),
        "weights": jax.ShapeDtypeStruct((4,), jnp.float32),
        "position": jax.ShapeDtypeStruct((4,), jnp.int32),
    }
    objective, metrics = jax.eval_shape(measure, jax.random.key(0), batch)
    assert workload.goal.metric in metrics
    for total, count in (objective, *metrics.values()):
        assert total.shape == count.shape == (4,)
        assert total.dtype == count.dtype == jnp.float32


@pytest.mark.parametrize("name", LOADABLE_HERE)
def test_datasets_are_as_the_table_says_and_the_same_every_time(name):
    loaded = datasets.load(name)
    shape, target_shape, dtype = EXAMPLES[name]
    assert {split: loaded.size(split) for split in loaded.splits} == datasets.DATASETS[name].sizes
    for arrays in loaded.splits.values():
        assert arrays["inputs"].shape[1:] == shape and arrays["inputs"].dtype == dtype
        assert arrays["targets"].shape[1:] == target_shape
        if loaded.classes:
            assert arrays["targets"].min() >= 0 and arrays["targets"].max() < loaded.classes
    assert datasets.load(name).checksum == loaded.checksum


def test_unknown_workload_lists_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'digits_fc'"):
        workloads.get("digit_fc")
