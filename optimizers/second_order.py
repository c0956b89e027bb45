"""Second-order rules for small models and whole batches: L-BFGS, Newton, Hessian-free Newton-CG.

Their ``update`` needs two extra arguments: ``value``, the loss of the batch at the parameters,
and ``value_fn``, params -> that loss on the same batch. Evaluations are counted in the state.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from optimizers.leafwise import Scalar
from optimizers.norms import largest_of, norm_of, usable_scale

MEMORY = 10
"""Pairs of displacement and gradient change that L-BFGS keeps."""
LINE_SEARCH_STEPS = 20
"""Most trials of a line search."""
SUFFICIENT_DECREASE = 1e-4
"""Armijo's constant: f(w + a p) <= f(w) + 1e-4 a g.p."""
CG_ITERATIONS = 50
"""Most Hessian-vector products of one Newton-CG step."""
PRODUCTS = 32
"""Hessian-vector products that Newton makes together: what the caches and the memory hold."""

Loss = Callable[[Any], jax.Array]


class CountedState(NamedTuple):
    """State of a second-order rule.

    Attributes:
      function_evaluations: shape (), int32: evaluations over the batch so far of the loss, its
        gradient or a Hessian-vector product, the step's own gradient included.
      inner: state of the rule itself; () where it keeps none.
    """

    function_evaluations: jax.Array
    inner: Any


def function_evaluations(state: CountedState) -> jax.Array:
    """Evaluations over the batch so far; a first-order rule makes one a step."""
    return state.function_evaluations


def lbfgs(learning_rate: Scalar) -> optax.GradientTransformationExtraArgs:
    """L-BFGS with a line search that satisfies the strong Wolfe conditions.

        p = -H g,  H from the last 10 pairs (s, y) by the two-loop recursion
        theta <- theta + a eta p,  a from a zoom line search begun at a = 1

    eta = ``learning_rate``, the length of the first trial; leave it at 1.

    Compared: equals ``optax.lbfgs`` with its default line search; ``torch.optim.LBFGS`` has no
    line search unless asked for.
    Reference: Nocedal and Wright 2006, algorithms 7.4, 7.5, 3.5 and 3.6.

    >>> loss = lambda w: jnp.sum((w - 1.0) ** 2)
    >>> rule, w = lbfgs(learning_rate=1.0), jnp.array([3.0, -4.0])
    >>> g = 2.0 * (w - 1.0)
    >>> step, state = rule.update(g, rule.init(w), w, value=loss(w), value_fn=loss)
    >>> bool(loss(w + step) < loss(w)), int(function_evaluations(state)) > 1
    (True, True)
    """
    search = optax.scale_by_zoom_linesearch(
        max_linesearch_steps=LINE_SEARCH_STEPS, initial_guess_strategy="one"
    )
    rule = optax.lbfgs(learning_rate, memory_size=MEMORY, linesearch=search)

    def update(
        gradients: optax.Updates,
        state: CountedState,
        params: optax.Params | None = None,
        *,
        value: jax.Array,
        value_fn: Loss,
        **unused: Any,
    ) -> tuple[optax.Updates, CountedState]:
        del unused
        updates, inner = rule.update(
            gradients, state.inner, params, value=value, grad=gradients, value_fn=value_fn
        )
        trials = inner[-1].info.num_linesearch_steps.astype(jnp.int32)
        count = state.function_evaluations + 1 + trials
        return updates, CountedState(count, _finite_report(inner))

    def init(params: optax.Params) -> Any:
        *direction, search = rule.init(params)
        # Read by no one: the value is an argument of every update.
        return _finite_report((*direction, search._replace(value=jnp.zeros_like(search.value))))

    return _counted(init, update)


def _finite_report(inner: Any) -> Any:
    """The state with the line search's report finite, so that only divergence is not.

    Optax reports an infinite error before the first search and after one that found nothing.
    """
    *direction, search = inner
    info = search.info._replace(
        decrease_error=jnp.nan_to_num(search.info.decrease_error),
        curvature_error=jnp.nan_to_num(search.info.curvature_error),
    )
    return (*direction, search._replace(info=info))


def newton(learning_rate: Scalar, damping: Scalar) -> optax.GradientTransformationExtraArgs:
    """Newton's method with the whole Hessian, of n x n numbers.

        theta <- theta - eta (H + lambda I)^(-1) g

    lambda = ``damping``. Nothing keeps it from a saddle point or a maximum: it seeks a zero of
    the gradient. Each step counts 1 + n evaluations (the Hessian is n Hessian-vector products)
    and solves a system of n equations, so the model may have at most 4,096 parameters.

    Compared: Optax and PyTorch have none.
    Reference: CS231n, neural-networks-3, second order methods; Nocedal and Wright 2006, 3.3.

    >>> loss = lambda w: jnp.sum((w - 1.0) ** 2)
    >>> rule, w = newton(learning_rate=1.0, damping=0.0), jnp.array([3.0, -4.0])
    >>> g = 2.0 * (w - 1.0)
    >>> step, state = rule.update(g, rule.init(w), w, value=loss(w), value_fn=loss)
    >>> print(np.round(w + step, 3), function_evaluations(state))
    [1. 1.] 3
    """

    def update(
        gradients: optax.Updates,
        state: CountedState,
        params: optax.Params | None = None,
        *,
        value_fn: Loss,
        **unused: Any,
    ) -> tuple[optax.Updates, CountedState]:
        del unused
        gradient, unravel = ravel_pytree(gradients)
        point, to_params = ravel_pytree(params)
        product = _hessian_product(lambda w: value_fn(to_params(w)), point)
        identity = jnp.eye(point.size, dtype=point.dtype)
        damped = jax.lax.map(product, identity, batch_size=PRODUCTS) + damping * identity
        direction = unravel(-learning_rate * jnp.linalg.solve(damped, gradient))
        return direction, CountedState(state.function_evaluations + 1 + point.size, ())

    return _counted(lambda _: (), update)


def hessian_free(
    learning_rate: Scalar, damping: Scalar, tolerance: Scalar
) -> optax.GradientTransformationExtraArgs:
    """Newton-CG: the Newton system solved by conjugate gradients, no Hessian formed.

        (H + lambda I) p = -g  until |residual| <= tau |g|, negative curvature, or 50 products
        theta <- theta + a p,  a = eta, eta/2, eta/4, ... until
        f(theta + a p) <= f(theta) + 1e-4 a g.p

    lambda = ``damping``, tau = ``tolerance``, eta = ``learning_rate``; leave it at 1. Where the
    first direction has negative curvature p = -g, so p always descends. Where no a of 20 does,
    the step is zero.

    Compared: Optax and PyTorch have none; Martens 2010 uses the Gauss-Newton matrix, adapts the
    damping and starts each solve at the last one.
    Reference: Nocedal and Wright 2006, algorithm 7.1; Martens 2010.

    >>> loss = lambda w: jnp.sum((w - 1.0) ** 2)
    >>> rule, w = hessian_free(1.0, damping=0.0, tolerance=0.01), jnp.array([3.0, -4.0])
    >>> g = 2.0 * (w - 1.0)
    >>> step, state = rule.update(g, rule.init(w), w, value=loss(w), value_fn=loss)
    >>> print(np.round(w + step, 3))
    [1. 1.]
    """

    def update(
        gradients: optax.Updates,
        state: CountedState,
        params: optax.Params | None = None,
        *,
        value: jax.Array,
        value_fn: Loss,
        **unused: Any,
    ) -> tuple[optax.Updates, CountedState]:
        del unused
        gradient, unravel = ravel_pytree(gradients)
        point, to_params = ravel_pytree(params)

        def loss(w: jax.Array) -> jax.Array:
            return value_fn(to_params(w)).astype(point.dtype)

        def product(v: jax.Array) -> jax.Array:
            return _hessian_product(loss, point)(v) + damping * v

        direction, products = _conjugate_gradients(product, gradient, tolerance)
        length, trials = _backtrack(loss, point, value, gradient @ direction, direction,
                                    first=learning_rate)  # fmt: skip
        count = state.function_evaluations + 1 + products + trials
        return unravel(length * direction), CountedState(count, ())

    return _counted(lambda _: (), update)


def _hessian_product(
    loss: Callable[[jax.Array], jax.Array], point: jax.Array
) -> Callable[[jax.Array], jax.Array]:
    """v [n] -> H v at ``point`` [n], backwards as H^T v: a convolution may know no forward mode."""
    _, pull = jax.vjp(jax.grad(loss), point)
    return lambda v: pull(v)[0]


def _counted(
    init: Callable[[Any], Any], update: Callable[..., Any]
) -> optax.GradientTransformationExtraArgs:
    def start(params: optax.Params) -> CountedState:
        return CountedState(jnp.zeros([], jnp.int32), init(params))

    return optax.GradientTransformationExtraArgs(start, update)


class _Solve(NamedTuple):
    p: jax.Array  # [n] the solution so far
    residual: jax.Array  # [n] of A p + g
    search: jax.Array  # [n] the conjugate direction
    products: jax.Array  # [] int32
    stop: jax.Array  # [] bool, negative curvature met


def _conjugate_gradients(
    product: Callable[[jax.Array], jax.Array], gradient: jax.Array, tolerance: Scalar
) -> tuple[jax.Array, jax.Array]:
    """(p, products): A p = -gradient to |A p + gradient| <= tolerance |gradient|."""
    # Squares of residuals enter below; of a gradient whose largest entry is 1 they are harmless.
    unit = usable_scale(largest_of(gradient))
    scaled = gradient / unit
    limit = tolerance * norm_of(scaled)

    def unfinished(s: _Solve) -> jax.Array:
        # Written so that a NaN goes on: the solution must then be NaN, not the start.
        more = ~(norm_of(s.residual) <= limit) & (s.products < CG_ITERATIONS)
        return more & ~s.stop

    def iterate(s: _Solve) -> _Solve:
        image = product(s.search) / unit
        curvature, square = s.search @ image, s.residual @ s.residual
        bad = curvature <= 0
        step = jnp.where(bad, 0.0, square / jnp.where(bad, 1.0, curvature))
        residual = s.residual + step * image
        search = -residual + residual @ residual / square * s.search
        # Negative curvature in the very first direction: fall back on steepest descent.
        p = jnp.where(bad & (s.products == 0), -gradient, s.p + step * s.search)
        return _Solve(p, residual, search, s.products + 1, bad)

    start = _Solve(jnp.zeros_like(scaled), scaled, -scaled,
                   jnp.zeros([], jnp.int32), jnp.zeros([], bool))  # fmt: skip
    solved = jax.lax.while_loop(unfinished, iterate, start)
    return solved.p, solved.products


def _backtrack(
    loss: Callable[[jax.Array], jax.Array],
    point: jax.Array,
    value: jax.Array,
    slope: jax.Array,
    direction: jax.Array,
    *,
    first: Scalar,
) -> tuple[jax.Array, jax.Array]:
    """(a, trials): the first of ``first / 2^k`` with sufficient decrease; a = 0 if none of 20."""

    def enough(a: jax.Array) -> jax.Array:
        return loss(point + a * direction) <= value + SUFFICIENT_DECREASE * a * slope

    def unfinished(carry: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        _, trials, found = carry
        return ~found & (trials < LINE_SEARCH_STEPS)

    def halve(
        carry: tuple[jax.Array, jax.Array, jax.Array],
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        a, trials, _ = carry
        a = jnp.where(trials == 0, a, a / 2)
        return a, trials + 1, enough(a)

    start = (jnp.asarray(first, point.dtype), jnp.zeros([], jnp.int32), jnp.zeros([], bool))
    a, trials, found = jax.lax.while_loop(unfinished, halve, start)
    return jnp.where(found, a, 0.0), trials
