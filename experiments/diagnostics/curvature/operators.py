"""Products of a curvature matrix with a vector, without the matrix: memory of a few gradients.

With the mean loss L(theta) = sum_i w_i l_i / sum_i w_i c_i of `Problem`,

- `hessian`: v -> H v, the derivative of the gradient along v (forward over reverse,
  Pearlmutter 1994; reverse over reverse where forward mode is refused);
- `gauss_newton`: v -> G v, G = sum_i w_i J_i^T (d2 l_i / d outputs2) J_i / sum_i w_i c_i
  (Schraudolph 2002), positive semi-definite where the loss is convex in the outputs;
- `preconditioned`: v -> D^-1/2 A D^-1/2 v, similar to D^-1 A and symmetric;
- `block`: A restricted to some of the parameters.

Vectors are flat, [n] in the order of `jax.flatten_util.ravel_pytree`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.diagnostics.problem import Chunk, Outputs, Params, Problem, flat

Operator = Callable[[jax.Array], jax.Array]
"""A symmetric matrix [n, n] as its product with a vector [n]."""


def hessian(problem: Problem, params: Params) -> Operator:
    """v [n] -> H v [n], the Hessian of the mean loss; two gradients' time a product."""
    count, forwards = problem.count(params), _forwards(problem, params)
    _, unflat = flat(params)

    def product(vector: jax.Array) -> jax.Array:
        direction = unflat(vector)

        def of(chunk: Chunk) -> Params:
            def gradient(p: Params) -> Params:
                return jax.grad(lambda q: problem.sums(problem.outputs(q, chunk), chunk)[0])(p)

            if forwards:
                return jax.jvp(gradient, (params,), (direction,))[1]
            return jax.vjp(gradient, params)[1](direction)[0]  # H^T = H

        return flat(problem.summed(of))[0] / count.astype(vector.dtype)

    return product


def gauss_newton(problem: Problem, params: Params) -> Operator:
    """v [n] -> G v [n], the generalised Gauss-Newton matrix of the mean loss."""
    count, forwards = problem.count(params), _forwards(problem, params)
    _, unflat = flat(params)

    def product(vector: jax.Array) -> jax.Array:
        direction = unflat(vector)

        def of(chunk: Chunk) -> Params:
            def outputs(p: Params) -> Outputs:
                return problem.outputs(p, chunk)

            found, pull = jax.vjp(outputs, params)
            pushed = _along(outputs, params, direction, forwards=forwards)

            def gradient(out: Outputs) -> Outputs:
                return jax.grad(lambda o: problem.sums(o, chunk)[0])(out)

            return pull(jax.jvp(gradient, (found,), (pushed,))[1])[0]

        return flat(problem.summed(of))[0] / count.astype(vector.dtype)

    return product


def _along(function: Callable[[Any], Any], point: Any, direction: Any, *, forwards: bool) -> Any:
    """J v of ``function`` at ``point``; without forward mode as the transpose of u -> J^T u."""
    if forwards:
        return jax.jvp(function, (point,), (direction,))[1]
    found, pull = jax.vjp(function, point)
    return jax.vjp(lambda u: pull(u)[0], jax.tree.map(jnp.zeros_like, found))[1](direction)[0]


def _forwards(problem: Problem, params: Params) -> bool:
    """Tell whether the model has forward mode: convolutions of `workloads.models.convolution`
    have a reverse rule alone."""
    chunk = jax.tree.map(lambda x: x[0], problem.chunks)
    return "custom_vjp" not in str(jax.make_jaxpr(problem.outputs)(params, chunk))


def preconditioned(operator: Operator, diagonal: jax.Array) -> Operator:
    """v -> D^-1/2 A D^-1/2 v for a positive diagonal D [n].

    Its eigenvalues are those of D^-1 A, by which an optimizer that divides its step by D (Adam:
    D = sqrt(v) + epsilon) moves: they take the place of the Hessian's in its stability bound.
    """
    scale = 1 / jnp.sqrt(diagonal)
    return lambda vector: scale * operator(scale * vector)


def block(operator: Operator, inside: np.ndarray) -> Operator:
    """A restricted to the m coordinates where ``inside`` [n] is True: v [m] -> A_mm v [m]."""
    at = np.flatnonzero(inside)

    def product(vector: jax.Array) -> jax.Array:
        whole = jnp.zeros(inside.shape, vector.dtype).at[at].set(vector)
        return operator(whole)[at]

    return product
