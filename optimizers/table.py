"""The table of optimizers: name, rule, hyperparameters with defaults and search spaces.

The trial budgets at which a hyperparameter joins a default search are the Tuning Playbook's
for Adam (under 10 trials the rate alone; 10 to 25 with beta1; from 25 with epsilon;
"substantially more": with beta2, read here as 50), carried over to the other rules.
"""

from __future__ import annotations

import dataclasses

from optimizers.base import Optimizer
from workloads.registry import Hyperparameter

ALWAYS, SOME, MANY, PLENTY = 0, 10, 25, 50


def _rate(low: float, high: float, default: float | None = None) -> Hyperparameter:
    return Hyperparameter(
        "learning_rate", default, 0.0, 1e6, low_open=True,
        space={"type": "real", "low": low, "high": high, "scale": "log"},
        meaning="peak learning rate",
    )  # fmt: skip


def _decay(
    name: str, default: float, ends: tuple[float, float], meaning: str, searched_from: int
) -> Hyperparameter:
    """A coefficient of an exponential average, searched with 1 - value on a log scale."""
    return Hyperparameter(
        name, default, 0.0, 1.0, high_open=True,
        space={"type": "real", "low": ends[0], "high": ends[1], "scale": "reverse_log"},
        meaning=meaning, searched_from=searched_from,
    )  # fmt: skip


def _positive(
    name: str, default: float, ends: tuple[float, float], meaning: str, searched_from: int
) -> Hyperparameter:
    """A non-negative number, searched on a log scale."""
    return Hyperparameter(
        name, default, 0.0, 1e12,
        space={"type": "real", "low": ends[0], "high": ends[1], "scale": "log"},
        meaning=meaning, searched_from=searched_from,
    )  # fmt: skip


def _epsilon(default: float, low: float = 1e-10, high: float = 1e-3) -> Hyperparameter:
    """Not 0: where a coordinate's gradients have all been 0, 0 / 0 would be its step."""
    row = _positive("epsilon", default, (low, high), "added to the root of the squares", MANY)
    return dataclasses.replace(row, low=1e-30)


def _weight_decay(low: float, high: float, default: float = 0.0) -> Hyperparameter:
    return _positive("weight_decay", default, (low, high), "lambda of the decay term", SOME)


_GRADIENT = "decay of the gradients' average per step"
_SQUARES = "decay of the squared gradients' average per step"
_MOMENTUM = _decay("momentum", 0.9, (0.5, 0.999), "decay of the velocity per step", SOME)
_BETA1 = _decay("beta1", 0.9, (0.5, 0.99), _GRADIENT, SOME)
_BETA2 = _decay("beta2", 0.999, (0.9, 0.9999), _SQUARES, PLENTY)
_BETAS = (_BETA1, _BETA2)
_RHO = Hyperparameter(
    "decay", 0.99, 0.0, 1.0,
    space={"type": "real", "low": 0.9, "high": 0.9999, "scale": "reverse_log"},
    meaning=_SQUARES, searched_from=PLENTY,
)  # fmt: skip
_ADAM = (_rate(1e-4, 3e-1), *_BETAS, _epsilon(1e-8))
_ADAMW = (*_ADAM, _weight_decay(5e-3, 1.0, default=1e-2))
_PLAIN = _rate(1e-3, 10.0)

_FIRST_ORDER = (
    Optimizer("sgd", "optimizers.momentum:sgd", (_PLAIN,), "theta -= eta g"),
    Optimizer(
        "momentum", "optimizers.momentum:momentum", (_PLAIN, _MOMENTUM),
        "v = gamma v + g; theta -= eta v",
    ),
    Optimizer(
        "nesterov", "optimizers.momentum:nesterov", (_PLAIN, _MOMENTUM),
        "v = gamma v + g; theta -= eta (gamma v + g)",
    ),
    Optimizer(
        "corrected_momentum", "optimizers.momentum:corrected_momentum", (_PLAIN, _MOMENTUM),
        "v = gamma (eta / previous eta) v + eta g; theta -= v",
    ),
    Optimizer(
        "cs231n_momentum", "optimizers.cs231n:cs231n_momentum", (_PLAIN, _MOMENTUM),
        "v = mu v - eta g; x += v",
    ),
    Optimizer(
        "cs231n_nesterov", "optimizers.cs231n:cs231n_nesterov", (_PLAIN, _MOMENTUM),
        "v' = mu v - eta g; x += -mu v + (1 + mu) v'",
    ),
)  # fmt: skip

_ADAPTIVE = (
    Optimizer(
        "rmsprop", "optimizers.rmsprop:rmsprop",
        (_rate(1e-4, 1.0), _decay("momentum", 0.9, (0.5, 0.99), "decay of the step buffer", SOME),
         _RHO, _epsilon(1e-8)),
        "v0 = 1; m = gamma m + eta g / sqrt(v + epsilon); theta -= m",
    ),
    Optimizer(
        "adam", "optimizers.adam:adam", _ADAM,
        "theta -= eta m / (sqrt(v) + epsilon) sqrt(1 - beta2^t) / (1 - beta1^t)",
    ),
    Optimizer(
        "nadam", "optimizers.adam:nadam", _ADAM,
        "Adam with beta1 m + (1 - beta1) g in the numerator",
    ),
    Optimizer(
        "optax_adam", "optimizers.adam:optax_adam", _ADAM,
        "theta -= eta m^ / (sqrt(v^) + epsilon), ^ = bias corrected",
    ),
    Optimizer(
        "optax_nadam", "optimizers.adam:optax_nadam", _ADAM,
        "optax_adam with m corrected one step ahead of g",
    ),
    Optimizer(
        "adam_uncorrected", "optimizers.cs231n:adam_uncorrected", _ADAM,
        "x -= eta m / (sqrt(v) + epsilon)",
    ),
    Optimizer(
        "cs231n_adagrad", "optimizers.cs231n:cs231n_adagrad",
        (_rate(1e-4, 1.0), _epsilon(1e-8)), "c += g^2; x -= eta g / (sqrt(c) + epsilon)",
    ),
    Optimizer(
        "cs231n_rmsprop", "optimizers.cs231n:cs231n_rmsprop",
        (_rate(1e-4, 3e-1), _RHO, _epsilon(1e-8)),
        "c = rho c + (1 - rho) g^2; x -= eta g / (sqrt(c) + epsilon)",
    ),
    Optimizer(
        "adamw", "optimizers.adam:adamw", _ADAMW,
        "theta -= eta (optax_adam's direction + lambda theta)",
    ),
    Optimizer(
        "nadamw", "optimizers.adam:nadamw", _ADAMW,
        "theta -= eta (optax_nadam's direction + lambda theta)",
    ),
)  # fmt: skip

_RECENT = (
    Optimizer(
        "lars", "optimizers.layerwise:lars",
        (_rate(1e-2, 1e2), _MOMENTUM, _weight_decay(1e-6, 1e-2),
         _positive("trust_coefficient", 1e-3, (1e-4, 1e-1), "tau, step length over |w|", MANY)),
        "r = tau |w| / (|g| + beta |w|); v = gamma v + eta r (g + beta w); w -= v",
    ),
    Optimizer(
        "lamb", "optimizers.layerwise:lamb",
        (_rate(1e-4, 1.0), *_BETAS, _epsilon(1e-6), _weight_decay(1e-4, 1.0)),
        "w -= eta |w| / |u| u, u = Adam's direction + lambda w",
    ),
    Optimizer(
        "lion", "optimizers.lion:lion",
        (_rate(1e-5, 3e-2), _BETA1, _decay("beta2", 0.99, (0.9, 0.999), _GRADIENT, PLENTY),
         _weight_decay(1e-3, 10.0)),
        "theta -= eta (sign(beta1 m + (1 - beta1) g) + lambda theta)",
    ),
    Optimizer(
        "adafactor", "optimizers.adafactor:adafactor",
        (_rate(1e-4, 1.0),
         Hyperparameter(
            "decay_exponent", 0.8, 0.0, 1.0, low_open=True,
            space={"type": "real", "low": 0.5, "high": 1.0, "scale": "linear"},
            meaning="c of rho_t = 1 - t^(-c)", searched_from=PLENTY)),
        "factored second moment, relative steps, update clipped at rms 1",
    ),
    Optimizer(
        "muon", "optimizers.muon:muon",
        (_rate(1e-4, 1.0), _decay("momentum", 0.95, (0.8, 0.99), _GRADIENT, SOME),
         _weight_decay(1e-3, 1.0),
         _positive("adam_learning_rate_factor", 0.1, (1e-2, 1.0),
                   "rate of vectors over the rate of matrices", MANY)),
        "matrices: w -= eta (orthogonalised momentum + lambda w); others: AdamW",
    ),
    Optimizer(
        "shampoo", "optimizers.shampoo:shampoo",
        (_rate(1e-4, 1.0), _MOMENTUM,
         Hyperparameter(
            "epsilon", 1e-4, 1e-7, 1e6,
            space={"type": "real", "low": 1e-6, "high": 1e-1, "scale": "log"},
            meaning="ridge of a preconditioner over its norm", searched_from=MANY)),
        "W -= eta momentum of L^(-1/4) G R^(-1/4)",
    ),
    Optimizer(
        "soap", "optimizers.soap:soap",
        (_rate(1e-4, 1.0), _decay("beta1", 0.95, (0.5, 0.99), _GRADIENT, SOME),
         _decay("beta2", 0.95, (0.8, 0.999), _SQUARES, PLENTY), _epsilon(1e-8),
         _weight_decay(5e-3, 1.0),
         Hyperparameter("refresh_steps", 10.0, 1.0, 1e9,
                        meaning="steps from one refresh of the eigenbases to the next")),
        "Adam in the eigenbases of Shampoo's L and R",
    ),
)  # fmt: skip

_SCHEDULE_FREE_BETA = Hyperparameter(
    "beta", 0.9, 0.0, 1.0, low_open=True, high_open=True,
    space={"type": "real", "low": 0.5, "high": 0.99, "scale": "reverse_log"},
    meaning="share of the average x in y", searched_from=SOME,
)  # fmt: skip

_SCHEDULE_FREE = (
    Optimizer(
        "schedule_free_sgd", "optimizers.schedule_free:schedule_free_sgd",
        (_PLAIN, _SCHEDULE_FREE_BETA, _weight_decay(1e-6, 1e-2)),
        "SGD on z, gradients at y between z and the average x, evaluation at x",
        evaluation_params="optimizers.schedule_free:evaluation_params",
    ),
    Optimizer(
        "schedule_free_adamw", "optimizers.schedule_free:schedule_free_adamw",
        (_rate(1e-4, 1.0), _SCHEDULE_FREE_BETA, _BETA2, _epsilon(1e-8),
         _weight_decay(5e-3, 1.0)),
        "AdamW without momentum on z, gradients at y, evaluation at x",
        evaluation_params="optimizers.schedule_free:evaluation_params",
    ),
)  # fmt: skip

_UNIT_RATE = Hyperparameter(
    "learning_rate", 1.0, 0.0, 1e6, low_open=True, meaning="length tried first; leave it at 1"
)
_DAMPING = Hyperparameter(
    "damping", 1e-3, 0.0, 1e12,
    space={"type": "real", "low": 1e-6, "high": 10.0, "scale": "log"},
    meaning="lambda added to the Hessian's diagonal",
)  # fmt: skip

_SECOND_ORDER = (
    Optimizer(
        "lbfgs", "optimizers.second_order:lbfgs", (_UNIT_RATE,),
        "theta += a p, p = -H g from 10 pairs, a by a strong Wolfe line search",
        needs_value_fn=True,
    ),
    Optimizer(
        "newton", "optimizers.second_order:newton",
        (dataclasses.replace(_UNIT_RATE, meaning="share of the Newton step; leave it at 1"),
         _DAMPING),
        "theta -= eta (H + lambda I)^(-1) g", needs_value_fn=True, largest_model=4096,
    ),
    Optimizer(
        "hessian_free", "optimizers.second_order:hessian_free",
        (_UNIT_RATE, _DAMPING,
         Hyperparameter("tolerance", 0.01, 0.0, 1.0, low_open=True, high_open=True,
                        meaning="CG stops at this residual over |g|")),
        "(H + lambda I) p = -g by conjugate gradients; theta += a p, a by backtracking",
        needs_value_fn=True,
    ),
)  # fmt: skip

OPTIMIZERS: dict[str, Optimizer] = {
    optimizer.name: optimizer
    for optimizer in (*_FIRST_ORDER, *_ADAPTIVE, *_RECENT, *_SCHEDULE_FREE, *_SECOND_ORDER)
}
