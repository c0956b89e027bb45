"""The table of clippings: name, rule, hyperparameters with defaults and search spaces."""

from __future__ import annotations

from optimizers.base import Clipping
from workloads.registry import Hyperparameter

_PERCENTILE = Hyperparameter(
    "clip_percentile", 10.0, 0.0, 100.0,
    space={"type": "real", "low": 1.0, "high": 99.0, "scale": "linear"},
    meaning="percentile of past norms, in percent; 100 never clips",
)  # fmt: skip

CLIPPINGS: dict[str, Clipping] = {
    clipping.name: clipping
    for clipping in (
        Clipping("none", "optimizers.clipping:no_clipping", (), "the gradient as it is"),
        Clipping(
            "global_norm", "optimizers.clipping:global_norm",
            (Hyperparameter(
                "clip_threshold", None, 0.0, 1e12, low_open=True,
                space={"type": "real", "low": 1e-2, "high": 1e2, "scale": "log"},
                meaning="largest norm; from a log: its 90th percentile"),),
            "g <- lambda g / |g| where |g| > lambda",
        ),
        Clipping(
            "autoclip", "optimizers.clipping:autoclip", (_PERCENTILE,),
            "global norm at the p-th percentile of all norms so far",
        ),
        Clipping(
            "window_autoclip", "optimizers.clipping:window_autoclip",
            (_PERCENTILE,
             Hyperparameter("clip_window", 256.0, 1.0, 1024.0, meaning="steps remembered")),
            "global norm at the exact p-th percentile of the last W norms",
        ),
        Clipping(
            "agc", "optimizers.clipping:agc",
            (Hyperparameter(
                "clip_ratio", 0.01, 0.0, 1e12, low_open=True,
                space={"type": "real", "low": 1e-2, "high": 0.16, "scale": "log"},
                meaning="lambda, largest norm of a unit's gradient over its weights'"),),
            "each unit's gradient to at most lambda max(|W_i|, 1e-3)",
        ),
    )
}  # fmt: skip
