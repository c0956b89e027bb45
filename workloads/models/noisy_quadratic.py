"""The noisy quadratic model (Zhang et al. 2019), sampled; oracles/recursions.py solves it exactly.

Any optimizer can train it. Preconditioned SGD needs no optimizer of its own: SGD on
phi = H^(p/2) theta moves theta by -a H^-p gradient.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from workloads.base import Batch


@dataclasses.dataclass(frozen=True)
class NoisyQuadratic:
    """outputs_i = 1/2 sum_j h_j theta_j^2 + sum_j theta_j noise_ij, h_j = 1/j.

    noise_i ~ N(0, H), one draw f(key, position) per example and step, in training only: the
    gradient of a batch's mean is H theta + N(0, H / B), and an evaluation is the exact loss.

    Attributes:
      dimensions: K.
      power: p of the preconditioner H^p, through the parametrisation.
      dtype, param_dtype: number formats of the loss and of the parameters.
    """

    dimensions: int
    power: float = 0.0
    dtype: str = "float32"
    param_dtype: str = "float32"

    def _eigenvalues(self) -> jax.Array:
        return 1.0 / jnp.arange(1, self.dimensions + 1, dtype=jnp.dtype(self.dtype))

    def init(self, key: jax.Array, batch: Batch) -> tuple[Any, Any]:
        """({"phi": [K]}, {}): theta ~ N(0, I), stored as phi = H^(p/2) theta."""
        del batch
        dtype = jnp.dtype(self.param_dtype)
        theta = jax.random.normal(key, (self.dimensions,), dtype)
        return {"phi": theta * self._eigenvalues().astype(dtype) ** (self.power / 2)}, {}

    def apply(
        self,
        params: Any,
        state: Any,
        batch: Batch,
        *,
        key: Any,
        train: bool,
        hyperparameters: Mapping[str, Any],
    ) -> tuple[Any, Any]:
        """(losses [B], state)."""
        del hyperparameters
        h = self._eigenvalues()
        theta = params["phi"].astype(h.dtype) * h ** (-self.power / 2)
        loss = 0.5 * jnp.sum(h * theta**2)
        examples = batch["position"].shape[0]
        if not train:
            return jnp.full((examples,), loss), state

        def draw(place: jax.Array) -> jax.Array:
            return jax.random.normal(jax.random.fold_in(key, place), h.shape, h.dtype)

        noise = jax.vmap(draw)(batch["position"]) @ (jnp.sqrt(h) * theta)
        return loss + noise, state


def noisy_quadratic(
    dimensions: int = 100,
    power: float = 0.0,
    *,
    dtype: str = "float32",
    param_dtype: str = "float32",
) -> NoisyQuadratic:
    """The model with K = ``dimensions``.

    Raises:
      ValueError: dimensions not a positive whole number, or a power outside [0, 1].
    """
    if not isinstance(dimensions, int) or dimensions < 1:
        raise ValueError(f"dimensions must be a positive whole number, got {dimensions!r}")
    if not 0 <= power <= 1:
        raise ValueError(f"power must lie in [0, 1], got {power!r}")
    return NoisyQuadratic(dimensions, power, dtype, param_dtype)
