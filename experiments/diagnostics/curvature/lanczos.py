"""Lanczos tridiagonalisation and stochastic traces: the one file that knows matfree.

matfree pins no interface between minor versions; whatever it changes is changed here alone.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from matfree import decomp, stochtrace

from experiments.diagnostics.curvature.operators import Operator


class Ritz(NamedTuple):
    """Eigenpairs of the matrix that Lanczos saw.

    Attributes:
      values: [k] ascending; the ends converge first.
      weights: [k] squares of the eigenvectors' first components, the Gauss quadrature weights of
        the start vector (Golub & Welsch 1969); they sum to 1.
      errors: [k] bounds |A y - value y| of the Ritz vectors y.
    """

    values: jax.Array
    weights: jax.Array
    errors: jax.Array


def ritz(operator: Operator, start: jax.Array, order: int) -> Ritz:
    """Lanczos with full reorthogonalisation from ``start`` [n], ``min(order, n)`` products.

    An invariant subspace ends the recursion (the zero matrix does at once): from the first
    off-diagonal entry below eps |T| on, the rows carry no information. They are uncoupled and
    given the first diagonal entry, which lies inside the spectrum, with weight zero.
    """
    k = min(order, start.shape[0])
    found = decomp.tridiag_sym(k, reortho="full")(operator, start)
    matrix = found.J_small
    diagonal, off = jnp.diagonal(matrix), jnp.diagonal(matrix, 1)
    known = jnp.where(jnp.isfinite(diagonal), jnp.abs(diagonal), 0.0)
    scale = jnp.max(known) + jnp.max(jnp.where(jnp.isfinite(off), jnp.abs(off), 0.0), initial=0.0)
    eps = jnp.finfo(matrix.dtype).eps * k
    alive = jnp.isfinite(off) & jnp.isfinite(diagonal[1:]) & (jnp.abs(off) > eps * scale)
    coupled = jnp.concatenate([jnp.ones(1, bool), jnp.cumprod(alive).astype(bool)])
    diagonal = jnp.where(coupled, diagonal, diagonal[0])
    off = jnp.where(coupled[1:], off, 0.0)
    values, vectors = jnp.linalg.eigh(jnp.diag(diagonal) + jnp.diag(off, 1) + jnp.diag(off, -1))
    residual = jnp.linalg.norm(found.residual)
    residual = jnp.where(coupled.all() & jnp.isfinite(residual), residual, 0.0)
    return Ritz(values, vectors[0] ** 2, residual * jnp.abs(vectors[-1]))


class Estimate(NamedTuple):
    """A mean over random probes and its standard error, both []."""

    value: jax.Array
    error: jax.Array


def hutchinson_trace(operator: Operator, like: jax.Array, key: jax.Array, probes: int) -> Estimate:
    """tr A = E v^T A v over random signs v (Hutchinson 1989); ``probes`` products."""
    integrand = stochtrace.monte_carlo_trace()
    sampler = stochtrace.sampler_signs(like, num=probes)
    return Estimate(
        *stochtrace.estimator_monte_carlo_mean_and_sem(integrand, sampler)(operator, key)
    )


def xtrace(operator: Operator, like: jax.Array, key: jax.Array, probes: int) -> Estimate:
    """tr A by XTrace (Epperly, Tropp & Webber 2024): ``2 probes`` products, less variance.

    ``probes`` at most n / 2, or a low-rank part has more directions than there are.
    """
    integrand = stochtrace.leave_one_out_xtrace()
    sampler = stochtrace.sampler_normal(like, num=probes)
    estimate = stochtrace.estimator_leave_one_out_mean_and_sem(integrand, sampler)
    with jax.numpy_rank_promotion("allow"):  # matfree divides a matrix by its columns' norms
        return Estimate(*estimate(operator, key))
