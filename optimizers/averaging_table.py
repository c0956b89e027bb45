"""The table of weight averagings: name, rule, hyperparameters."""

from __future__ import annotations

from optimizers.base import Averaging
from workloads.registry import Hyperparameter

AVERAGINGS: dict[str, Averaging] = {
    averaging.name: averaging
    for averaging in (
        Averaging("none", "optimizers.averaging:none", (), "the last iterate"),
        Averaging(
            "ema", "optimizers.averaging:ema",
            (Hyperparameter(
                "average_decay", 0.999, 0.0, 1.0, high_open=True,
                space={"type": "real", "low": 0.9, "high": 0.9999, "scale": "reverse_log"},
                meaning="d, decay of the average per step"),),
            "a = d a + (1 - d) theta; value a / (1 - d^t)",
        ),
        Averaging(
            "tail_mean", "optimizers.averaging:tail_mean",
            (Hyperparameter(
                "average_start", 0.0, 0.0, 1e12, meaning="s, steps before the mean begins"),),
            "mean of theta_t over t > s",
        ),
        Averaging(
            "window_mean", "optimizers.averaging:window_mean", (), "mean of the last 5 iterates"
        ),
    )
}  # fmt: skip
