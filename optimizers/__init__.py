"""How a step moves the parameters: hyperparameters -> optax.GradientTransformation."""

from optimizers.base import Hyperparameter, Optimizer

_RATE = Hyperparameter(
    "learning_rate", None, 0.0, 1e6, low_open=True,
    space={"type": "real", "low": 1e-3, "high": 10.0, "scale": "log"},
    meaning="peak learning rate",
)  # fmt: skip
_MOMENTUM = Hyperparameter(
    "momentum", 0.9, 0.0, 1.0, high_open=True,
    space={"type": "real", "low": 0.5, "high": 0.999, "scale": "reverse_log"},
    meaning="decay of the velocity per step",
)  # fmt: skip

OPTIMIZERS: dict[str, Optimizer] = {
    optimizer.name: optimizer
    for optimizer in (
        Optimizer("sgd", "optimizers.momentum:sgd", (_RATE,), "theta -= eta g"),
        Optimizer(
            "momentum", "optimizers.momentum:momentum", (_RATE, _MOMENTUM),
            "v = gamma v + g; theta -= eta v",
        ),
        Optimizer(
            "nesterov", "optimizers.momentum:nesterov", (_RATE, _MOMENTUM),
            "v = gamma v + g; theta -= eta (gamma v + g)",
        ),
    )
}  # fmt: skip
