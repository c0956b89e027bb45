"""What CS231n and the playbook ask of any model, over the table of all families."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from workloads_families import FAMILIES, objective

ROWS = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)


def start(family, dtype="float32", examples=20):
    model, batch = family.make(dtype, dtype), family.batch(examples)
    return model, batch, *jax.jit(model.init)(jax.random.key(0), batch)


@ROWS
def test_starts_at_chance_and_memorises_twenty_examples(family):
    model, batch, params, state = start(family)
    optimizer = optax.adam(family.learning_rate)

    def step(_, carry):
        params, state, moments = carry
        loss = lambda p: objective(family, model, p, state, batch, train=True)
        gradient, state = jax.grad(loss, has_aux=True)(params)
        updates, moments = optimizer.update(gradient, moments)
        return optax.apply_updates(params, updates), state, moments

    @jax.jit
    def train(steps, carry):
        carry = jax.lax.fori_loop(0, steps, step, carry)
        return carry, objective(family, model, carry[0], carry[1], batch, train=True)[0]

    carry, before = train(0, (params, state, optimizer.init(params)))
    assert abs(float(before) - math.log(family.classes)) < family.initial_tolerance
    _, after = train(family.steps, carry)
    assert float(after) < 0.02


@ROWS
def test_gradient_equals_central_differences_in_float64(family):
    """Along a random direction of every tensor; CS231n: relative error below 1e-4 is safe for
    nets with kinks, and 1e-6 is what smooth ones reach in float64."""
    with jax.enable_x64(True):
        model, batch, params, state = start(family, "float64", examples=3)
        batch = {k: v.astype(np.float64) if v.dtype == np.float32 else v for k, v in batch.items()}
        # At a generic point: zero biases sit on ReLU's kink.
        leaves, tree = jax.tree.flatten(params)
        random = np.random.default_rng(1)
        leaves = [leaf + 0.05 * random.normal(size=leaf.shape) for leaf in leaves]
        loss = lambda leaves: objective(
            family, model, jax.tree.unflatten(tree, leaves), state, batch, train=True
        )[0]
        both = jax.jit(jax.value_and_grad(loss))
        gradients = both(leaves)[1]
        assert all(gradient.dtype == jnp.float64 for gradient in gradients)
        for place, gradient in enumerate(gradients):
            direction = random.normal(size=gradient.shape)
            direction /= np.linalg.norm(direction)

            def shifted(h, place=place, direction=direction):
                moved = [*leaves]
                moved[place] = moved[place] + h * direction
                return float(both(moved)[0])

            numeric = (shifted(1e-6) - shifted(-1e-6)) / 2e-6
            exact = float(jnp.vdot(gradient, direction))
            scale = max(abs(numeric), abs(exact), 1e-3)
            assert abs(numeric - exact) / scale < 1e-4, f"tensor {place} of {tree}"


@ROWS
def test_evaluation_ignores_the_other_examples_of_the_batch(family):
    model, batch, params, state = start(family, examples=4)
    run = jax.jit(
        lambda b: model.apply(params, state, b, key=None, train=False, hyperparameters={})[0]
    )
    changed = {**batch, "inputs": batch["inputs"].copy()}
    changed["inputs"][1:] = changed["inputs"][1:][::-1]
    np.testing.assert_allclose(run(batch)[0], run(changed)[0], rtol=1e-5, atol=1e-6)
